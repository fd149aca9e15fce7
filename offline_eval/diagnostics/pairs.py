"""What the logging distributions expect of every (row, action) pair, against what was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from bandits.kernels.audit import N_BINS, add_pairs
from offline_eval.diagnostics.finding import Finding, Names
from offline_eval.diagnostics.significance import ROUNDING, Tests, count_is_expected
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.rounds import Rounds

LEAST_EXPECTED = 5.0
"""Of a count that is tested, unless that many were seen."""


@dataclass
class Pairs:
    """Rows whose whole logging distribution pi0 is known.

    rows         n, sum of c, sum of c^2
    actions      float64 (K, 3)   sum of c [A = a], c pi0(a|x), c^2 pi0 (1 - pi0)
    unsupported  float64 (K,)     sum of c pi(a|x) where pi0(a|x) is 0
    bins         float64 (28, 3)  as actions, of the pairs by the size of pi0
    """

    n_actions: int
    rows: F64
    actions: F64
    unsupported: F64
    bins: F64

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions
        self.rows, self.bins = np.zeros(3), np.zeros((N_BINS, 3))
        self.actions, self.unsupported = np.zeros((0, 3)), np.zeros(0)

    def _grow(self) -> None:
        """Make room for K actions: only logs that know their distributions pay for it."""
        if not len(self.actions):
            self.actions, self.unsupported = np.zeros((self.n_actions, 3)), np.zeros(self.n_actions)

    def add(self, rounds: Rounds) -> None:
        """Take in rounds whose logging is known, none of it NaN."""
        log = rounds.log
        assert log.logging is not None
        self._grow()
        logging = np.ascontiguousarray(log.logging)
        count = np.empty(0) if log.count is None else log.count
        target = np.empty((0, self.n_actions)) if rounds.target is None else rounds.target
        add_pairs(logging, logging.view(np.int64), log.action, count, target, self.actions, self.unsupported, self.bins)
        n = len(log)
        self.rows += np.array([n, n, n] if log.count is None else [n, count.sum(), count @ count], np.float64)

    def merge(self, other: Pairs) -> None:
        """Take in the rounds of another."""
        self.rows += other.rows
        self.bins += other.bins
        if len(other.actions):
            self._grow()
            self.actions += other.actions
            self.unsupported += other.unsupported

    def _tests(self, table: F64) -> tuple[NDArray[np.intp], F64]:
        """Counts worth testing, with their p-values."""
        kept = np.flatnonzero(np.maximum(table[:, 0], table[:, 1]) >= LEAST_EXPECTED)
        _, total, squares = self.rows.tolist()
        unit = squares / total if total else 1.0
        observed, expected, variance = table[kept].T
        return kept, count_is_expected(observed, expected, variance, unit)

    def action_tests(self, name: Names) -> Tests:
        """(N_a - sum pi0(a|x)) / sqrt(sum pi0 (1 - pi0)) of each action."""
        kept, p = self._tests(self.actions)

        def tell(i: int) -> str:
            action = int(kept[i])
            taken, expected, variance = self.actions[action]
            return (
                f"action {name(action)} was taken {taken:,.6g} times where {expected:,.6g} were expected, "
                f"z {_z(taken, expected, variance)}"
            )

        return Tests(p, tell, np.zeros(len(p), np.bool_))

    def bin_tests(self) -> Tests:
        """How often actions of about the same probability were taken (reliability)."""
        kept, p = self._tests(self.bins)

        def tell(i: int) -> str:
            b = int(kept[i])
            taken, expected, variance = self.bins[b]
            return (
                f"actions of probability {_edges(b)} were taken {taken:,.6g} times where {expected:,.6g} were "
                f"expected, z {_z(taken, expected, variance)}"
            )

        return Tests(p, tell, np.zeros(len(p), np.bool_))

    def reliability(self, tests: Tests, limits: Thresholds, n_tests: int) -> list[Finding]:
        """The size of probability that is furthest off."""
        return [
            tests.finding(
                "propensities, reliability",
                limits,
                n_tests,
                "not tested: needs the logging policy's whole distribution",
                "the logged probabilities are not those the actions were drawn with (a softmax of the scores of an "
                "argmax, or rows out of step); log the distribution that is drawn from",
            )
        ]


def _edges(b: int) -> str:
    """Range of a bin in words."""

    def low(i: int) -> float:
        octave, half = divmod(i - (N_BINS - 1), 2)
        return float(2.0**octave * (1.0 + half / 2.0))

    if b == N_BINS - 1:
        return "1"
    return f"{low(b) if b else 0.0:.3g} to {low(b + 1):.3g}"


def _z(taken: float, expected: float, variance: float) -> str:
    off = taken - expected
    if abs(off) <= ROUNDING * max(expected, 1.0):
        return "0"
    return f"{off / np.sqrt(variance):.1f}" if variance > 0 else "infinite"
