"""Sub-Gaussian doubly robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offline_eval.estimators.dr import DR
from offline_eval.estimators.sub_gaussian import SubGaussian


@dataclass(frozen=True)
class SubGaussianDR(SubGaussian, DR):
    """mean(q(x, pi) + s(w) (r - q(x, a))), s(w) = w / (1 - lam + lam w), lam in [0, 1]: 0 is DR.

    Metelli, Russo & Restelli 2021, the weights of sg-ips in DR. Assumes what DR does.
    Bias -E[lam w (w - 1) / (1 - lam + lam w) (r - q)], of order lam times the model's error. Variance as DR's with
    s(w) <= 1 / lam in place of w.
    """

    kind: ClassVar[str] = "sg-dr"
