"""What an estimator is: three numbers a round, from whose additive moments value and variance follow."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.rounds import Rounds

Need = Literal["target", "logging", "embedding", "balanced", "uniform"]
Form = Literal["weighted", "clipped", "residual", "model"]
"""weighted: base 0, weights of mean 1; clipped: base 0, weights of any mean; residual: a model's value plus a
weighted correction; model: a model's value alone."""


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of an estimate, one row per round: base + weight * error.

    base    float64 (n,)  what a reward model says of the round; 0 without one
    weight  float64 (n,)  weight of the correction
    error   float64 (n,)  reward, less what the model says of the logged action
    """

    base: F64
    weight: F64
    error: F64

    def columns(self) -> F64:
        """base, weight and weight * error, float64 (3, n)."""
        return np.stack([self.base, self.weight, self.weight * self.error])


@dataclass(frozen=True)
class Estimator:
    """Base of all estimators: a frozen dataclass whose fields are its parameters.

    kind             name on the command line
    form             what kind of terms it has; decides which intervals hold for it
    self_normalised  whether the correction is divided by the mean weight and not by 1
    model            the reward model it reads, if any
    needs            what else it reads of the log or the target
    """

    kind: ClassVar[str]
    form: ClassVar[Form]
    self_normalised: ClassVar[bool] = False
    model: ClassVar[Literal["plain", "mrdr"] | None] = None
    needs: ClassVar[frozenset[Need]] = frozenset()

    def split(self, rounds: Rounds) -> Split:
        """The parts of each round."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Name with its parameters, such as switch-dr(lam=5.3)."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        given = ",".join(f"{name}={value:g}" for name, value in values.items() if value is not None)
        return f"{self.kind}({given})" if given else self.kind

    def largest_weight(self, importance: float) -> float:
        """The largest weight in its splits where no importance weight is above `importance`."""
        return importance

    def value(self, moments: Moments) -> float:
        """The estimate, from moments of the columns of its splits; NaN without rounds or, self-normalised, weight."""
        if moments.n == 0:
            return float("nan")
        base, weight, correction = moments.mean.tolist()
        if not self.self_normalised:
            return float(base + correction)
        return float(base + correction / weight) if weight else float("nan")

    def gradient(self, moments: Moments) -> F64:
        """How the estimate moves with the mean of z = (1, base, weight, weight * error), centred; float64 (4,).

        The delta method: the estimate's influence function is gradient . z, of mean 0.
        """
        base, weight, correction = moments.mean.tolist()
        if not self.self_normalised:
            return np.array([-(base + correction), 1.0, 0.0, 1.0])
        ratio = correction / weight if weight else 0.0
        scale = 1.0 / weight if weight else 0.0
        return np.array([-base, 1.0, -ratio * scale, scale])

    def variance(self, moments: Moments) -> float:
        """Variance of the estimate, rounds independent."""
        return moments.variance_of(self.gradient(moments))

    def terms(self, rounds: Rounds, moments: Moments) -> F64:
        """Per-round terms whose mean (weighted by count) is the estimate, float64 (n,)."""
        split = self.split(rounds)
        weight = float(moments.mean[1])
        scale = 1.0 if not self.self_normalised else 1.0 / weight if weight else float("nan")
        terms: F64 = split.base + split.weight * split.error * scale
        return terms
