"""Rejection replay: on a uniformly logged log, rows whose logged action the policy would have chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, Bool
from offline_eval.accumulate import Sums
from offline_eval.estimators.base import Split
from offline_eval.replay.compiled import Compiled
from offline_eval.replay.player import Player
from offline_eval.replay.rows import Rows


class Rejection:
    """Replay of a learning policy: a row counts, and is learned from, iff the policy chooses the logged action.

    Value: sum over matched rows of K r / sum of K, K = 1 / propensity being the number of candidates; the mean reward
    of the matched rows where every row has as many.

    Li, Chu, Langford & Wang, "Unbiased offline evaluation of contextual-bandit-based news article recommendation
    algorithms", WSDM 2011, algorithm 2 and theorem 1. Assumes rows independent of each other and logging uniform over
    the candidates. Then the matched rows are distributed as those that the policy itself would have met, whatever it
    learned before, so that the value is unbiased for that of its first `matched` rounds. About n / K rows match: it is
    the value of so short a life. The weights K are ours: where K varies, rows with few candidates match more often,
    and the weights undo it in the value (with the bias of a ratio, order 1 / n), though not in what the policy meets.
    Variance: that of the rewards over `matched`.

    A row is taken with the policy's probability of the logged action, which has the same law as to draw from the
    policy and compare, and needs no chance where the policy is deterministic.
    """

    method = "rejection replay"

    def __init__(self, player: Player, rng: np.random.Generator) -> None:
        self._player = player
        self._rng = rng
        self.sums = Sums()
        self.matched = 0
        self.rewarded = 0
        self.largest_weight = 0.0

    def play(self, rows: Rows) -> None:
        """Play the next rows of the log."""
        coin = self._rng.random(len(rows))
        compiled = Compiled.of(self._player)
        taken = self._walk(rows, coin) if compiled is None else compiled.reject(rows, coin)
        self.matched += int(taken.sum())
        self.rewarded += int((taken & (rows.reward != 0.0)).sum())
        weight = taken / rows.propensity
        self.largest_weight = max(self.largest_weight, float(weight.max(initial=0.0)))
        _add(self.sums, weight, rows, None)

    def _walk(self, rows: Rows, coin: F64) -> Bool:
        coins, reward = coin.tolist(), rows.reward.tolist()
        taken = np.zeros(len(rows), bool)
        player = self._player
        for i, (request, place) in enumerate(rows.requests()):
            if coins[i] < player.probabilities(request)[place]:
                taken[i] = True
                player.learn(request, int(request.candidates[place]), reward[i])
        return taken


class Matching:
    """Rejection replay of a policy that does not learn, its own chance taken in expectation.

    A row weighs K times the policy's probability of the logged action: K or 0 for a deterministic policy, whose value
    is thus the mean reward of exactly the rows that match. Rao-Blackwell form (ours) of Li et al. 2011: the bias of
    a ratio of order 1 / n, a variance below that of Rejection. The policy that logged gets the mean reward exactly.
    """

    method = "rejection replay"

    def __init__(self) -> None:
        self.sums = Sums()
        self.matched = 0
        self.rewarded = 0
        self.largest_weight = 0.0

    def play(self, rows: Rows, target_action: F64, block: NDArray[np.intp] | None = None) -> None:
        """Take in rows.

        target_action  float64 (n,) the policy's probability of the logged action
        block          intp (n,)    stretch of time of each row, where moments by stretch are kept
        """
        self.matched += int((target_action > 0).sum())
        self.rewarded += int(((target_action > 0) & (rows.reward != 0.0)).sum())
        weight = target_action / rows.propensity
        self.largest_weight = max(self.largest_weight, float(weight.max(initial=0.0)))
        _add(self.sums, weight, rows, block)


def _add(sums: Sums, weight: F64, rows: Rows, block: NDArray[np.intp] | None) -> None:
    sums.add(Split(np.zeros(len(rows)), weight, rows.reward), rows.count, None, block)
