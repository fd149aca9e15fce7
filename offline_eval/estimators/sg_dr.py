"""Sub-Gaussian doubly robust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from bandits.arrays import F64
from offline_eval.estimators.dr import DR
from offline_eval.estimators.shrunk import Shrunk, powers, sub_gaussian


@dataclass(frozen=True)
class SubGaussianDR(Shrunk, DR):
    """mean(q(x, pi) + s(w) (r - q(x, a))), s(w) = w / (1 - lam + lam w), lam in [0, 1]: 0 is DR.

    Metelli, Russo & Restelli 2021, the weights of sg-ips in DR. Assumes what DR does.
    Bias -E[lam w (w - 1) / (1 - lam + lam w) (r - q)], of order lam times the model's error. Variance as DR's with
    s(w) <= 1 / lam in place of w.
    """

    kind: ClassVar[str] = "sg-dr"

    @classmethod
    def range(cls) -> tuple[float, float]:
        return 0.0, 1.0

    @property
    def mildness(self) -> float:
        return -self.strength

    def shrink(self, weight: F64) -> F64:
        return sub_gaussian(weight, self.strength)

    @classmethod
    def grid(cls, largest_weight: float, n: int) -> Sequence[Self]:
        return [cls(1.0 / inverse) for inverse in powers(1.0, max(4.0 * largest_weight, 2.0))] + [cls(0.0)]
