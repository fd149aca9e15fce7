"""What sg-ips and sg-dr share: sub-Gaussian weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from bandits.arrays import F64
from offline_eval.estimators.shrunk import Shrunk, powers


@dataclass(frozen=True)
class SubGaussian(Shrunk):
    """s(w) = w / (1 - lam + lam w), lam in [0, 1]: Metelli, Russo & Restelli 2021; 0 leaves every weight."""

    @classmethod
    def range(cls) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def mildness(self) -> float:
        return -self.strength

    def shrink(self, weight: F64) -> F64:
        return harmonic(weight, self.strength)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        return [cls(1.0 / inverse) for inverse in powers(1.0, max(4.0 * largest_weight, 2.0))] + [cls(0.0)]


def harmonic(weight: F64, lam: float) -> F64:
    """w / (1 - lam + lam w); 0 for no weight."""
    below = 1.0 - lam + lam * weight
    return np.divide(weight, below, out=np.zeros_like(weight), where=below > 0)
