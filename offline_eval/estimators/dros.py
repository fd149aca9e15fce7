"""Doubly robust with optimistic shrinkage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from bandits.arrays import F64
from offline_eval.estimators.dr import DR
from offline_eval.estimators.shrunk import Shrunk, powers

NONE = 1e12
"""Times the square of the largest weight: a lambda that shrinks nothing, and a number that JSON has."""


@dataclass(frozen=True)
class DRos(Shrunk, DR):
    """mean(q(x, pi) + s(w) (r - q(x, a))), s(w) = lam w / (w^2 + lam); lam = 0 is DM, infinity DR.

    Su, Dimakopoulou, Krishnamurthy & Dudik 2020, "Doubly robust off-policy evaluation with shrinkage", DRos:
    the s that minimises a bound on the error for a model of weighted squared error.
    Bias -E[w^3 / (w^2 + lam) (r - q)]. Variance as DR's with s(w) <= sqrt(lam) / 2 in place of w.
    """

    kind: ClassVar[str] = "dros"

    def shrink(self, weight: F64) -> F64:
        lam = self.strength
        if math.isinf(lam):
            return weight
        shrunk: F64 = weight * lam / (weight**2 + lam) if lam else weight * 0.0
        return shrunk

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        most = max(largest_weight, 1.0)
        return [cls(0.0), *(cls(root**2) for root in powers(1.0, 4.0 * most)), cls(NONE * most**2)]
