"""Full-matrix LinUCB against the normal equations solved directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.full_linucb import FullLinUCB


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40), prior=st.sampled_from([0.1, 1.0, 5.0]))
def test_sherman_morrison_equals_solving_directly(seed: int, n: int, prior: float):
    rng = np.random.default_rng(seed)
    learner = FullLinUCB(2, 4, alpha=0.7, prior=prior)
    gram, moment = np.tile(prior * np.eye(4), (2, 1, 1)), np.zeros((2, 4))
    for _ in range(n):
        arm, reward = int(rng.integers(2)), rng.normal()
        slots = rng.permutation(4)[:3]
        x = np.zeros(4)
        x[slots] = rng.normal(size=3)
        learner.update(arm, slots, x[slots], reward)
        gram[arm] += np.outer(x, x)
        moment[arm] += reward * x
    x = rng.normal(size=4)
    for arm in range(2):
        mean = x @ np.linalg.solve(gram[arm], moment[arm])
        width = np.sqrt(x @ np.linalg.solve(gram[arm], x))
        assert learner.scores(range(4), x)[arm] == pytest.approx(mean + 0.7 * width, abs=1e-8)


def test_one_update_by_hand():
    """prior 2, x = (1, 1), r = 1: A = [[3, 1], [1, 3]], theta = (1, 1) / 4, mean .5, var .5."""
    learner = FullLinUCB(1, 2, prior=2.0)
    learner.update(0, [0, 1], [1.0, 1.0], 1.0)
    np.testing.assert_allclose(learner.theta, [[0.25, 0.25]])
    np.testing.assert_allclose(learner.posterior([0, 1], [1.0, 1.0]), [[0.5], [0.5]])


def test_slots_left_out_weigh_nothing():
    learner = FullLinUCB(2, 3)
    learner.update(1, [0, 1], [0.5, 1.0], 1.0)
    np.testing.assert_allclose(learner.scores([2, 0], [0.3, 0.7]), learner.scores([0, 1, 2], [0.7, 0.0, 0.3]))


def test_bad_updates_say_what_is_wrong_and_change_nothing():
    learner = FullLinUCB(2, 3)
    with pytest.raises(ValueError, match="slot must lie in"):
        learner.update(0, [3], [1.0], 1.0)
    with pytest.raises(ValueError, match="reward must be finite"):
        learner.update(0, [0], [1.0], float("nan"))
    with pytest.raises(ValueError, match="prior must be finite and > 0"):
        FullLinUCB(2, 3, prior=-1.0)
    assert not learner.theta.any()
