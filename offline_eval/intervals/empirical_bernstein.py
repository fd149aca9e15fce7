"""Empirical Bernstein interval."""

from __future__ import annotations

import math

import numpy as np

from offline_eval.estimators.base import Estimator
from offline_eval.intervals.base import Evidence, Interval
from offline_eval.intervals.reach import (
    Independent,
    Reach,
    clipped,
    leaves_out,
    named,
    term_range,
    unknown,
    value_range,
)

RESIDUAL = "takes the reward model's predictions to lie within the range of rewards"


class EmpiricalBernstein:
    """mean +- (sqrt(2 V ln(4 / alpha) / n) + 7 (b - a) ln(4 / alpha) / (3 (n - 1))).

    Maurer & Pontil 2009, "Empirical Bernstein bounds and sample variance penalization", theorem 4, for each end at
    alpha / 2. Holds at every n for independent terms in [a, b], V their sample variance. a and b follow from w_max and
    the range of rewards as they are known beforehand, never from the sample. Wide where w_max is: the second part is
    of order w_max / n.
    Clusters: n is divided by the design effect, which keeps the coverage only approximately.
    """

    name = "empirical-bernstein"

    def holds_for(self, estimator: Estimator) -> bool:
        """For means; a ratio is none."""
        return not estimator.self_normalised

    def interval(self, evidence: Evidence, alpha: float, seed: int = 0) -> Interval:
        """No randomness: the seed is not read."""
        influence = evidence.estimator.gradient(evidence.moments)
        independent = Independent.of(evidence, influence)
        method = named(self.name, independent.note)
        if independent.n <= 1:
            return unknown(evidence, method, "one independent round says nothing of the spread")
        reach = Reach.of(evidence)
        variance = max(float(influence @ evidence.moments.first @ influence), 0.0) / evidence.moments.count
        half = half_width(
            variance, independent.n, term_range(evidence.estimator.form, reach.weight, reach.reward), alpha
        )
        low, high = clipped(evidence.value - half, evidence.value + half, value_range(evidence))
        return Interval(low, high, method, (*reach.flags, *_remarks(evidence)))


def half_width(variance: float, n: float, limits: tuple[float, float], alpha: float) -> float:
    """Of a two-sided interval; variance has n in its denominator, limits hold every term."""
    log = math.log(4.0 / alpha)
    return float(np.sqrt(2.0 * variance * log / (n - 1)) + 7.0 * (limits[1] - limits[0]) * log / (3.0 * (n - 1)))


def _remarks(evidence: Evidence) -> tuple[str, ...]:
    predictions = (RESIDUAL,) if evidence.estimator.form == "residual" else ()
    clustered = () if evidence.clusters is None else ("clusters: approximate",)
    return (*leaves_out(evidence), *predictions, *clustered)
