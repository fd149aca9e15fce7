"""Clipped inverse propensity score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from bandits.arrays import F64
from offline_eval.estimators.base import Form
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.shrunk import Shrunk, powers


@dataclass(frozen=True)
class CIPS(Shrunk, IPS):
    """mean(min(w, lam) r).

    Ionides 2008, "Truncated importance sampling"; Bottou et al. 2013, "Counterfactual reasoning and learning systems".
    Assumes what IPS does.
    Bias -E[(w - lam)+ r]: too low where rewards are positive. Variance (E[min(w, lam)^2 r^2] - E[min(w, lam) r]^2) / n,
    at most lam E[w r^2] / n.
    """

    kind: ClassVar[str] = "cips"
    form: ClassVar[Form] = "clipped"

    def shrink(self, weight: F64) -> F64:
        return np.minimum(weight, self.strength)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        return [cls(lam) for lam in powers(1.0, largest_weight)]
