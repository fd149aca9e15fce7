"""Diag-LinUCB behind a sampler, played by kernels: about a hundred times as fast as asking it row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64, Bool
from bandits.diag_linucb import DiagLinUCB
from bandits.errors import UsageError
from bandits.kernels.replay import (
    CENTRED,
    GREEDY,
    PLACKETT_LUCE,
    PUBLISHED,
    TOP_M,
    UNIFORM,
    WEIGHTS,
    Learner,
    Rounds,
    Scratch,
    play_rejection,
    play_robust,
)
from bandits.kernels.sample import BLOCK
from bandits.simulation.policy import Learning
from offline_eval.learners import NOT_FINITE, LearningPlayer
from offline_eval.replay.player import Path, Player
from offline_eval.replay.quantile import RunningQuantile
from offline_eval.replay.rows import Rows

VARIANTS = {"published": PUBLISHED, "centred": CENTRED, "weights": WEIGHTS}
NO_EDGES = np.zeros((2, 2), bool, order="F")
KINDS = {"plackett_luce": PLACKETT_LUCE, "top_m_uniform": TOP_M, "greedy": GREEDY, "uniform": UNIFORM}


@dataclass(frozen=True)
class Compiled:
    """Plays and teaches the learner of a player; the player may be asked in between.

    Scores are equal to those of DiagLinUCB but for the rounding of sums over slots, hence probabilities to about 1e-5.
    """

    player: LearningPlayer
    learner: DiagLinUCB

    @classmethod
    def of(cls, player: Player) -> Compiled | None:
        """Where the player is a Diag-LinUCB."""
        if not isinstance(player, LearningPlayer) or not isinstance(player.policy, Learning):
            return None
        learner = player.policy.learner
        return cls(player, learner) if isinstance(learner, DiagLinUCB) else None

    def reject(self, rows: Rows, coin: F64) -> Bool:
        """Rejection replay of the next rows: which ones were taken, bool (n,). Raises UsageError as robust."""
        taken, (learner, rounds, scratch) = np.zeros(len(rows), bool), self._arguments(rows)
        self._close(learner, play_rejection(rounds, learner, coin, scratch, np.empty(len(scratch.score)), taken))
        return taken

    def robust(self, rows: Rows, coin: F64, c: float, q: float, inverse_weights: RunningQuantile) -> Path:
        """Doubly robust replay of the next rows, which starts at the multiplier c.

        Raises UsageError where a score is not finite.
        """
        learner, rounds, scratch = self._arguments(rows)
        path = Path(np.empty(len(rounds.column)), np.empty(len(rows)), np.empty(len(rows)), np.zeros(len(rows), bool))
        state = np.array([c, inverse_weights.n])
        most, count = inverse_weights.most, inverse_weights.count
        row = play_robust(
            rounds, learner, coin, most, q, state, count, scratch, path.probability, path.weight, path.c, path.taken
        )
        self._close(learner, row)
        inverse_weights.n = int(state[1])
        path.next_c = float(state[0])
        return path

    def _arguments(self, rows: Rows) -> tuple[Learner, Rounds, Scratch]:
        of, sampler = self.learner, self.player.sampler
        learner = Learner(
            of.weight_sq_sum,
            of.weight_sum,
            of.reward_sum,
            NO_EDGES if of.edges is None else of.edges,
            of.edges is not None,
            np.array([of.impressions, of.total_reward]),
            VARIANTS[of.variant],
            of.alpha,
            of.prior,
            KINDS[sampler.kind],
            1.0 / sampler.temperature,
            sampler.m,
            float(sampler.epsilon),
        )
        start, column = rows.entries
        rounds = Rounds(
            rows.slots.start,
            rows.slots.slot,
            rows.slots.weight,
            start,
            column,
            rows.place,
            rows.reward / self.player.scale,
            rows.propensity,
        )
        most = int(np.diff(start).max(initial=1))
        score, exponential = np.empty((2, most), np.float32)
        return learner, rounds, Scratch(score, exponential, np.empty(-(-most // BLOCK)), np.empty(most, np.int64))

    def _close(self, learner: Learner, stopped: int) -> None:
        self.learner.impressions, self.learner.total_reward = int(learner.totals[0]), float(learner.totals[1])
        if stopped >= 0:
            raise UsageError(NOT_FINITE)
