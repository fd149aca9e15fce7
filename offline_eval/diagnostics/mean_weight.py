"""Whether the weights average to 1, as they do wherever the propensities are right and cover the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bandits.arrays import F64
from bandits.kernels.audit import add_means
from bandits.moments import Moments
from offline_eval.diagnostics.finding import Finding
from offline_eval.diagnostics.significance import Tests, falls_short, mean_is_one
from offline_eval.diagnostics.slices import Slices
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.formats.chunk import Ids
from offline_eval.rounds import Rounds

LEAST_ROWS = 20
"""Of a slice that is tested."""


@dataclass
class MeanWeight:
    """Weights by slice of the log."""

    slices: Slices = field(default_factory=lambda: Slices(1))

    def add(self, rounds: Rounds, segments: Mapping[str, Ids]) -> None:
        """Take in a batch."""
        count = np.empty(0) if rounds.log.count is None else rounds.log.count
        for segment, ids in segments.items():
            row, sums = self.slices.place(segment, ids)
            add_means(row, rounds.weight, count, sums[:, 0])

    def merge(self, other: MeanWeight) -> None:
        """Take in the rounds of another."""
        self.slices.merge(other.slices)

    def tests(self, moments: Moments, largest: float, endless: bool) -> Tests:
        """Overall (moments of w) and of each slice.

        largest  w_max
        endless  whether the tail may reach beyond it, so that a mean below 1 proves nothing
        """
        all_rows = [("", _sums(moments)), *((name, sums[0]) for name, sums in self.slices.rows())]
        kept = [(name, sums) for name, sums in all_rows if sums[0] >= LEAST_ROWS]
        table = np.array([sums for _, sums in kept]).reshape(-1, 6)

        def tell(i: int) -> str:
            name, sums = kept[i]
            return f"{sums[3] / sums[1]:.4f}{f' at {name}' if name else ''} over {int(sums[0]):,} rounds"

        return Tests(mean_is_one(table, largest), tell, falls_short(table) & endless)

    def findings(self, tests: Tests, limits: Thresholds, n_tests: int) -> list[Finding]:
        """The slice that is furthest from 1."""
        return [
            tests.finding(
                "mean weight",
                limits,
                n_tests,
                f"not tested: fewer than {LEAST_ROWS} rounds",
                "it must be 1, so propensities are wrong or do not cover the target; log the probability with which "
                "the action was drawn, and the actions that could not be drawn",
            )
        ]


def _sums(moments: Moments) -> F64:
    first, second = moments.first, moments.second
    return np.array([moments.n, first[0, 0], second[0, 0], first[0, 1], second[0, 1], second[1, 1]])
