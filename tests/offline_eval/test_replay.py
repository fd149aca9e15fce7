"""Rejection replay of policies on uniformly chosen rows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from bandits.arrays import F64
from bandits.simulation.policy import Request
from offline_eval.learners import LearningPlayer, learner
from offline_eval.replay.player import FixedPlayer, Player
from offline_eval.replay.rejection import Matching, Rejection
from offline_eval.replay.rows import Lists, Rows, Slots

TRUTH = np.array([[0.2, 0.5, 0.8], [0.7, 0.4, 0.1]])
"""Click rates of three actions in two contexts."""


def rows_of(
    action: ArrayLike, reward: ArrayLike, propensity: ArrayLike, n_actions: int, context: F64 | None = None
) -> Rows:
    actions = np.asarray(action)
    wide = np.empty((len(actions), 0)) if context is None else context
    slots = Slots.of(wide, np.ones(wide.shape[1]))
    pi0 = np.broadcast_to(np.asarray(propensity, float), actions.shape)
    return Rows(actions, np.asarray(reward, float), pi0, n_actions, slots)


def some(rows: Rows, start: int, stop: int) -> Rows:
    """A stretch of rows whose contexts are one slot each."""
    slots = Slots(np.arange(stop - start + 1), rows.slots.slot[start:stop], rows.slots.weight[start:stop])
    part = slice(start, stop)
    return Rows(rows.action[part], rows.reward[part], rows.propensity[part], rows.n_actions, slots)


def uniform_log(rng: np.random.Generator, n: int) -> Rows:
    """n rows of the world of TRUTH, its two contexts alike, chosen uniformly."""
    context, action = rng.integers(2, size=n), rng.integers(3, size=n)
    reward = rng.random(n) < TRUTH[context, action]
    return rows_of(action, reward, 1 / 3, 3, np.eye(2)[context])


class Recording:
    """Notes the rewards that a player learns."""

    def __init__(self, player: Player) -> None:
        self.player, self.rewards = player, list[float]()

    def probabilities(self, request: Request) -> F64:
        return self.player.probabilities(request)

    def learn(self, request: Request, action: int, reward: float) -> None:
        self.rewards.append(reward)
        self.player.learn(request, action, reward)


def played(player: Player, rng: np.random.Generator, rounds: int) -> float:
    """Mean true rate of what a policy chooses in so many rounds of its own."""
    total = 0.0
    for i in range(rounds):
        context = int(rng.integers(2))
        request = Request(i, np.array([context]), np.array([1.0]), np.arange(3))
        action = int(rng.choice(3, p=player.probabilities(request)))
        total += TRUTH[context, action]
        player.learn(request, action, float(rng.random() < TRUTH[context, action]))
    return total / rounds


def fresh(policy: str = "diag_linucb:temperature=.1") -> LearningPlayer:
    return learner(policy, n_actions=3, n_slots=3, scale=1.0)


def ratio(way: Rejection | Matching) -> float:
    return float(way.sums.moments.mean[2] / way.sums.moments.mean[1])


def test_five_rows_by_hand():
    """Greedy, means b / (1 + n). Both 0: action 0 is chosen, so row 0 (action 1) does not count; row 1 (0, -1) does:
    mean -1/2, so 1 is chosen now: row 2 (action 0) does not count, row 3 (1, 2) does: mean 1; row 4 (0) does not.
    Two rows match, mean (-1 + 2) / 2."""
    player = learner("diag_linucb:alpha=0,variant=published,sampler=greedy", n_actions=2, n_slots=1, scale=1.0)
    way = Rejection(player, np.random.default_rng(0))
    way.play(rows_of([1, 0, 0, 1, 0], [9, -1, 5, 2, 7], 0.5, 2))
    assert way.matched == 2
    assert ratio(way) == 0.5
    assert way.largest_weight == 2.0


def test_rows_of_unequal_candidates_weigh_as_many_as_they_have():
    """Action 0 of 2 with reward 1 and action 0 of 4 with reward 0: (2 * 1 + 4 * 0) / (2 + 4)."""
    lists = Lists(np.array([0, 2, 6]), np.array([1, 0, 3, 2, 0, 1]), np.ones(2, bool))
    rows = Rows(
        np.array([0, 0]), np.array([1.0, 0.0]), np.array([0.5, 0.25]), 4, Slots.of(np.empty((2, 0)), np.empty(0)), lists
    )
    assert rows.place.tolist() == [1, 2]
    target = np.tile([1.0, 0.0, 0.0, 0.0], (2, 1))
    way = Rejection(FixedPlayer(target), np.random.default_rng(0))
    way.play(rows)
    assert ratio(way) == pytest.approx(1 / 3, abs=1e-15)
    matching = Matching()
    matching.play(rows, np.ones(2))
    assert ratio(matching) == ratio(way)


def test_a_learning_policy_earns_on_the_log_what_it_earns_when_it_plays():
    """Mean of the first 30 matched rewards over 300 logs against 300 lives of 30 rounds, within 4 standard errors."""
    replayed, lived = [], []
    for seed in range(300):
        player = Recording(fresh())
        rng = np.random.default_rng(seed)
        Rejection(player, rng).play(uniform_log(rng, 160))
        assert len(player.rewards) >= 30
        replayed.append(np.mean(player.rewards[:30]))
        lived.append(played(fresh(), np.random.default_rng(10_000 + seed), 30))
    error = np.sqrt((np.var(replayed) + np.var(lived)) / 300)
    assert abs(np.mean(replayed) - np.mean(lived)) < 4 * error
    assert error < 0.01


def test_one_row_in_k_matches_whatever_is_learned():
    way = Rejection(fresh(), np.random.default_rng(1))
    n = 9_000
    way.play(uniform_log(np.random.default_rng(2), n))
    assert abs(way.matched - n / 3) < 4 * np.sqrt(n * (1 / 3) * (2 / 3))


@pytest.mark.parametrize("policy", ["diag_linucb", "full_linucb"])
def test_learning_beats_the_log(policy):
    """The best policy has .75, the log .45."""
    rows = uniform_log(np.random.default_rng(3), 6_000)
    way = Rejection(fresh(policy), np.random.default_rng(4))
    way.play(rows)
    assert ratio(way) > 0.63
    assert rows.reward.mean() < 0.5


def test_batches_of_any_size_and_a_seed_again_give_the_same_path():
    rows = uniform_log(np.random.default_rng(5), 500)
    whole, again, parts = (Rejection(fresh(), np.random.default_rng(6)) for _ in range(3))
    whole.play(rows)
    again.play(rows)
    for start, stop in ((0, 1), (1, 130), (130, 500)):
        parts.play(some(rows, start, stop))
    assert whole.matched == again.matched == parts.matched
    assert (whole.sums.moments.first == again.sums.moments.first).all()
    np.testing.assert_allclose(parts.sums.moments.first, whole.sums.moments.first, rtol=1e-12)
    other = Rejection(fresh(), np.random.default_rng(7))
    other.play(rows)
    assert (other.sums.moments.first != whole.sums.moments.first).any()


def test_the_policy_that_logged_gets_the_mean_reward_exactly():
    rng = np.random.default_rng(8)
    reward = rng.normal(size=1_000)
    way = Matching()
    way.play(rows_of(rng.integers(7, size=1_000), reward, 1 / 7, 7), np.full(1_000, 1 / 7))
    assert way.matched == 1_000
    assert ratio(way) == pytest.approx(reward.mean(), abs=1e-12)


def test_matching_is_the_expectation_of_rejection_over_its_draws():
    rng = np.random.default_rng(9)
    rows = uniform_log(rng, 60)
    target = rng.dirichlet(np.ones(3), size=60)
    exact = Matching()
    exact.play(rows, target[np.arange(60), rows.action])
    drawn = np.zeros(2)
    for seed in range(2_000):
        way = Rejection(FixedPlayer(target), np.random.default_rng(seed))
        way.play(rows)
        drawn += way.sums.moments.first[0, 2:]
    weight = target[np.arange(60), rows.action] * 3
    error = np.sqrt((weight * (3 - weight)).sum() / 2_000)
    np.testing.assert_allclose(drawn / 2_000, exact.sums.moments.first[0, 2:], atol=4 * error)


def test_a_row_without_features_has_the_constant_slot():
    slots = Slots.of(np.array([[np.nan, 0.0], [np.nan, -32.0], [4.0, 2.0]]), np.array([1.0, 2.0]))
    assert slots.start.tolist() == [0, 1, 2, 4]
    assert slots.slot.tolist() == [2, 1, 0, 1]
    assert slots.weight.tolist() == [1.0, -16.0, 4.0, 1.0]
