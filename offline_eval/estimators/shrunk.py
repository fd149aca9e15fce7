"""Estimators with a lambda: importance weights made smaller, some bias for less variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from bandits.arrays import F64
from offline_eval.estimators.base import Estimator, Split
from offline_eval.rounds import Rounds

MEMBERS = 12
"""At most so many in a grid; neighbours differ by a factor of two or more."""


@dataclass(frozen=True)
class Shrunk(Estimator):
    """An estimator that puts s(w) in place of w, 0 <= s(w) <= w.

    lam  how much; None: the whole family, from whose members selection.select chooses on the log

    With e = r, or r - q(x, a) where there is a model: bias -E[(w - s(w)) e], at most E[w - s(w)] max |e|;
    n times the variance is that of (base +) s(w) e, so the second moment of s(w) e takes the place of that of w e.
    Raises ValueError for a lambda out of range.
    """

    lam: float | None = None

    def __post_init__(self) -> None:
        if self.lam is None:
            return
        if isinstance(self.lam, bool) or not isinstance(self.lam, (int, float, np.number)):
            raise ValueError(f"{self.kind}: lam must be a number, got {self.lam!r}")
        low, high = self.range()
        if not low <= self.lam <= high:
            raise ValueError(f"{self.kind}: lam must lie in [{low:g}, {high:g}], got {self.lam:g}")
        object.__setattr__(self, "lam", float(self.lam))

    @classmethod
    def range(cls) -> tuple[float, float]:
        """Smallest and largest lambda that mean something."""
        return 0.0, math.inf

    @property
    def is_family(self) -> bool:
        """Whether lambda is still to be chosen."""
        return self.lam is None

    @property
    def strength(self) -> float:
        """Lambda. Raises ValueError where it is still to be chosen."""
        if self.lam is None:
            raise ValueError(
                f"{self.kind}: lam is not chosen yet; give one, or choose one of grid() with selection.select"
            )
        return self.lam

    @property
    def mildness(self) -> float:
        """Grows as the weights are shrunk less: orders a family from the most biased to the least."""
        return self.strength

    def shrink(self, weight: F64) -> F64:
        """s(w), float64 (n,)."""
        raise NotImplementedError

    def largest_weight(self, importance: float) -> float:
        """Of s(w) for w up to importance: there, at lambda or at its root, where some families peak."""
        peaks = [min(importance, peak) for peak in (importance, self.strength, self.strength**0.5)]
        return float(self.shrink(np.array(peaks)).max())

    def split(self, rounds: Rounds) -> Split:
        whole = super().split(rounds)
        return Split(whole.base, self.shrink(whole.weight), whole.error)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        """Members to choose from for a log of n rounds: bias falls along it, the last one leaves every weight."""
        raise NotImplementedError


def powers(low: float, high: float) -> list[float]:
    """At most MEMBERS numbers from low to high, neighbours a constant factor of two or more apart where they can be."""
    if not low < high:
        return [high]
    steps = max(1, min(MEMBERS - 1, math.floor(math.log2(high / low))))
    return [*(float(low * (high / low) ** (i / steps)) for i in range(steps)), high]
