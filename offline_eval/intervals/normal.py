"""Normal interval of a mean or, by the delta method, of a ratio of means."""

from __future__ import annotations

import numpy as np
from scipy import special

from offline_eval.estimators.base import Estimator
from offline_eval.intervals.base import Evidence, Interval
from offline_eval.intervals.reach import Reach, is_model_alone, leaves_out, named, term_range, unknown

MIN_ESS = 100.0
MIN_CLUSTERS = 40
LARGEST_STEP = 0.32
"""Of one round, in standard errors: that of one success more where there are 10."""


class Normal:
    """value +- t(1 - alpha / 2) standard errors, with n - 1 degrees of freedom, or clusters - 1.

    Central limit theorem; for self-normalised estimators the delta method (Owen 2013, "Monte Carlo theory, methods and
    examples", eq. 9.8); for users with many rounds the cluster-robust variance (Liang & Zeger 1986).
    Assumes that no single round matters (Lindeberg). Heavy weights break that, most of all where none of them was
    drawn: at n = 2,000 and w_max 510 a nominal 95 % covers 23 %. Whatever speaks against it is flagged, see `doubts`.
    """

    name = "normal"

    def holds_for(self, estimator: Estimator) -> bool:
        """For every form; a model's own value only, where there is no correction."""
        return True

    def interval(self, evidence: Evidence, alpha: float, seed: int = 0) -> Interval:
        """No randomness: the seed is not read."""
        delta = "delta method" if evidence.estimator.self_normalised else ""
        method = named(self.name, delta, "clustered" if evidence.clusters is not None else "")
        units = evidence.moments.effective_n if evidence.clusters is None else float(len(evidence.clusters.key))
        if units <= 1:
            what = "round" if evidence.clusters is None else "cluster"
            return unknown(evidence, method, f"one {what} says nothing of the spread")
        half = float(special.stdtrit(units - 1, 1 - alpha / 2)) * evidence.standard_error
        return Interval(evidence.value - half, evidence.value + half, method, doubts(evidence), is_narrow(evidence))


def doubts(evidence: Evidence) -> tuple[str, ...]:
    """Why an interval that trusts the sample's own variance may be too narrow.

    Beside ESS, which looks at the weights that were drawn: what a round of weight w_max, drawn or not, would change.
    """
    found = [*leaves_out(evidence)]
    if is_model_alone(evidence):
        return tuple(found)
    if evidence.ess < MIN_ESS:
        found.append(f"low ess: {evidence.ess:.3g} is below {MIN_ESS:g}, too narrow an interval")
    if (step := _step(evidence)) > LARGEST_STEP * evidence.standard_error:
        errors = step / evidence.standard_error if evidence.standard_error else np.inf
        found.append(f"one round can move it by {errors:.2g} standard errors (w_max), too narrow an interval")
    if evidence.clusters is not None and len(evidence.clusters.key) < MIN_CLUSTERS:
        found.append(f"few clusters: {len(evidence.clusters.key)} are below {MIN_CLUSTERS}, too narrow an interval")
    return tuple(found)


def is_narrow(evidence: Evidence) -> bool:
    """Whether the sample is too thin for its own variance to be believed: low ESS, or one round weighs a whole standard
    error; a model's own value always, whose error no interval shows."""
    if is_model_alone(evidence):
        return True
    return evidence.ess < MIN_ESS or _step(evidence) > evidence.standard_error


def _step(evidence: Evidence) -> float:
    """How far one round of the largest weight and of an extreme reward moves the value."""
    reach = Reach.of(evidence)
    terms = term_range(evidence.estimator.form, reach.weight, reach.reward)
    whole = evidence.estimator.form == "residual" or evidence.estimator.self_normalised
    return (reach.weight * reach.width if whole else terms[1] - terms[0]) / evidence.moments.count
