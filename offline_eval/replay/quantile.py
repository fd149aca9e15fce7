"""A running quantile of positive numbers in a fixed amount of memory."""

from __future__ import annotations

import math

import numpy as np

from bandits.kernels.running import LEAST, STEP, count_value, quantile


class RunningQuantile:
    """Quantiles of numbers capped at `most`, never above the exact one and at most 0.2 % below it.

    Numbers are counted in bins whose edges grow by 0.2 %; what lies at or above `most`, infinity too, is `most`.

    count  int64 (bins,)
    n      numbers
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.count = np.zeros(2 + max(0, math.ceil(math.log(most / LEAST) / STEP)), np.int64)
        self.n = 0

    def add(self, value: float) -> None:
        """Take in a number > 0, infinity too."""
        self.n += 1
        count_value(value, self.most, self.count)

    def at(self, q: float) -> float:
        """The smallest number below or at which a share of at least q lies; `most` before the first number."""
        return float(quantile(q, self.n, self.most, self.count))
