"""Confidence sequence: an interval that holds at every moment of a growing log at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from bandits.confidence_sequence import LowerEnd
from bandits.moments import Moments
from offline_eval.estimators.base import Estimator
from offline_eval.intervals.base import Evidence, Interval
from offline_eval.intervals.reach import Reach, clipped, leaves_out, term_range, unknown, value_range

Step = tuple[int, float, float]
"""Rounds so far, low, high."""


class ConfidenceSequence:
    """Lower confidence sequences of x = w (r - low) and of x = w (high - r), both >= 0, each at alpha / 2.

    Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2022 (see bandits.confidence_sequence); Karampatziakis, Mineiro &
    Ramdas 2021, "Off-policy confidence sequences". As E w = 1, E x is the target's value measured from one end of the
    range of rewards. Valid without any bound on w, and with logging policies that learn; w_max tunes it only.
    Clipped and residual forms: terms (doubly robust pseudo-outcomes) bounded through w_max, measured from their own
    ends. Computed from moments of consecutive stretches of the log, so shards of it merge.
    Wider than an interval for one n; the price of looking whenever one likes.
    """

    name = "confseq"

    def holds_for(self, estimator: Estimator) -> bool:
        """For weighted rewards, self-normalised or not (it is the target's value that it covers), and for means."""
        return estimator.form == "weighted" or not estimator.self_normalised

    def interval(self, evidence: Evidence, alpha: float, seed: int = 0) -> Interval:
        """No randomness: the seed is not read."""
        steps = path(evidence, alpha)
        if not steps:
            return unknown(evidence, self.name, "no rounds")
        _, low, high = steps[-1]
        flags = _remarks(evidence)
        if low > high:
            flags = ("its intervals have no value in common: the target's value drifts", *flags)
            low, high = high, low
        return Interval(low, high, self.name, flags)


def path(evidence: Evidence, alpha: float) -> list[Step]:
    """The sequence after each block of the log: running intersections, empty (low > high) where the value drifts."""
    reach = Reach.of(evidence)
    lower, upper = _sides(evidence, reach)
    ends = [LowerEnd(alpha / 2, side.largest) for side in (lower, upper)]
    steps: list[Step] = []
    rounds = 0
    for block in evidence.blocks or [evidence.moments]:
        if block.n == 0:
            continue
        rounds += block.n
        low = lower.origin + lower.unit * ends[0].add(*_sums(block, lower.x))
        high = upper.origin - upper.unit * ends[1].add(*_sums(block, upper.x))
        steps.append((rounds, *clipped(low, high, value_range(evidence))))
    return steps


@dataclass(frozen=True, slots=True)
class _Side:
    """A number x >= 0 of a round whose mean is at most 1, from which one end follows.

    x        float64 (4,)  on z = (1, base, weight, weight * error)
    origin   the value at which its mean is 0
    unit     what a mean of 1 is in units of the value
    largest  x at most
    """

    x: F64
    origin: float
    unit: float
    largest: float


def _sides(evidence: Evidence, reach: Reach) -> tuple[_Side, _Side]:
    """Of the low and of the high end."""
    low, high = reach.reward
    if evidence.estimator.form == "weighted":
        unit = reach.width or 1.0
        return (
            _Side(np.array([0.0, 0.0, -low, 1.0]) / unit, low, unit, reach.weight),
            _Side(np.array([0.0, 0.0, high, -1.0]) / unit, high, unit, reach.weight),
        )
    least, most = term_range(evidence.estimator.form, reach.weight, reach.reward)
    floor, ceiling = value_range(evidence)
    up, down = (ceiling - least) or 1.0, (most - floor) or 1.0
    return (
        _Side(np.array([-least, 1.0, 0.0, 1.0]) / up, least, up, (most - least) / up),
        _Side(np.array([most, -1.0, 0.0, -1.0]) / down, most, down, (most - least) / down),
    )


def _sums(block: Moments, x: F64) -> tuple[float, float, float]:
    """Rounds, sum of x and sum of x^2 of a block, rounds that count for several scaled to their effective number."""
    n = block.effective_n
    scale = n / block.count
    return n, max(float(block.first[0] @ x), 0.0) * scale, max(float(x @ block.first @ x), 0.0) * scale


def _remarks(evidence: Evidence) -> tuple[str, ...]:
    """What keeps it from being exact."""
    form, remarks = evidence.estimator.form, list(evidence.bounds.assumed)
    if form == "weighted":
        remarks = [text for text in remarks if not text.startswith("w_max")]
    remarks += leaves_out(evidence)
    if form == "residual":
        remarks.append("a cross-fitted model has seen later rounds: anytime-valid only approximately")
    if not evidence.blocks:
        remarks.append("the log was taken as one block")
    if evidence.clusters is not None:
        remarks.append("takes the rounds of a cluster as independent")
    return tuple(remarks)
