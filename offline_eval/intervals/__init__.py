"""Intervals of off-policy evaluation, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from offline_eval.intervals.base import Bounds, Clusters, Evidence, Interval, IntervalMethod
from offline_eval.intervals.bootstrap import Bootstrap
from offline_eval.intervals.confseq import ConfidenceSequence
from offline_eval.intervals.cressie_read import CressieRead
from offline_eval.intervals.empirical_bernstein import EmpiricalBernstein
from offline_eval.intervals.normal import Normal
from offline_eval.intervals.reach import unknown

__all__ = ["METHODS", "Bounds", "Clusters", "Evidence", "Interval", "IntervalMethod", "interval"]

METHODS: Mapping[str, IntervalMethod] = MappingProxyType(
    {one.name: one for one in (Normal(), Bootstrap(), EmpiricalBernstein(), CressieRead(), ConfidenceSequence())}
)
DEFAULT = "cressie-read"
UNBOUNDED = ("normal", "bootstrap")
"""Methods that need no bounds."""


def interval(asked: str, evidence: Evidence, alpha: float = 0.05, seed: int = 0) -> Interval:
    """An interval of coverage 1 - alpha by the method asked for, or, where it does not hold, the normal one.

    Of which a flag says why, except in place of the default, whose normal interval for DR forms is what is documented.

    Without rounds, or without any weight on what the target would do, all that can be.
    Raises ValueError for an unknown method or an alpha outside (0, 1).
    """
    if asked not in METHODS:
        raise ValueError(f"interval must be one of {', '.join(METHODS)}, got {asked!r}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    estimator, moments = evidence.estimator, evidence.moments
    if moments.n == 0:
        return unknown(evidence, asked, "no rounds")
    if estimator.form in ("weighted", "clipped") and moments.first[0, 2] == 0.0:
        return unknown(evidence, asked, "no weight: the log never takes what the target would")
    if why := _objection(asked, evidence):
        normal = METHODS["normal"].interval(evidence, alpha, seed)
        expected = asked == DEFAULT and not METHODS[asked].holds_for(estimator)
        return normal if expected else replace(normal, flags=(why, *normal.flags))
    return _told_apart(METHODS[asked].interval(evidence, alpha, seed), evidence)


def _told_apart(made: Interval, evidence: Evidence) -> Interval:
    """Flagged where the value lies beside its interval, as IPS does where the weights' mean is far from 1."""
    value = evidence.value
    if not np.isfinite(value) or made.low <= value <= made.high:
        return made
    mean = float(evidence.moments.mean[1])
    said = (
        f"the value lies outside: the interval knows that weights average 1, here they average {mean:.4g}; read snips"
    )
    return replace(made, flags=(*made.flags, said))


def _objection(asked: str, evidence: Evidence) -> str:
    """Why the method asked for cannot be used, or nothing."""
    if not METHODS[asked].holds_for(evidence.estimator):
        return f"{asked} does not hold for this form of estimator"
    bounds = evidence.bounds
    if asked not in UNBOUNDED and not np.isfinite([bounds.largest_weight, *bounds.reward]).all():
        return f"{asked} needs a finite w_max and range of rewards"
    return ""
