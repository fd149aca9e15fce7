"""A running quantile of positive numbers in a fixed amount of memory."""

from __future__ import annotations

import math

import numpy as np

LEAST = 1e-12
GROWTH = 1.002


class RunningQuantile:
    """Quantiles of numbers capped at `most`, never above the exact one and at most 0.2 % below it.

    Numbers are counted in bins whose edges grow by 0.2 %; what lies at or above `most`, infinity too, is `most`.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._step = math.log(GROWTH)
        self._bins = 1 + max(0, math.ceil(math.log(most / LEAST) / self._step))
        self._count = np.zeros(self._bins + 1, np.int64)
        self._n = 0

    def add(self, value: float) -> None:
        """Take in a number > 0, infinity too."""
        self._n += 1
        if value >= self._most:
            self._count[-1] += 1
        else:
            at = int(math.log(max(value, LEAST) / LEAST) / self._step)
            self._count[min(at, self._bins - 1)] += 1

    def at(self, q: float) -> float:
        """The smallest number below or at which a share of at least q lies; `most` before the first number."""
        if not self._n:
            return self._most
        wanted = max(1, math.ceil(q * self._n))
        found = int(np.searchsorted(np.cumsum(self._count), wanted))
        return self._most if found == self._bins else float(min(LEAST * GROWTH**found, self._most))
