"""Objectives of policy learning: by hand, and their gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.ad_load import softmax
from offline_eval.learning.linear import fit_linear, value_and_gradient
from offline_eval.learning.objective import ClippedIps, DoublyRobust, SelfNormalised
from offline_eval.learning.study import Task
from tests.offline_eval.learning_logs import random_task

OBJECTIVES = {
    "dr": lambda task: DoublyRobust(task, 1.0),
    "dr without penalty": lambda task: DoublyRobust(task, 0.0),
    "clipped ips": lambda task: ClippedIps(task, 1.0, 3.0),
    "snips": lambda task: SelfNormalised(task, 1.0),
    "snips without penalty": lambda task: SelfNormalised(task, 0.0),
}


def small_task() -> Task:
    """Loads 0 and 1 logged with .5 and .25, rewards 1 and 2, q = (1, 0) and (0, 3)."""
    return Task(
        z=np.zeros((2, 1)),
        allowed=np.ones((2, 2), bool),
        action=np.array([0, 1]),
        propensity=np.array([0.5, 0.25]),
        reward=np.array([1.0, 2.0]),
        q=np.array([[1.0, 0.0], [0.0, 3.0]]),
    )


EVEN = np.full((2, 2), 0.5)


def test_the_doubly_robust_objective_by_hand():
    """Pseudo rewards (1, 0) and (0, 3 - 1 / .25 = -1): terms .5 and -.5, mean 0, sd .5, less .5 / sqrt 2."""
    np.testing.assert_allclose(small_task().pseudo_rewards, [[1.0, 0.0], [0.0, -1.0]])
    assert DoublyRobust(small_task(), 0.0)(EVEN)[0] == pytest.approx(0.0)
    assert DoublyRobust(small_task(), 1.0)(EVEN)[0] == pytest.approx(-0.5 / np.sqrt(2))


def test_clipped_ips_by_hand():
    """Weights 1 and 2, the second clipped at 1.5: terms 1 and 3, mean 2, sd 1; more of the clipped load earns 0."""
    value, slope = ClippedIps(small_task(), 1.0, 1.5)(EVEN)
    assert value == pytest.approx(2.0 - 1.0 / np.sqrt(2))
    assert slope[1].tolist() == [0.0, 0.0]
    assert ClippedIps(small_task(), 0.0, 9.0)(EVEN)[0] == pytest.approx((1 + 4) / 2)


def test_snips_by_hand():
    """(1 * 1 + 2 * 2) / 3 = 5/3; influences (1 - 5/3) / 1.5 and 2 (2 - 5/3) / 1.5, both of size 4/9."""
    assert SelfNormalised(small_task(), 0.0)(EVEN)[0] == pytest.approx(5 / 3)
    assert SelfNormalised(small_task(), 1.0)(EVEN)[0] == pytest.approx(5 / 3 - 4 / 9 / np.sqrt(2))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_differences(name, seed):
    """Central differences of step 1e-6, to 1e-6 of the largest entry."""
    task = random_task(seed)
    objective = OBJECTIVES[name](task)
    design = np.column_stack([task.z, np.ones(len(task.z))])
    theta = np.random.default_rng(seed).normal(0, 0.5, (3, 4))
    _, gradient = value_and_gradient(theta, design, task, objective)
    step = 1e-6
    for place in np.ndindex(theta.shape):
        moved = np.zeros_like(theta)
        moved[place] = step
        high, low = (value_and_gradient(theta + one, design, task, objective)[0] for one in (moved, -moved))
        assert (high - low) / (2 * step) == pytest.approx(gradient[place], abs=1e-6 * max(1.0, np.abs(gradient).max()))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fitting_raises_the_objective_above_the_even_policy_and_what_chance_finds(name):
    task = random_task(11, m=200)
    objective = OBJECTIVES[name](task)
    model = fit_linear(task, objective)
    found = objective(softmax(model.scores(task.z), task.allowed))[0]
    rng = np.random.default_rng(0)
    others = [np.zeros((200, 3)), *(task.z @ rng.normal(size=(3, 3)) for _ in range(20))]
    assert found > max(objective(softmax(score, task.allowed))[0] for score in others)


def test_loads_that_are_not_allowed_have_no_part_in_the_gradient():
    """Where one load is allowed there is nothing to learn."""
    task = random_task(3)
    only = np.zeros_like(task.allowed)
    only[np.arange(len(only)), task.action] = True
    alone = Task(task.z, only, task.action, task.propensity, task.reward, task.q)
    design = np.column_stack([task.z, np.ones(len(task.z))])
    for make in OBJECTIVES.values():
        _, gradient = value_and_gradient(np.ones((3, 4)), design, alone, make(alone))
        ridge = np.zeros((3, 4))
        ridge[:, :-1] = -1e-5
        np.testing.assert_allclose(gradient, ridge, atol=1e-15)
