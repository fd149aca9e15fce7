"""All checks of a log and a target, added up in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from offline_eval.diagnostics.actions import action_findings, both
from offline_eval.diagnostics.agreement import Agreement
from offline_eval.diagnostics.few_rewards import Rewarded
from offline_eval.diagnostics.finding import Finding, Level, Names
from offline_eval.diagnostics.inverse import Inverse
from offline_eval.diagnostics.mean_weight import MeanWeight
from offline_eval.diagnostics.pairs import Pairs
from offline_eval.diagnostics.significance import Tests
from offline_eval.diagnostics.slices import halves
from offline_eval.diagnostics.support import Support
from offline_eval.diagnostics.tail import Tail
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.diagnostics.weights import Weights
from offline_eval.formats.chunk import Ids
from offline_eval.rounds import Rounds


@dataclass
class Diagnosis:
    """Sums over the rounds of a log, of a size that does not grow with it. Picklable.

    n_actions         K
    known_candidates  whether each round's candidates are known: `allowed`, or all actions without it
    middle            float64 (d,)  thresholds that halve the context's columns for tests by slice; None: no such slices
    """

    n_actions: int
    known_candidates: bool = True
    middle: F64 | None = None

    def __post_init__(self) -> None:
        self._weights, self._tail, self._mean = Weights(), Tail(), MeanWeight()
        self._pairs, self._inverse = Pairs(self.n_actions), Inverse(self.n_actions)
        self._support, self._agreement, self._rewarded = Support(self.n_actions), Agreement(), Rewarded()
        self._least, self._most = 1.0, 0.0

    def add(
        self,
        rounds: Rounds,
        segments: Mapping[str, Ids] | None = None,
        place: Callable[[int], str] | None = None,
    ) -> None:
        """Take in a batch.

        segments  columns of n ids that the weights are sliced by
        place     names a row of the batch (file and row); None: its number among all rounds
        """
        if not len(rounds):
            return
        slices = {**(segments or {}), **halves(rounds.log.context, self.middle)}
        self._weights.add(rounds)
        self._tail.add(rounds.weight)
        self._mean.add(rounds, slices)
        self._rewarded.add(rounds)
        self._support.add(rounds.log, rounds.target is not None)
        self._least = min(self._least, float(rounds.log.propensity.min()))
        target = rounds.target_action if rounds.target is None else rounds.target
        self._most = max(self._most, float(target.max()))
        self._add_propensities(rounds, slices, place)
        self._agreement.rows += len(rounds)

    def _add_propensities(self, rounds: Rounds, slices: Mapping[str, Ids], place: Callable[[int], str] | None) -> None:
        logging = rounds.log.logging
        unknown = np.ones(len(rounds), np.bool_) if logging is None else np.isnan(logging[:, 0])
        rows = np.flatnonzero(~unknown)
        if len(rows):
            known = rounds if len(rows) == len(rounds) else _part(rounds, rows)
            self._pairs.add(known)
            self._agreement.add(known.log, rows, place)
        if len(rows) < len(rounds):
            others = np.flatnonzero(unknown)
            rest = rounds if not len(rows) else _part(rounds, others)
            if rest.target is not None:
                self._support.add_unknown(rest.log, rest.target)
            if self.known_candidates:
                parts = (
                    slices
                    if not len(rows)
                    else {name: Ids(ids.code[others], ids.names) for name, ids in slices.items()}
                )
                self._inverse.add(rest.log, parts)

    def merge(self, other: Diagnosis) -> None:
        """Take in the rounds of another, which follow."""
        self._weights.merge(other._weights)
        self._tail.merge(other._tail)
        self._mean.merge(other._mean)
        self._rewarded.merge(other._rewarded)
        self._support.merge(other._support)
        self._pairs.merge(other._pairs)
        self._inverse.merge(other._inverse)
        self._agreement.merge(other._agreement)
        self._least, self._most = min(self._least, other._least), max(self._most, other._most)

    def findings(self, limits: Thresholds, largest_weight: float | None = None, name: Names = str) -> list[Finding]:
        """Every check made, the sound ones too.

        largest_weight  w_max, the largest that pi / pi0 can be; None: unknown, so that the target's largest probability
                        over the log's least propensity stands in. With a Pareto k beyond limits.pareto_warn that is no
                        bound, and weights that fall short of 1 only warn
        name            of an action
        """
        assumed = self._most / self._least
        w_max = max(assumed if largest_weight is None else largest_weight, self._weights.largest)
        endless = largest_weight is None and self._tail.k > limits.pareto_warn
        mean = self._mean.tests(self._weights.moments, w_max, endless)
        actions = both(self._pairs.action_tests(name), self._inverse.tests(name, limits))
        bins = self._pairs.bin_tests()
        n_tests = len(mean) + len(actions) + len(bins)
        return [
            *self._weights.findings(limits),
            *self._support.findings(self._unsupported, limits, name),
            *self._mean_findings(mean, limits, n_tests),
            *self._agreement.findings(),
            *action_findings(actions, limits, n_tests),
            *self._pairs.reliability(bins, limits, n_tests),
            *self._tail.findings(limits),
            *self._rewarded.findings(),
        ]

    def _mean_findings(self, tests: Tests, limits: Thresholds, n_tests: int) -> list[Finding]:
        """Weights cannot average 1 where the target takes what the log never does: that is told already."""
        mass = float(self._unsupported.sum())
        if mass > limits.max_unsupported:
            mean = self._weights.mean
            return [Finding("mean weight", Level.NOTE, f"{mean:.4f}, with {mass:.2%} of the target unsupported")]
        return self._mean.findings(tests, limits, n_tests)

    @property
    def _unsupported(self) -> F64:
        return self._support.by_action(self._pairs.unsupported)

    def numbers(self) -> dict[str, float]:
        """What the findings rest on; NaN where it cannot be known.

        n, ess, max_weight, max_weight_share, mean_weight, unsupported_mass, pareto_k, and aa_difference: the value of
        the logging policy itself less the logged mean
        """
        return {
            "n": float(self._weights.moments.n),
            "ess": self._weights.ess,
            "max_weight": self._weights.largest,
            "max_weight_share": self._weights.share,
            "mean_weight": self._weights.mean,
            "unsupported_mass": float(self._unsupported.sum()),
            "pareto_k": self._tail.k,
            "aa_difference": self._agreement.difference,
        }


def _part(rounds: Rounds, rows: NDArray[np.intp]) -> Rounds:
    """Some of the rounds, without models."""
    target = None if rounds.target is None else rounds.target[rows]
    return Rounds(rounds.log.rows(rows), rounds.target_action[rows], target)
