from dataclasses import replace

import numpy as np
import pytest

from offline_eval.estimators.cips import CIPS
from offline_eval.estimators.dr import DR
from offline_eval.intervals import interval
from offline_eval.intervals.base import Bounds
from offline_eval.intervals.confseq import path
from tests.offline_eval.evidence import drawn, evidence, moments


def logged(seed, n=4000, n_blocks=40, estimator=None, **more):
    weight, reward, truth, largest = drawn(np.random.default_rng(seed), n)
    return evidence(weight, reward, estimator, bounds=Bounds(largest, (0.0, 1.0)), n_blocks=n_blocks, **more), truth


def test_the_path_is_a_running_intersection_that_ends_at_the_interval():
    one, truth = logged(0)
    steps = path(one, 0.05)
    assert [n for n, _, _ in steps] == list(range(100, 4001, 100))
    lows, highs = np.array([low for _, low, _ in steps]), np.array([high for _, _, high in steps])
    assert (np.diff(lows) >= 0).all()
    assert (np.diff(highs) <= 0).all()
    assert (lows <= truth).all()
    assert (truth <= highs).all()
    made = interval("confseq", one)
    assert (made.low, made.high, made.method) == (lows[-1], highs[-1], "confseq")
    assert highs[-1] - lows[-1] < 0.12


def test_mirrored_rewards_swap_the_ends_of_every_step():
    weight, reward, _, largest = drawn(np.random.default_rng(1), 2000)
    bounds = Bounds(largest, (0.0, 1.0))
    ours, mirrored = (
        np.array(path(evidence(weight, r, bounds=bounds, n_blocks=20), 0.05)) for r in (reward, 1.0 - reward)
    )
    assert mirrored[:, 1:] == pytest.approx(1.0 - ours[:, :0:-1])


def test_scaled_and_shifted_rewards_scale_and_shift_the_path():
    weight, reward, _, largest = drawn(np.random.default_rng(2), 2000)
    ours = np.array(path(evidence(weight, reward, bounds=Bounds(largest, (0.0, 1.0)), n_blocks=20), 0.05))
    moved = evidence(weight, 4.0 * reward - 7.0, bounds=Bounds(largest, (-7.0, -3.0)), n_blocks=20)
    assert np.array(path(moved, 0.05))[:, 1:] == pytest.approx(4.0 * ours[:, 1:] - 7.0)


def test_a_step_depends_on_the_rounds_up_to_it_only():
    one, _ = logged(3)
    other, _ = logged(4)
    mixed = replace(one, blocks=[*one.blocks[:25], *other.blocks[25:]])
    assert path(mixed, 0.05)[:25] == path(one, 0.05)[:25]
    assert path(mixed, 0.05)[25:] != path(one, 0.05)[25:]


@pytest.mark.parametrize("estimator", [None, DR(), CIPS(1.0)])
def test_it_covers_at_every_step_at_once_on_200_logs(estimator):
    """At most alpha = .2 of the paths ever leave the truth, within three standard errors."""
    missed = 0
    for seed in range(200):
        one, truth = logged(1000 + seed, 1000, 50)
        if isinstance(estimator, DR):
            weight, reward, truth, largest = drawn(np.random.default_rng(2000 + seed), 1000)
            base = np.full(1000, 0.3)
            one = evidence(weight, reward - 0.3, estimator, base=base, bounds=Bounds(largest, (0.0, 1.0)), n_blocks=50)
        if isinstance(estimator, CIPS):
            weight, reward, _, _ = drawn(np.random.default_rng(2000 + seed), 1000)
            target = np.linspace(1, 3, 5) / 10
            truth = float(np.minimum(5 * target, 1.0) @ np.linspace(0.6, 0.1, 5)) / 5
            one = evidence(np.minimum(weight, 1.0), reward, estimator, bounds=Bounds(1.0, (0.0, 1.0)), n_blocks=50)
        missed += any(not low <= truth <= high for _, low, high in path(one, 0.2))
    assert missed / 200 <= 0.2 + 3 * np.sqrt(0.2 * 0.8 / 200)


def test_weights_beyond_w_max_do_not_break_the_weighted_form():
    """w_max tunes only: told 1 where weights reach 40, the sequence still covers on 100 logs."""
    random, missed = np.random.default_rng(6), 0
    for _ in range(100):
        weight = 40.0 * (random.random(2000) < 1 / 40)
        reward = (random.random(2000) < 0.5).astype(float)
        one = evidence(weight, reward, bounds=Bounds(1.0, (0.0, 1.0)), n_blocks=50)
        missed += any(not low <= 0.5 <= high for _, low, high in path(one, 0.1))
    assert missed <= 10 + 9


def test_a_value_that_drifts_is_said_to_drift():
    random = np.random.default_rng(7)
    reward = np.concatenate([random.random(20_000) < 0.05, random.random(60_000) < 0.95]).astype(float)
    made = interval("confseq", evidence(np.ones(80_000), reward, n_blocks=200))
    assert made.flags[0] == "its intervals have no value in common: the target's value drifts"
    assert made.low <= made.high


def test_blocks_of_two_shards_merge_to_those_of_the_whole():
    weight, reward, _, largest = drawn(np.random.default_rng(8), 1000)
    columns = np.stack([np.zeros(1000), weight, weight * reward])
    whole = evidence(weight, reward, bounds=Bounds(largest, (0.0, 1.0)))
    blocks, halves = [], []
    for part in np.array_split(np.arange(1000), 10):
        blocks.append(moments(columns[:, part]))
        half = moments(columns[:, part[::2]])
        half.merge(moments(columns[:, part[1::2]]))
        halves.append(half)
    ours, theirs = (np.array(path(replace(whole, blocks=one), 0.05)) for one in (halves, blocks))
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_what_it_rests_on_is_said():
    one, _ = logged(9, n_blocks=0)
    assert interval("confseq", one).flags == ("the log was taken as one block",)
    residual, _ = logged(9, estimator=DR(), base=np.zeros(4000), user=np.arange(4000))
    assert interval("confseq", residual).flags == (
        "a cross-fitted model has seen later rounds: anytime-valid only approximately",
        "takes the rounds of a cluster as independent",
    )
    assumed = replace(one, bounds=Bounds(5.0, (0.0, 1.0), ("w_max assumed: 5", "reward range assumed: [0, 1]")))
    assert "reward range assumed: [0, 1]" in interval("confseq", assumed).flags
    assert "w_max assumed: 5" not in interval("confseq", assumed).flags
