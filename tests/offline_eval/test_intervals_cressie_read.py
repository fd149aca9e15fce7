import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import f

from offline_eval.estimators.cips import CIPS
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.snips import SNIPS
from offline_eval.intervals import interval
from offline_eval.intervals.base import Bounds
from tests.offline_eval.evidence import drawn, evidence

seeds = st.integers(0, 2**32 - 1)


def small(seed, low=0.0, high=1.0):
    """Few weights of a mean near 1, rewards between low and high, and w_max."""
    random = np.random.default_rng(seed)
    n = int(random.integers(4, 12))
    return random.exponential(1.0, n), random.uniform(low, high, n), 8.0 + random.random()


def ends(weight, reward, largest, limits=(0.0, 1.0), alpha=0.05, estimator=None):
    made = interval("cressie-read", evidence(weight, reward, estimator, bounds=Bounds(largest, limits)), alpha)
    return np.array([made.low, made.high])


def cheapest(w):
    """Least sum of u^2 with sum u = 0 and mean of (1 + u) w = 1: a linear least-squares problem."""
    rules = np.stack([np.ones(len(w)), w])
    u = np.linalg.lstsq(rules, np.array([0.0, len(w) - w.sum()]), rcond=None)[0]
    return u @ u, u


def extreme(w, v, side, radius):
    """Least or greatest mean of v under the rules, by sequential quadratic programming."""
    count = len(w)
    rules = [
        {"type": "eq", "fun": lambda u: u.sum()},
        {"type": "eq", "fun": lambda u: (1 + u) @ w / count - 1},
        {"type": "ineq", "fun": lambda u: radius - u @ u},
    ]
    _, start = cheapest(w)
    found = minimize(
        lambda u: -side * ((1 + u) @ v) / count,
        start,
        jac=lambda u: -side * v / count,
        constraints=rules,
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    u = found.x
    assert max(abs(u.sum()), abs((1 + u) @ w / count - 1), u @ u - radius) < 1e-7
    return -side * found.fun


@pytest.mark.parametrize("seed", range(20))
def test_the_closed_form_is_the_optimum_that_a_solver_finds(seed):
    w, r, largest = small(seed)
    n = len(w)
    expected = []
    for bound, side in ((0.0, -1), (1.0, 1)):
        completions = [(np.append(w, x), np.append(w * r, x * bound)) for x in (0.0, 1.0, largest)]
        costs = [cheapest(one)[0] for one, _ in completions]
        radius = min(costs) + f.ppf(0.95, 1, n - 1)
        found = [
            extreme(one, v, side, radius)
            for (one, v), cost in zip(completions, costs, strict=True)
            if cost <= radius - 1e-9
        ]
        expected.append(side * max(side * value for value in found))
    assert ends(w, r, largest) == pytest.approx(np.clip(expected, 0.0, 1.0), abs=1e-6)


@given(seeds, st.floats(0.1, 50.0), st.floats(-20.0, 20.0))
def test_scaled_and_shifted_rewards_scale_and_shift_the_ends(seed, scale, shift):
    w, r, largest = small(seed)
    moved = ends(w, scale * r + shift, largest, (shift, scale + shift))
    assert moved == pytest.approx(scale * ends(w, r, largest) + shift, abs=1e-6 * (scale + abs(shift)))


@given(seeds)
def test_mirrored_rewards_swap_the_ends(seed):
    w, r, largest = small(seed)
    assert ends(w, 1.0 - r, largest) == pytest.approx(1.0 - ends(w, r, largest)[::-1], abs=1e-7)


@given(seeds, st.sampled_from([0.01, 0.05, 0.3]))
def test_ends_are_ordered_within_the_range_of_rewards_and_nested_in_alpha(seed, alpha):
    w, r, largest = small(seed, 2.0, 3.0)
    low, high = ends(w, r, largest, (2.0, 3.0), alpha)
    wider = ends(w, r, largest, (2.0, 3.0), alpha / 2)
    assert 2.0 <= wider[0] <= low <= high <= wider[1] <= 3.0


def test_on_a_large_log_it_is_the_normal_interval_around_the_regression_estimate():
    """On 200,000 rounds of weights up to 2.5, the completing round and the quantile's degrees hardly matter."""
    w, r, truth, largest = drawn(np.random.default_rng(0), 200_000)
    v = w * r
    slope = np.cov(w, v)[0, 1] / w.var()
    middle = v.mean() + slope * (1 - w.mean())
    half = 1.959964 * (v - slope * w).std() / np.sqrt(len(w))
    assert ends(w, r, largest) == pytest.approx([middle - half, middle + half], abs=2e-5)
    assert middle - half < truth < middle + half


def test_it_is_the_same_for_ips_and_snips_and_holds_both():
    w, r, _, largest = drawn(np.random.default_rng(1), 2000)
    low, high = ends(w, r, largest)
    assert (ends(w, r, largest, estimator=SNIPS()) == [low, high]).all()
    for estimator in (IPS(), SNIPS()):
        assert low < evidence(w, r, estimator).value < high


def test_heavy_weights_that_were_not_drawn_leave_everything_possible():
    """The target's only action has probability 1 / 510: 300 rounds without it say nothing."""
    w = np.append(np.zeros(299), 1e-9)
    assert ends(w, np.ones(300), 510.0) == pytest.approx([0.0, 1.0], abs=1e-6)


def test_on_policy_it_is_an_interval_of_the_mean_reward():
    """pi = pi0, w_max = 1: w never varies, and one more round with reward 0 or 1 is all that is added."""
    r = np.tile([0.0, 1.0, 1.0, 0.0, 1.0], 100)
    low, high = ends(np.ones(500), r, 1.0)
    quantile = f.ppf(0.95, 1, 499)
    for end, extra, side in ((low, 0.0, -1), (high, 1.0, 1)):
        whole = np.append(r, extra)
        assert end == pytest.approx(whole.mean() + side * whole.std() * np.sqrt(quantile / 501))


@pytest.mark.parametrize("reward", [0.0, 0.4, 1.0])
def test_equal_rewards_leave_the_doubt_about_the_round_that_was_not_drawn(reward):
    w, _, _, largest = drawn(np.random.default_rng(2), 1000)
    low, high = ends(w, np.full(1000, reward), largest)
    assert low <= reward <= high
    assert 0 < high - low < 0.02


def test_on_policy_with_a_larger_w_max_all_good_rewards_obey_the_rule_of_three():
    """1,000 successes of 1,000: the classical 95 % bound on failures is 3 / 1,000."""
    low, high = ends(np.ones(1000), np.ones(1000), 5.0)
    assert low == pytest.approx(0.997, abs=1e-4)
    assert high == 1.0


def test_equal_weights_that_cannot_have_mean_1_say_that_propensities_are_wrong():
    made = interval("cressie-read", evidence([0.5] * 50, [1.0] * 50, bounds=Bounds(0.5, (0.0, 1.0))))
    assert (made.low, made.high) == (0.0, 1.0)
    assert made.flags[0] == "no weights up to w_max have mean 1: wrong propensities or w_max"


def test_a_weight_beyond_w_max_is_used_and_flagged():
    w, r, _, _ = drawn(np.random.default_rng(3), 500)
    low = interval("cressie-read", evidence(w, r, bounds=Bounds(0.7, (0.0, 1.0))))
    assert "w_max 0.7 is below a weight in the log" in low.flags[0]
    assert low.high - low.low > 0.05


def test_clipped_weights_need_no_mean_of_1_and_say_what_is_covered():
    """Clipped at 1, weights 0 and 5 have a mean near .2: the estimate's own expectation is covered."""
    random = np.random.default_rng(4)
    covered = []
    for _ in range(200):
        w = np.minimum(5.0 * (random.random(400) < 0.2), 1.0)
        r = (random.random(400) < 0.5).astype(float)
        made = interval("cressie-read", evidence(w, r, CIPS(1.0), bounds=Bounds(1.0, (0.0, 1.0))))
        covered.append(made.low <= 0.1 <= made.high)
    assert np.mean(covered) >= 0.91
    assert made.flags == ("covers the expectation of the estimate, not its bias",)
    assert made.high < 0.2


@pytest.mark.parametrize(("hit", "n"), [(1.0, 300), (1 / 510, 1000)])
def test_it_covers_the_truth_on_200_logs_with_light_and_with_heavy_weights(hit, n):
    random = np.random.default_rng(5)
    covered = []
    for _ in range(200):
        taken = random.random(n) < hit
        w, r, truth, largest = drawn(random, n) if hit == 1.0 else (taken / hit, random.random(n) < 0.3, 0.3, 1 / hit)
        low, high = ends(w, r, largest)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 200)
