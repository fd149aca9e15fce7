"""Learning policies from their text."""

from __future__ import annotations

import numpy as np
import pytest

from bandits import DiagLinUCB
from bandits.sampling import Sampler
from bandits.simulation.policy import Request
from offline_eval.learners import is_learner, learner


def request() -> Request:
    return Request(0, np.array([0, 1]), np.array([1.0, 0.5]), np.array([2, 0, 1]))


def test_probabilities_are_those_of_the_surface_defaults():
    """alpha .3, variant centred, prior 1, Plackett-Luce at .02 with epsilon .01; rewards over the scale."""
    player = learner("diag_linucb", 3, 2, scale=10.0)
    same = DiagLinUCB(3, 2, alpha=0.3, variant="centred", prior=1.0)
    for arm, reward in ((0, 10.0), (1, 5.0), (0, 8.0)):
        player.learn(request(), arm, reward)
        same.update(arm, [0, 1], [1.0, 0.5], reward / 10.0)
    score = same.scores([0, 1], [1.0, 0.5])[[2, 0, 1]].astype(np.float32)
    np.testing.assert_array_equal(player.probabilities(request()), Sampler().first_position(score))


def test_options_go_to_the_learner_and_to_the_sampler():
    player = learner("full_linucb:alpha=0,prior=2,sampler=top_m_uniform,m=2,epsilon=0", 3, 2, scale=1.0)
    player.learn(request(), 2, -1.0)
    assert player.probabilities(request()).tolist() == [0.0, 0.5, 0.5]
    assert player.sampler == Sampler("top_m_uniform", m=2, epsilon=0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform", "a learning policy is diag_linucb or full_linucb, got 'uniform'"),
        ("diag_linucb:alpha", "policy options are key=value"),
        ("diag_linucb:temperature", "policy options are key=value, each once, got 'temperature'"),
        ("diag_linucb:epsilon=0,epsilon=1", "policy options are key=value, each once, got 'epsilon=1'"),
        ("diag_linucb:temperature=hot", "policy option temperature must be a number, got 'hot'"),
        ("diag_linucb:temperature=0", "temperature must be a finite number"),
        ("diag_linucb:variant=new", "variant must be one of published, centred, weights, got 'new'"),
        ("diag_linucb:beta=1", "policy diag_linucb takes alpha, prior, variant, got 'beta'"),
        ("full_linucb:variant=centred", "policy full_linucb takes alpha, prior, got 'variant'"),
        ("diag_linucb:sampler=best", "kind must be one of"),
        ("diag_linucb:alpha=-1", "alpha must be finite and >= 0"),
    ],
)
def test_a_bad_text_is_told_in_words(text, message):
    with pytest.raises(ValueError, match=message):
        learner(text, 3, 2, 1.0)


def test_a_table_beyond_memory_is_refused():
    with pytest.raises(ValueError, match="1,000 actions x 1,001 slots in 1,002,001,000 numbers, at most 100,000,000"):
        learner("full_linucb", 1_000, 1_001, 1.0)
    with pytest.raises(ValueError, match="at most 100,000,000"):
        learner("diag_linucb", 1_000_000, 101, 1.0)


def test_only_learners_learn():
    assert is_learner("diag_linucb:alpha=1")
    assert is_learner("full_linucb")
    assert not is_learner("constant:diag_linucb")
