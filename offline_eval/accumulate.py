"""What one pass over a log adds up, shard by shard, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.comparison import Comparison
from offline_eval.diagnostics import Diagnosis
from offline_eval.estimators import Estimator, Shrunk
from offline_eval.estimators.base import Split
from offline_eval.formats.chunk import Ids
from offline_eval.intervals.base import Clusters
from offline_eval.plan import N_BLOCKS, Plan
from offline_eval.report.pictures import Pictures
from offline_eval.rounds import Rounds

COLUMNS = 3
"""base, weight and weight * error."""


@dataclass
class Sums:
    """Of one estimator: moments of all rounds, by cluster, and by stretch of time."""

    moments: Moments = field(default_factory=lambda: Moments.zero(COLUMNS))
    clusters: Clusters | None = None
    blocks: dict[int, Moments] = field(default_factory=dict)

    def add(
        self,
        split: Split,
        count: F64 | None,
        cluster: NDArray[np.uint64] | None,
        block: NDArray[np.intp] | None,
    ) -> None:
        """Take in a batch."""
        columns = split.columns()
        self.moments.add(columns, count)
        if cluster is not None:
            z = np.concatenate([np.ones((1, columns.shape[1])), columns])
            self._join(Clusters.of(cluster, (z if count is None else z * count).T))
        if block is not None:
            for one in np.unique(block).tolist():
                rows = block == one
                part = self.blocks.setdefault(one, Moments.zero(COLUMNS))
                part.add(columns[:, rows], None if count is None else count[rows])

    def merge(self, other: Sums) -> None:
        """Take in the rounds of another."""
        self.moments.merge(other.moments)
        if other.clusters is not None:
            self._join(other.clusters)
        for one, moments in other.blocks.items():
            self.blocks.setdefault(one, Moments.zero(COLUMNS)).merge(moments)

    def _join(self, clusters: Clusters) -> None:
        self.clusters = clusters if self.clusters is None else self.clusters.merge(clusters)

    @property
    def in_time(self) -> list[Moments]:
        """The stretches in their order, empty ones left out."""
        return [self.blocks[one] for one in sorted(self.blocks)]


@dataclass(frozen=True)
class Logged(Estimator):
    """Mean reward of the log itself."""

    kind = "logged"
    form = "weighted"

    def split(self, rounds: Rounds) -> Split:
        n = len(rounds)
        return Split(np.zeros(n), np.ones(n), rounds.log.reward)


@dataclass
class Accumulator:
    """Everything that is known of a log and a target, of a size that does not grow with the log. Picklable.

    members       estimators, families replaced by their members
    sums          of each member
    baseline      of the logged rewards
    diagnosis     of the weights and propensities
    largest_ratio largest target / logging over all actions of rows whose whole distribution is known
    unknown       rows whose whole distribution is not
    largest_target   largest probability of the target, 1 where some of it was not made
    comparison    with a second target, where one was asked for
    """

    members: Sequence[Estimator]
    diagnosis: Diagnosis
    pictures: Pictures | None = None
    sums: list[Sums] = field(default_factory=list)
    baseline: Sums = field(default_factory=Sums)
    largest_ratio: float = 0.0
    largest_target: float = 0.0
    unknown: int = 0
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        self.sums = self.sums or [Sums() for _ in self.members]

    def of(self, member: Estimator) -> Moments:
        """Of one of the members."""
        return self.sums[list(self.members).index(member)].moments

    def add(
        self,
        rounds: Rounds,
        segments: Mapping[str, Ids],
        cluster: NDArray[np.uint64] | None = None,
        block: NDArray[np.intp] | None = None,
        place: Callable[[int], str] | None = None,
        second: Rounds | None = None,
    ) -> None:
        """Take in a batch.

        second   the same rounds beside the target that this one is compared with
        cluster  uint64 (n,)  user or group of each round, None: not kept
        block    intp (n,)    stretch of time of each round, None: not kept
        place    names a row of the batch; None: by its number
        """
        count = rounds.log.count
        for estimator, sums in zip(self.members, self.sums, strict=True):
            sums.add(estimator.split(rounds), count, cluster, block)
        self.baseline.add(Logged().split(rounds), count, cluster, block)
        self.diagnosis.add(rounds, segments, place)
        if self.pictures is not None:
            self.pictures.add(rounds, segments)
        if self.comparison is not None and second is not None:
            self.comparison.add(rounds, second, segments, cluster, place)
        self._add_ratio(rounds)

    def _add_ratio(self, rounds: Rounds) -> None:
        logging, target = rounds.log.logging, rounds.target
        self.largest_target = max(self.largest_target, 1.0 if target is None else float(target.max(initial=0.0)))
        if logging is None or target is None:
            self.unknown += len(rounds)
            return
        self.unknown += int(np.isnan(logging[:, 0]).sum())
        # What logging never takes is for the diagnosis to tell; no weight of a logged action comes of it.
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(logging > 0, target / logging, 0.0)
        self.largest_ratio = max(self.largest_ratio, float(ratio.max(initial=0.0)))

    def merge(self, other: Accumulator) -> None:
        """Take in the rounds of another."""
        for sums, others in zip(self.sums, other.sums, strict=True):
            sums.merge(others)
        self.baseline.merge(other.baseline)
        self.diagnosis.merge(other.diagnosis)
        if self.pictures is not None and other.pictures is not None:
            self.pictures.merge(other.pictures)
        if self.comparison is not None and other.comparison is not None:
            self.comparison.merge(other.comparison)
        self.largest_ratio = max(self.largest_ratio, other.largest_ratio)
        self.largest_target = max(self.largest_target, other.largest_target)
        self.unknown += other.unknown


def expand(plan: Plan, largest_weight: float, n: int) -> list[Estimator]:
    """The estimators asked for, each family replaced by its members."""
    members: list[Estimator] = []
    for one in plan.estimators:
        members += one.grid(largest_weight, n) if isinstance(one, Shrunk) and one.is_family else [one]
    return list(dict.fromkeys(members))


def blocks_of_time(timestamp: NDArray[np.int64], first: int, last: int) -> NDArray[np.intp]:
    """Which of N_BLOCKS equal stretches of [first, last] each time lies in, intp (n,)."""
    width = max((last - first) / N_BLOCKS, 1e-9)
    return np.clip(((timestamp - first) / width).astype(np.intp), 0, N_BLOCKS - 1)


def blocks_of_rows(row: NDArray[np.int64], n: int) -> NDArray[np.intp]:
    """The same by the number of a row among n."""
    return np.clip(row * N_BLOCKS // max(n, 1), 0, N_BLOCKS - 1).astype(np.intp)
