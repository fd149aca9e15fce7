import numpy as np
import pytest
from scipy.stats import t

from offline_eval.estimators.base import Split
from offline_eval.estimators.dm import DM
from offline_eval.estimators.dr import DR
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.snips import SNIPS
from offline_eval.intervals.base import Bounds
from offline_eval.intervals.paired import PairedMoments


def weighted(weight, reward):
    weight = np.asarray(weight, float)
    return Split(np.zeros(len(weight)), weight, np.asarray(reward, float))


def log(seed, n=400):
    """Two targets on one uniform log of five actions, and its rewards."""
    random = np.random.default_rng(seed)
    action = random.integers(0, 5, n)
    first, second = np.array([0.5, 0.2, 0.1, 0.1, 0.1]), np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    chance = np.array([0.6, 0.5, 0.4, 0.3, 0.2])
    reward = (random.random(n) < chance[action]).astype(float)
    return 5 * first[action], 5 * second[action], reward, float((first - second) @ chance)


def test_a_difference_of_four_rounds_by_hand():
    """Terms of a 2, 0, 2, 0, of b 1, 1, 1, 1: differences 1, -1, 1, -1, mean 0, error sqrt(1 / 4)."""
    paired = PairedMoments(IPS(), IPS())
    paired.add(weighted([2, 0, 2, 0], [1, 1, 1, 1]), weighted([1, 1, 1, 1], [1, 1, 1, 1]))
    found = paired.difference()
    assert found.value == 0.0
    assert found.standard_error == pytest.approx(0.5)
    assert found.interval == pytest.approx((-t.ppf(0.975, 3) / 2, t.ppf(0.975, 3) / 2))
    assert (found.estimator, found.interval_method) == ("ips - ips", "normal, paired")


@pytest.mark.parametrize("estimator", [IPS(), SNIPS()])
def test_a_policy_differs_from_itself_by_nothing(estimator):
    first, _, reward, _ = log(0)
    paired = PairedMoments(estimator, estimator)
    paired.add(weighted(first, reward), weighted(first, reward))
    found = paired.difference()
    assert found.value == 0.0
    assert found.interval == pytest.approx((0.0, 0.0), abs=1e-7)


@pytest.mark.parametrize(("a", "b"), [(IPS(), IPS()), (SNIPS(), SNIPS()), (DR(), SNIPS())])
def test_value_and_error_are_those_of_the_rounds_differences(a, b):
    """The influence of a round on the difference is the difference of its influences on each."""
    first, second, reward, _ = log(1)
    model = 0.4 if isinstance(a, DR) else 0.0
    split_a, split_b = Split(np.full(400, model), first, reward - model), weighted(second, reward)
    paired = PairedMoments(a, b)
    paired.add(split_a, split_b)
    influences, values = [], []
    for estimator, split in ((a, split_a), (b, split_b)):
        scale = split.weight.mean() if estimator.self_normalised else 1.0
        value = (split.base + split.weight * split.error / scale).mean()
        whole = split.weight * (split.error - value) / scale if estimator.self_normalised else None
        influences.append(split.base + split.weight * split.error - value if whole is None else whole)
        values.append(value)
    difference = influences[0] - influences[1]
    found = paired.difference()
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.standard_error == pytest.approx(difference.std() / 20)


def test_swapped_policies_mirror_the_interval():
    first, second, reward, _ = log(2)
    ours, theirs = PairedMoments(IPS(), SNIPS()), PairedMoments(SNIPS(), IPS())
    ours.add(weighted(first, reward), weighted(second, reward))
    theirs.add(weighted(second, reward), weighted(first, reward))
    low, high = ours.difference().interval
    assert theirs.difference().interval == pytest.approx((-high, -low))


def test_merged_shards_are_the_union_counts_and_users_too():
    first, second, reward, _ = log(3)
    user, count = np.arange(400, dtype=np.uint64) % np.uint64(90), np.tile([1.0, 2.0], 200)
    whole, left, right = (PairedMoments(SNIPS(), IPS()) for _ in range(3))
    for paired, rows in ((whole, slice(None)), (left, slice(0, 150)), (right, slice(150, None))):
        a, b = weighted(first[rows], reward[rows]), weighted(second[rows], reward[rows])
        paired.add(a, b, count[rows], user[rows])
    left.merge(right)
    ours, theirs = left.difference(), whole.difference()
    assert ours.interval == pytest.approx(theirs.interval)
    assert ours.interval_method == "normal, paired, clustered"


def test_what_is_common_to_both_cancels():
    """Shared rounds: the paired interval is far narrower than that of two independent logs."""
    first, second, reward, _ = log(4)
    paired = PairedMoments(IPS(), IPS())
    paired.add(weighted(first, reward), weighted(second, reward))
    apart = np.hypot((first * reward).std(), (second * reward).std()) / 20
    assert paired.difference().standard_error < 0.5 * apart


@pytest.mark.parametrize("method", ["normal", "empirical-bernstein"])
def test_differences_are_covered_on_300_logs(method):
    covered = []
    for seed in range(300):
        first, second, reward, truth = log(100 + seed)
        paired = PairedMoments(IPS(), IPS())
        paired.add(weighted(first, reward), weighted(second, reward))
        low, high = paired.difference(0.05, method, Bounds(2.5, (0.0, 1.0))).interval
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300)


def test_doubts_about_either_policy_are_flagged():
    rare = np.zeros(400)
    rare[:20] = 20.0
    _, second, reward, _ = log(5)
    paired = PairedMoments(IPS(), DM())
    paired.add(weighted(rare, reward), Split(second * 0.1, np.zeros(400), np.zeros(400)), user=np.arange(400) % 30)
    assert paired.difference().flags == (
        "low ess of the first: 20 is below 100, too narrow an interval",
        "covers the reward model's own value for the second, not its error",
        "few clusters: 30 are below 40, too narrow an interval",
    )


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="needs rounds"):
        PairedMoments(IPS(), IPS()).difference()
    paired = PairedMoments(SNIPS(), IPS())
    paired.add(weighted([1, 1], [0, 1]), weighted([1, 1], [0, 1]))
    with pytest.raises(ValueError, match="two estimators that are means"):
        paired.difference(method="empirical-bernstein", bounds=Bounds(1.0, (0.0, 1.0)))
