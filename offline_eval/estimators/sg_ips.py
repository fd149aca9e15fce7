"""Sub-Gaussian inverse propensity score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offline_eval.estimators.base import Form
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.sub_gaussian import SubGaussian


@dataclass(frozen=True)
class SubGaussianIPS(SubGaussian, IPS):
    """mean(s(w) r), s(w) = w / (1 - lam + lam w), lam in [0, 1]: 0 is IPS, 1 counts every w > 0 as 1.

    Metelli, Russo & Restelli 2021, "Subgaussian and differentiable importance sampling for off-policy evaluation and
    learning", the harmonic power mean (s = -1) of w and 1. Assumes what IPS does.
    Bias -E[lam w (w - 1) / (1 - lam + lam w) r], of order lam; unlike other shrinkage, weights below 1 grow.
    Variance at most E[s(w)^2 r^2] / n, and s(w) <= 1 / lam: tails like a Gaussian's for lam of order n^-1/2.
    """

    kind: ClassVar[str] = "sg-ips"
    form: ClassVar[Form] = "clipped"
