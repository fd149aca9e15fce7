"""What the plots of a report are drawn from: sums of bounded size that shards of a log add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bandits.arrays import F64
from offline_eval.formats.chunk import Ids
from offline_eval.report.bins import HIGHEST, LOWEST, PER_DECADE, Bins, WideningBins
from offline_eval.rounds import Rounds

MOST_SHOWN = 50
MOST_CATEGORIES = 4096
"""Of one segment; beyond, it is no segment but an id, and is dropped."""

MISSING = "(missing)"
OTHER = "other"


class Moment(NamedTuple):
    """The estimate from the first n rounds in the order of time.

    time       microseconds UTC, or None where the log has no clock
    n          rounds so far
    low, high  the confidence sequence there
    """

    time: int | None
    n: int
    value: float
    low: float
    high: float


class Overlap(NamedTuple):
    """How well the log covers the target within one category."""

    name: str
    n: int
    ess: float
    mean_weight: float
    standard_error: float
    max_weight: float


@dataclass
class Segment:
    """Per category: rounds, sum of counts c, of c w, of c w**2, of (c w)**2, and the largest weight."""

    categories: dict[str, F64] = field(default_factory=dict)
    overflowed: bool = False

    def add(self, ids: Ids, weight: F64, count: F64) -> None:
        """Take in rounds: their categories, weights (n,) and counts (n,)."""
        if self.overflowed:
            return
        code = np.asarray(ids.code) + 1
        size = len(ids.names) + 1
        columns = (np.ones(len(code)), count, count * weight, count * weight**2, (count * weight) ** 2)
        sums = np.stack([np.bincount(code, column, size) for column in columns], axis=1).astype(np.float64)
        largest = np.zeros(size)
        np.maximum.at(largest, code, weight)
        for i in np.flatnonzero(sums[:, 0]).tolist():
            name = MISSING if i == 0 else str(ids.names[i - 1])
            self._take(name, np.append(sums[i], largest[i]))
        self._bound()

    def merge(self, other: Segment) -> None:
        """Take in the rounds of another."""
        self.overflowed |= other.overflowed
        for name, sums in other.categories.items():
            self._take(name, sums)
        self._bound()

    def _take(self, name: str, sums: F64) -> None:
        known = self.categories.get(name)
        self.categories[name] = sums.copy() if known is None else _joined(known, sums)

    def _bound(self) -> None:
        if self.overflowed or len(self.categories) > MOST_CATEGORIES:
            self.overflowed = True
            self.categories.clear()

    def overlap(self) -> list[Overlap]:
        """The 50 largest categories and, last, all others as one; none where there are too many to be segments."""
        ordered = sorted(self.categories.items(), key=lambda one: (-one[1][0], one[0]))
        shown, rest = ordered[:MOST_SHOWN], ordered[MOST_SHOWN:]
        if rest:
            total = rest[0][1]
            for _, sums in rest[1:]:
                total = _joined(total, sums)
            shown.append((f"{OTHER} ({len(rest)})", total))
        return [_overlap(name, sums) for name, sums in shown]


def _joined(first: F64, second: F64) -> F64:
    return np.append(first[:-1] + second[:-1], max(first[-1], second[-1]))


def _overlap(name: str, sums: F64) -> Overlap:
    n, count, weight, weight_sq, counted_sq, largest = sums.tolist()
    mean = weight / count
    spread = max(weight_sq / count - mean**2, 0.0)
    ess = weight**2 / counted_sq if counted_sq else 0.0
    return Overlap(name, int(n), ess, mean, float(np.sqrt(spread / n)), largest)


@dataclass
class Pictures:
    """Accumulated over the rounds of a log; its size does not grow with them. Picklable.

    weights       rounds and c w by weight, in fixed logarithmic bins with one for 0
    segments      by name, how well each category is covered
    calibration   c, c q, c r and c r**2 by the reward q predicted for the logged action; empty without a model
    propensities  by logged probability, over all actions of all rounds whose distribution is known: pairs (c), sum of
                  c p, of c where chosen, of c**2 p (1 - p)
    unknown       rounds whose whole distribution is not known
    timeline      set by whoever orders the log by time, once all is merged; neither added nor merged
    timeline_of   what the timeline shows: estimator and interval
    """

    rounds: int = 0
    weights: Bins = field(default_factory=lambda: Bins.empty(LOWEST, HIGHEST, PER_DECADE, 2))
    largest: float = 0.0
    segments: dict[str, Segment] = field(default_factory=dict)
    calibration: WideningBins = field(default_factory=lambda: WideningBins(columns=4))
    propensities: Bins = field(default_factory=lambda: Bins.empty(-6, 0, 4, 4))
    unknown: int = 0
    timeline: Sequence[Moment] = ()
    timeline_of: str = ""

    def add(self, rounds: Rounds, segments: Mapping[str, Ids] | None = None) -> None:
        """Take in a batch, and by name the categories of its rounds."""
        if not len(rounds):
            return
        log = rounds.log
        count = np.ones(len(rounds)) if log.count is None else log.count
        weight = rounds.weight
        self.rounds += len(rounds)
        self.largest = max(self.largest, float(weight.max()))
        self.weights.add(weight, (count, count * weight))
        for name, ids in (segments or {}).items():
            self.segments.setdefault(name, Segment()).add(ids, weight, count)
        if "plain" in rounds.models:
            predicted = rounds.model_of_action("plain")
            reward = log.reward
            self.calibration.add(predicted, (count, count * predicted, count * reward, count * reward**2))
        self._add_propensities(rounds, count)

    def _add_propensities(self, rounds: Rounds, count: F64) -> None:
        logging = rounds.log.logging
        if logging is None:
            self.unknown += len(rounds)
            return
        known = ~np.isnan(logging[:, 0])
        self.unknown += int((~known).sum())
        rows = np.flatnonzero(known)
        p = logging[rows]
        chosen = np.zeros(p.shape)
        chosen[np.arange(len(rows)), rounds.log.action[rows]] = count[rows]
        c = np.broadcast_to(count[rows, None], p.shape)
        columns = (c, c * p, chosen, c**2 * p * (1 - p))
        # 1 itself falls into the last bin below the highest edge, where it belongs.
        self.propensities.add(np.minimum(p, 1 - 1e-12).ravel(), tuple(column.ravel() for column in columns))

    def merge(self, other: Pictures) -> None:
        """Take in the rounds of another."""
        self.rounds += other.rounds
        self.unknown += other.unknown
        self.largest = max(self.largest, other.largest)
        self.weights.merge(other.weights)
        for name, segment in other.segments.items():
            self.segments.setdefault(name, Segment()).merge(segment)
        self.calibration.merge(other.calibration)
        self.propensities.merge(other.propensities)
