"""Doubly robust replay, of logs that were not chosen uniformly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.simulation.policy import Request
from offline_eval.estimators.dr import DR
from offline_eval.learners import LearningPlayer, learner
from offline_eval.replay.doubly_robust import DoublyRobust
from offline_eval.replay.model import RunningMeans, RunningRidge, running_model
from offline_eval.replay.player import FixedPlayer
from offline_eval.replay.quantile import RunningQuantile
from offline_eval.replay.rows import Rows, Slots

TRUTH = np.array([[0.2, 0.5, 0.8], [0.7, 0.4, 0.1]])
LOGGING = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
"""Prefers the worst action of each context."""


def bad_log(rng: np.random.Generator, n: int) -> tuple[Rows, np.ndarray]:
    """n rows of the world of TRUTH under LOGGING, and their contexts."""
    context = rng.integers(2, size=n)
    action = (rng.random(n)[:, None] > LOGGING[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < TRUTH[context, action]).astype(float)
    slots = Slots.of(np.eye(2)[context], np.ones(2))
    return Rows(action, reward, LOGGING[context, action], 3, slots), context


def fresh() -> LearningPlayer:
    return learner("diag_linucb:temperature=.1", n_actions=3, n_slots=3, scale=1.0)


def lived(rng: np.random.Generator, rounds: int) -> float:
    """Mean true rate of what the policy chooses in so many rounds of its own."""
    player, total = fresh(), 0.0
    for i in range(rounds):
        context = int(rng.integers(2))
        request = Request(i, np.array([context]), np.array([1.0]), np.arange(3))
        action = int(rng.choice(3, p=player.probabilities(request)))
        total += TRUTH[context, action]
        player.learn(request, action, float(rng.random() < TRUTH[context, action]))
    return total / rounds


class Half:
    """Predicts 1/2 of everything."""

    name = "half"

    def play(self, rows: Rows) -> np.ndarray:
        return np.full(len(rows.entries[1]), 0.5)


def test_three_rows_by_hand():
    """Target (3/4, 1/4), q = 1/2, c = 1 until a row is taken and then the least 1/w so far (quantile 0).

    Row 0, action 1, p 1/8: w = 2, R = .5 + 2 (1 - .5) = 1.5, c w > 1: taken for sure; then c = 1/2 at most.
    Row 1, action 0, p 3/4: w = 1, R = .5 + (0 - .5) = 0, c = 1/2. Row 2, action 0, p 3/4: R = .5 + .5 = 1, c = 1/2.
    Value (1.5 + 0 + .5) / 2 = 1, to the 0.2 % of the quantile."""
    rows = Rows(np.array([1, 0, 0]), np.array([1.0, 0.0, 1.0]), np.array([1 / 8, 3 / 4, 3 / 4]), 2, constant(3))
    way = DoublyRobust(FixedPlayer(np.tile([0.75, 0.25], (3, 1))), Half(), np.random.default_rng(0), quantile=0.0)
    way.play(rows)
    moments = way.sums.moments
    assert DR().value(moments) == pytest.approx(1.0, rel=2e-3)
    assert moments.count == pytest.approx(2.0, rel=2e-3)
    assert way.clipped == 1
    assert way.largest_weight == 2.0
    assert moments.first[0, 3] == pytest.approx(1.0 - 0.25 + 0.25, rel=2e-3)


def constant(n: int) -> Slots:
    return Slots.of(np.empty((n, 0)), np.empty(0))


def test_a_policy_that_does_not_learn_gets_its_value_without_bias():
    """200 logs of 150 rows, target uniform, truth .45: within 4 standard errors."""
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows, _ = bad_log(rng, 150)
        way = DoublyRobust(FixedPlayer(np.full((150, 3), 1 / 3)), running_model(3, 3), rng, quantile=None)
        way.play(rows)
        assert way.matched == 150
        values.append(DR().value(way.sums.moments))
    error = np.std(values) / math.sqrt(200)
    assert abs(np.mean(values) - TRUTH.mean()) < 4 * error
    assert error < 0.006


def test_a_learning_policy_is_nearer_to_its_life_than_the_logged_mean():
    """30 logs of 1,500 rows against 100 lives as long as the histories were."""
    values, matched, logged = [], [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows, _ = bad_log(rng, 1_500)
        way = DoublyRobust(fresh(), running_model(3, 3), rng)
        way.play(rows)
        values.append(DR().value(way.sums.moments))
        matched.append(way.matched)
        logged.append(rows.reward.mean())
    lives = [lived(np.random.default_rng(1_000 + seed), int(np.mean(matched))) for seed in range(100)]
    error = math.sqrt(np.var(values) / 30 + np.var(lives) / 100)
    assert min(matched) > 100
    assert abs(np.mean(values) - np.mean(lives)) < 4 * error + 0.01
    assert abs(np.mean(logged) - np.mean(lives)) > 0.2


def test_a_seed_again_gives_the_same_path():
    rows, _ = bad_log(np.random.default_rng(1), 400)
    ways = [DoublyRobust(fresh(), running_model(3, 3), np.random.default_rng(seed)) for seed in (2, 2, 3)]
    for way in ways:
        way.play(rows)
    assert (ways[0].sums.moments.first == ways[1].sums.moments.first).all()
    assert ways[0].matched == ways[1].matched
    assert (ways[0].sums.moments.first != ways[2].sums.moments.first).any()


def test_a_prediction_has_not_seen_its_row():
    """Rewards equal to a coin: with predictions from the past the mean correction stays the coin's, not 0."""
    n = 300
    rng = np.random.default_rng(4)
    reward = rng.normal(size=n)
    rows = Rows(np.zeros(n, np.intp), reward, np.ones(n), 1, Slots.of(rng.normal(size=(n, 40)), np.ones(40)))
    way = DoublyRobust(FixedPlayer(np.ones((n, 1))), running_model(1, 41), np.random.default_rng(5))
    way.play(rows)
    residual = float(way.sums.moments.first[3, 3]) / n
    assert residual > np.var(reward)


def test_running_ridge_is_the_ridge_regression_of_the_rows_before():
    """Every row's two predictions, by solving the normal equations of the earlier rows of each action."""
    rng = np.random.default_rng(6)
    n, x, y, action = 30, rng.normal(size=(30, 3)), rng.normal(size=30), rng.integers(2, size=30)
    rows = Rows(action, y, np.full(n, 0.5), 2, Slots.of(x, np.ones(3)))
    predicted = RunningRidge(2, 4).play(rows).reshape(n, 2)
    wide = np.column_stack([x, np.ones(n)])
    for i in range(n):
        for k in range(2):
            before = wide[:i][action[:i] == k]
            theta = np.linalg.solve(before.T @ before + np.eye(4), before.T @ y[:i][action[:i] == k])
            assert predicted[i, k] == pytest.approx(wide[i] @ theta, rel=1e-9, abs=1e-12)


def test_running_means_by_hand():
    """Rewards 1 and 0 of action 0, 4 of action 1: at last the mean is 5/3; (5/3 + 1) / 3, (5/3 + 4) / 2, 5/3 unseen."""
    rows = Rows(np.array([0, 0, 1, 2]), np.array([1.0, 0.0, 4.0, 9.0]), np.ones(4), 3, constant(4))
    predicted = RunningMeans(3).play(rows).reshape(4, 3)
    np.testing.assert_allclose(predicted[0], 0.0)
    np.testing.assert_allclose(predicted[1], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(predicted[3], [8 / 9, 17 / 6, 5 / 3])
    assert isinstance(running_model(10_000, 100), RunningMeans)


@given(st.lists(st.floats(1e-9, 50.0), min_size=1, max_size=60), st.floats(0.0, 0.99))
def test_a_running_quantile_is_the_exact_one_to_a_fifth_of_a_percent(values, q):
    running = RunningQuantile(1.0)
    for value in values:
        running.add(value)
    exact = min(sorted(values)[max(1, math.ceil(q * len(values))) - 1], 1.0)
    assert exact / 1.0021 <= running.at(q) <= exact * (1 + 1e-9)


def test_a_quantile_of_nothing_or_of_the_impossible_is_the_cap():
    running = RunningQuantile(0.5)
    assert running.at(0.1) == 0.5
    running.add(math.inf)
    assert running.at(0.1) == 0.5


@pytest.mark.parametrize(("c_max", "quantile"), [(0.0, 0.1), (1.5, 0.1), (1.0, 1.0), (1.0, -0.1)])
def test_bounds_out_of_range_are_refused(c_max, quantile):
    with pytest.raises(ValueError, match="must lie in"):
        DoublyRobust(fresh(), Half(), np.random.default_rng(0), c_max=c_max, quantile=quantile)
