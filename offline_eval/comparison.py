"""A second target on the same rounds: its diagnosis, and how far the first is ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from offline_eval.diagnostics import Diagnosis, Finding
from offline_eval.diagnostics.finding import Names
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.estimators.base import Estimator
from offline_eval.formats.chunk import Ids
from offline_eval.intervals.paired import PairedMoments
from offline_eval.result import Estimate
from offline_eval.rounds import Rounds

OF_A_TARGET = ("effective sample size", "largest weight", "tail of the weights", "few rewards", "unsupported actions")
"""Findings about a policy, not about the log."""


@dataclass
class Comparison:
    """Of a size that does not grow with the log. Picklable.

    members    estimators, families replaced by their members; each is asked of both targets
    diagnosis  of the second target
    clustered  whether the rounds of a user count as dependent
    pairs      of each member
    """

    members: Sequence[Estimator]
    diagnosis: Diagnosis
    clustered: bool = False
    pairs: list[PairedMoments] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = self.pairs or [PairedMoments(one, one) for one in self.members]

    def add(
        self,
        first: Rounds,
        second: Rounds,
        segments: Mapping[str, Ids],
        cluster: NDArray[np.uint64] | None,
        place: Callable[[int], str] | None,
    ) -> None:
        """Take in a batch beside both targets; cluster, uint64 (n,): read where clustered."""
        user = cluster if self.clustered else None
        for estimator, pair in zip(self.members, self.pairs, strict=True):
            pair.add(estimator.split(first), estimator.split(second), first.log.count, user)
        self.diagnosis.add(second, segments, place)

    def merge(self, other: Comparison) -> None:
        """Take in the rounds of another."""
        for pair, others in zip(self.pairs, other.pairs, strict=True):
            pair.merge(others)
        self.diagnosis.merge(other.diagnosis)

    def difference(self, key: str, member: Estimator, alpha: float) -> Estimate:
        """The first target's value less the second's, under the key."""
        pair = self.pairs[list(self.members).index(member)]
        return replace(pair.difference(alpha), estimator=key)

    def findings(self, limits: Thresholds, name: Names) -> list[Finding]:
        """What the log says of the second target, beyond what it says of itself."""
        made = self.diagnosis.findings(limits, None, name)
        of_target = [one for one in made if one.name in (*OF_A_TARGET, "mean weight")]
        return [replace(one, name=f"{one.name}, of the other policy") for one in of_target]
