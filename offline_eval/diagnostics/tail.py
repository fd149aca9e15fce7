"""Shape of the weights' tail."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np

from bandits.arrays import F64
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds

MAX_KEPT = 32_768
LEAST_DISTINCT = 5
"""Values in a tail that has a shape to speak of."""


@dataclass
class Tail:
    """The largest weights of n rounds.

    kept  float64 (<= 32,768,)  the largest, unordered
    """

    n: int = 0
    kept: F64 = field(default_factory=lambda: np.empty(0))

    def add(self, weight: F64) -> None:
        """Take in the weights of a batch."""
        self._take(weight, len(weight))

    def merge(self, other: Tail) -> None:
        """Take in the rounds of another."""
        self._take(other.kept, other.n)

    def _take(self, weight: F64, n: int) -> None:
        self.n += n
        if len(self.kept) >= MAX_KEPT:
            weight = weight[weight > self.kept.min()]
        kept = np.concatenate([self.kept, weight])
        self.kept = kept if len(kept) <= MAX_KEPT else np.partition(kept, len(kept) - MAX_KEPT)[-MAX_KEPT:]

    @property
    def k(self) -> float:
        """Pareto's k of the largest min(n / 5, 3 sqrt(n)) weights (Vehtari et al. 2024, "Pareto smoothed importance
        sampling", section 2.4): the mean exists below 1, the variance below 1/2. 0 where the tail takes fewer than
        five values, as under deterministic policies on uniform logs: such weights are bounded by what was seen.
        """
        size = min(ceil(min(self.n / 5.0, 3.0 * sqrt(self.n))), len(self.kept) - 1)
        if size < LEAST_DISTINCT:
            return 0.0
        largest = np.sort(self.kept)[-(size + 1) :]
        beyond = largest[1:] - largest[0]
        beyond = beyond[beyond > 1e-12 * largest[-1]]
        if len(np.unique(beyond)) < LEAST_DISTINCT:
            return 0.0
        return pareto_shape(beyond)

    def findings(self, limits: Thresholds) -> list[Finding]:
        """Whether the tail is so heavy that errors are not those of a normal distribution."""
        k = self.k
        said = f"Pareto k {k:.2f}"
        if k > limits.pareto_warn:
            doubt = f"{said}, above {limits.pareto_warn:g}: larger weights than the log shows decide the value; prefer "
            return [Finding("tail of the weights", Level.WARN, doubt + "clipped or doubly robust estimators")]
        return [Finding("tail of the weights", Level.OK, said)]


def pareto_shape(beyond: F64) -> float:
    """k of the generalised Pareto distribution of exceedances > 0, float64 (m,).

    Zhang & Stephens 2009, "A new and efficient estimation method for the generalized Pareto distribution", eqs. 6-9:
    the posterior mean of b = -k / sigma over a grid (k > 0: heavy, the sign of Vehtari et al.); then drawn to 1/2 as if
    by ten observations (Vehtari et al. 2024, appendix C).
    """
    x = np.sort(beyond)
    m = len(x)
    grid = 30 + int(sqrt(m))
    j = np.arange(1, grid + 1) - 0.5
    quartile = x[int(m / 4.0 + 0.5) - 1]
    b = 1.0 / x[-1] + (1.0 - np.sqrt(grid / j)) / (3.0 * quartile)
    b = b[b != 0.0]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    likelihood = m * (np.log(-b / k) - k - 1.0)
    share = np.exp(likelihood - likelihood.max())
    mean = float(b @ share / share.sum())
    return float((m * np.log1p(-mean * x).mean() + 5.0) / (m + 10.0))
