"""Doubly robust with pessimistic shrinkage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bandits.arrays import F64
from offline_eval.estimators.dr import DR
from offline_eval.estimators.shrunk import Shrunk, powers


@dataclass(frozen=True)
class DRps(Shrunk, DR):
    """mean(q(x, pi) + min(w, lam) (r - q(x, a))); lam = 0 is DM.

    Su, Dimakopoulou, Krishnamurthy & Dudik 2020, "Doubly robust off-policy evaluation with shrinkage", DRps:
    the s that minimises a bound on the error for any model.
    Bias -E[(w - lam)+ (r - q)]. Variance as DR's with min(w, lam) in place of w.
    """

    kind: ClassVar[str] = "drps"

    def shrink(self, weight: F64) -> F64:
        return np.minimum(weight, self.strength)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        return [cls(0.0), *(cls(lam) for lam in powers(1.0, largest_weight))]
