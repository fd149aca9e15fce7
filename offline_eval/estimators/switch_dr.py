"""Switch doubly robust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bandits.arrays import F64
from offline_eval.estimators.dr import DR
from offline_eval.estimators.shrunk import Shrunk, powers


@dataclass(frozen=True)
class SwitchDR(Shrunk, DR):
    """mean(q(x, pi) + w 1{w <= lam} (r - q(x, a))): the model alone where weights are large; lam = 0 is DM.

    Wang, Agarwal & Dudik 2017, "Optimal and adaptive off-policy evaluation in contextual bandits".
    Bias -E[w 1{w > lam} (r - q)]: the model's error on the large weights. Variance as DR's with only the weights up to
    lam, the correction's part at most lam E[w (r - q)^2] / n.
    """

    kind: ClassVar[str] = "switch-dr"

    def shrink(self, weight: F64) -> F64:
        return np.where(weight <= self.strength, weight, 0.0)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        return [cls(0.0), *(cls(lam) for lam in powers(1.0, largest_weight))]
