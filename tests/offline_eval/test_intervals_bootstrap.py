from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from offline_eval.estimators.ips import IPS
from offline_eval.estimators.snips import SNIPS
from offline_eval.intervals import interval
from offline_eval.intervals.base import Clusters
from offline_eval.intervals.bootstrap import GROUPS, MAX_UNITS, bca_levels, group_of, resampled
from tests.offline_eval.evidence import drawn, evidence


def grouped(one, keys, columns):
    return replace(one, groups=Clusters.of(keys, columns.T))


def test_without_bias_or_skew_the_levels_are_those_of_alpha():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert bca_levels(values, 2.5, np.array([-1.0, 1.0]), 0.05) == pytest.approx([0.025, 0.975])


def test_levels_shift_with_bias_and_skew_by_hand():
    """3 of 4 values lie below: z0 = .6745. Influence -1, -1, 2: a = 6 / (6 * 6^1.5) = .06804."""
    values = np.array([1.0, 2.0, 3.0, 4.0])
    z = norm.ppf(0.75) + norm.ppf([0.025, 0.975])
    expected = norm.cdf(norm.ppf(0.75) + z / (1 - 6**-1.5 * z))
    assert bca_levels(values, 3.5, np.array([-1.0, -1.0, 2.0]), 0.05) == pytest.approx(expected)


def test_resampled_means_vary_as_the_mean_does():
    """Units of sums (1, 0, 1, x), x = 0 or 1: a mean of 400 has variance .25 / 400."""
    x = np.tile([0.0, 1.0], 200)
    values = resampled(IPS(), np.stack([np.ones(400), np.zeros(400), np.ones(400), x], axis=1), 0)
    assert len(values) == 2000
    assert values.mean() == pytest.approx(0.5, abs=0.003)
    assert values.var() == pytest.approx(0.25 / 400, rel=0.1)


def test_one_seed_makes_one_interval_and_another_a_like_one():
    weight, reward, _, _ = drawn(np.random.default_rng(0), 500)
    one = evidence(weight, reward, SNIPS(), user=np.arange(500))
    first, again, other = (interval("bootstrap", one, 0.05, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.method == "bootstrap of clusters, BCa"
    assert other != first
    assert other.low == pytest.approx(first.low, abs=0.01)


def test_users_with_many_rounds_count_once():
    """Every round ten times: by round the error would be 3.16 times too small."""
    weight, reward, _, _ = drawn(np.random.default_rng(1), 300)
    alone = interval("bootstrap", evidence(weight, reward, user=np.arange(300)), 0.05, 0)
    user = np.repeat(np.arange(300), 10)
    copies = interval("bootstrap", evidence(np.repeat(weight, 10), np.repeat(reward, 10), user=user), 0.05, 0)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))


def test_groups_of_rounds_give_the_normal_interval_of_independent_rounds():
    weight, reward, _, _ = drawn(np.random.default_rng(2), 20_000)
    one = evidence(weight, reward)
    z = np.stack([np.ones(20_000), np.zeros(20_000), weight, weight * reward])
    made = interval("bootstrap", grouped(one, group_of(np.arange(20_000)), z))
    normal = interval("normal", one)
    assert made.method == "bootstrap of groups of rounds, BCa"
    assert made.high - made.low == pytest.approx(normal.high - normal.low, rel=0.1)
    assert made.low == pytest.approx(normal.low, abs=0.1 * (normal.high - normal.low))


def test_rows_are_dealt_evenly_and_otherwise_in_each_shard():
    rows = np.arange(100 * GROUPS)
    sizes = np.bincount(group_of(rows).astype(int), minlength=GROUPS)
    assert len(sizes) == GROUPS
    assert 50 < sizes.min() < sizes.max() < 160
    assert (group_of(rows, 1) != group_of(rows)).mean() > 0.99


def test_more_users_than_can_be_drawn_are_dealt_into_groups_and_that_is_said():
    n = MAX_UNITS + 1000
    weight, reward, _, _ = drawn(np.random.default_rng(3), n)
    one = evidence(weight, reward, user=np.arange(n) * 7919)
    made, normal = interval("bootstrap", one), interval("normal", one)
    assert f"{n} clusters drawn in {MAX_UNITS} groups" in made.flags
    assert made.high - made.low == pytest.approx(normal.high - normal.low, rel=0.1)


def test_without_anything_to_draw_from_it_is_the_normal_interval_and_says_so():
    weight, reward, _, _ = drawn(np.random.default_rng(4), 100)
    made = interval("bootstrap", evidence(weight, reward))
    assert made.method == "normal"
    assert made.flags[0] == "bootstrap needs users, groups of rounds or 40 blocks, and has none"


def test_resamples_without_weight_are_left_out_and_counted():
    weight, reward = np.zeros(50), np.ones(50)
    weight[0] = 50.0
    made = interval("bootstrap", evidence(weight, reward, SNIPS(), user=np.arange(50)), 0.05, 0)
    assert (made.low, made.high) == (1.0, 1.0)
    (said,) = (flag for flag in made.flags if "had no weight" in flag)
    assert int(said.split()[0]) == pytest.approx(2000 * 0.98**50, rel=0.1)
    assert any("too narrow" in flag for flag in made.flags)


def test_it_covers_the_truth_on_200_logs_of_an_easy_world():
    random, covered = np.random.default_rng(5), []
    for seed in range(200):
        weight, reward, truth, _ = drawn(random, 100)
        made = interval("bootstrap", evidence(weight, reward, user=np.arange(100)), 0.05, seed)
        covered.append(made.low <= truth <= made.high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)
