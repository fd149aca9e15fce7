"""Diag-LinUCB replayed by kernels, the same kernels interpreted, and the learner asked row by row."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.arrays import F64
from bandits.errors import UsageError
from bandits.kernels import replay as kernels
from bandits.kernels import running
from bandits.simulation.policy import Learning, Request
from offline_eval.learners import LearningPlayer, learner
from offline_eval.replay.compiled import Compiled
from offline_eval.replay.doubly_robust import DoublyRobust
from offline_eval.replay.model import running_model
from offline_eval.replay.player import Player
from offline_eval.replay.rejection import Rejection
from offline_eval.replay.rows import Lists, Rows, Slots

N_ACTIONS, N_SLOTS = 70, 9
POLICIES = [
    "diag_linucb:temperature=.1",
    "diag_linucb:variant=published,alpha=1,prior=.5,temperature=.1,epsilon=.2",
    "diag_linucb:variant=weights,sampler=top_m_uniform,m=3,epsilon=.1",
    "diag_linucb:alpha=0,sampler=greedy",
    "diag_linucb:sampler=uniform",
]


class RowByRow:
    """The player, as one that no kernel knows."""

    def __init__(self, player: Player) -> None:
        self._player = player

    def probabilities(self, request: Request) -> F64:
        return self._player.probabilities(request)

    def learn(self, request: Request, action: int, reward: float) -> None:
        self._player.learn(request, action, reward)


def player(policy: str) -> LearningPlayer:
    return learner(policy, N_ACTIONS, N_SLOTS, 2.0)


def log(seed: int, n: int, slots: int, *, weights: tuple[float, ...] = (1.0,), uniform: bool = False) -> Rows:
    """n rows of up to 70 candidates, some unknown (then all 70), and contexts of at most so many slots."""
    rng = np.random.default_rng(seed)
    known = rng.random(n) < 0.9
    lists = [rng.choice(N_ACTIONS, rng.integers(1, N_ACTIONS), replace=False) if one else np.arange(0) for one in known]
    size = np.array([len(one) if len(one) else N_ACTIONS for one in lists])
    chosen = np.array([rng.choice(one) if len(one) else rng.integers(N_ACTIONS) for one in lists])
    contexts = [rng.choice(N_SLOTS, rng.integers(1, slots + 1), replace=False) for _ in range(n)]
    start = np.concatenate([[0], np.cumsum([len(one) for one in contexts])])
    weight = rng.choice(weights, start[-1]) if weights else rng.normal(size=start[-1])
    candidates = Lists(np.concatenate([[0], np.cumsum([len(one) for one in lists])]), np.concatenate(lists), known)
    propensity = 1.0 / size if uniform else np.minimum(rng.uniform(0.2, 3.0, n) / size, 1.0)
    reward = rng.choice([-1.0, 0.0, 2.0], n)
    return Rows(chosen, reward, propensity, N_ACTIONS, Slots(start, np.concatenate(contexts), weight), candidates)


def robust(one: Player, rows: Rows) -> DoublyRobust:
    way = DoublyRobust(one, running_model(N_ACTIONS, N_SLOTS), np.random.default_rng(3))
    way.play(rows)
    return way


def rejected(one: Player, rows: Rows) -> Rejection:
    way = Rejection(one, np.random.default_rng(3))
    way.play(rows)
    return way


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("play", [robust, rejected])
def test_kernels_and_the_learner_row_by_row_take_one_path(policy, play):
    """Contexts of a single slot: no sum can be rounded in two ways."""
    rows = log(1, 900, 1, weights=(1.0, -0.5, 3.0), uniform=play is rejected)
    fast, slow = player(policy), player(policy)
    one, other = play(fast, rows), play(RowByRow(slow), rows)
    assert one.matched == other.matched > 10
    assert (one.rewarded, one.largest_weight) == (other.rewarded, other.largest_weight)
    np.testing.assert_allclose(one.sums.moments.first, other.sums.moments.first, rtol=1e-12, atol=1e-12)
    assert isinstance(fast.policy, Learning)
    assert isinstance(slow.policy, Learning)
    for name in ("weight_sq_sum", "weight_sum", "reward_sum", "impressions", "total_reward"):
        np.testing.assert_array_equal(getattr(fast.policy.learner, name), getattr(slow.policy.learner, name))


@pytest.mark.parametrize("policy", POLICIES)
def test_contexts_of_many_slots_score_alike_to_a_rounding_of_float32(policy):
    """Then the player that a kernel taught is asked itself, at every row."""
    rows = log(2, 300, 6, weights=())
    taught = player(policy)
    compiled = Compiled.of(taught)
    assert compiled is not None
    compiled.reject(rows, np.zeros(300))
    learned, asked, scratch = compiled._arguments(rows)  # noqa: SLF001
    for i, (request, _) in enumerate(rows.requests()):
        score = scratch.score[: len(request.candidates)]
        kernels.score_row(i, asked, learned, score)
        np.testing.assert_allclose(score, taught.policy.scores(request), rtol=3e-7, atol=1e-7)
        probability = np.empty(len(score))
        kernels.first_position(score, learned, scratch, probability)
        np.testing.assert_allclose(probability, taught.sampler.first_position(score), rtol=1e-12)


@pytest.mark.parametrize("policy", POLICIES)
def test_compiled_and_interpreted_kernels_are_equal(monkeypatch, policy):
    rows, uniform = log(3, 120, 6, weights=()), log(4, 120, 6, weights=(), uniform=True)
    compiled = robust(player(policy), rows), rejected(player(policy), uniform)
    for module in (running, kernels):
        for name, kernel in list(vars(module).items()):
            if hasattr(kernel, "py_func") and kernel.__module__ == module.__name__:
                monkeypatch.setattr(module, name, kernel.py_func)
    for name in ("count_value", "quantile"):
        monkeypatch.setattr(kernels, name, getattr(running, name))
    for name in ("play_rejection", "play_robust"):
        monkeypatch.setattr(f"offline_eval.replay.compiled.{name}", getattr(kernels, name))
    monkeypatch.setattr("offline_eval.replay.model.play_ridge", running.play_ridge)
    assert not any(hasattr(one, "py_func") for one in (kernels.score_row, kernels.learn_row, running.play_ridge))
    interpreted = robust(player(policy), rows), rejected(player(policy), uniform)
    for one, other in zip(compiled, interpreted, strict=True):
        assert one.matched == other.matched
        np.testing.assert_allclose(one.sums.moments.first, other.sums.moments.first, rtol=1e-12, atol=1e-12)


def test_an_empty_context_scores_every_candidate_with_the_centre():
    """As on a surface: nothing but the mean reward is learned, here (2 / 2 + 0) / 2 in units of the scale."""
    slots = Slots(np.zeros(3, np.int64), np.empty(0, np.intp), np.empty(0))
    rows = Rows(np.array([4, 5]), np.array([2.0, 0.0]), np.full(2, 1 / 70), N_ACTIONS, slots)
    one = player("diag_linucb")
    compiled = Compiled.of(one)
    assert compiled is not None
    assert compiled.reject(rows, np.zeros(2)).all()
    request = next(rows.requests())[0]
    assert one.policy.scores(request).tolist() == [0.5] * N_ACTIONS
    np.testing.assert_allclose(one.probabilities(request), 1 / 70)


@pytest.mark.parametrize("policy", ["diag_linucb:alpha=1e300", "full_linucb:alpha=1e300"])
def test_scores_beyond_float32_are_told_in_one_line(policy):
    with pytest.raises(UsageError, match="--policy: a score is beyond float32; lower alpha, or raise prior"):
        rejected(player(policy), log(5, 20, 2))


def test_only_a_diag_linucb_whose_every_cell_exists_is_played_by_kernels():
    assert Compiled.of(player("full_linucb")) is None
    assert Compiled.of(RowByRow(player("diag_linucb"))) is None
    assert Compiled.of(player("diag_linucb")) is not None
