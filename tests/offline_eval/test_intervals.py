import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from offline_eval.estimators import ESTIMATORS
from offline_eval.estimators.cips import CIPS
from offline_eval.estimators.dm import DM
from offline_eval.estimators.dr import DR
from offline_eval.estimators.dros import DRos
from offline_eval.estimators.drps import DRps
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.sndr import SNDR
from offline_eval.estimators.snips import SNIPS
from offline_eval.estimators.switch_dr import SwitchDR
from offline_eval.intervals import DEFAULT, METHODS, interval
from offline_eval.intervals.base import Bounds
from offline_eval.intervals.reach import OF_EXPECTATION, OF_MODEL, Independent
from tests.offline_eval.evidence import drawn, evidence


def test_the_normal_interval_of_four_terms_by_hand():
    """Terms 0, 2, 0, 2: mean 1, variance 1 with n = 4 below, standard error 1 / 2."""
    made = interval("normal", evidence([2, 2, 2, 2], [0, 1, 0, 1]), 0.05)
    half = t.ppf(0.975, 3) / 2
    assert (made.low, made.high) == pytest.approx((1 - half, 1 + half))
    assert made.method == "normal"


def test_the_delta_method_of_snips_by_hand():
    """w = 1, 3, r = 0, 1: value 3/4; influence w (r - 3/4) / 2 = -3/8, 3/8; se = sqrt(2 (3/8)^2) / 2 = .2652."""
    made = interval("normal", evidence([1, 3], [0, 1], SNIPS()), 0.05)
    half = t.ppf(0.975, 1) * math.sqrt(2) * 3 / 8 / 2
    assert (made.low, made.high) == pytest.approx((0.75 - half, 0.75 + half))
    assert made.method == "normal, delta method"


def test_two_users_of_equal_rounds_are_two_observations():
    """User 7 has terms 1, 1, user 9 has 0, 0: the clustered error is sqrt(2 (2 (.5)^2 + ..)) / 4 = .5, df 1."""
    made = interval("normal", evidence([1] * 4, [1, 1, 0, 0], user=[7, 7, 9, 9]), 0.05)
    assert made.high - made.low == pytest.approx(2 * t.ppf(0.975, 1) * 0.5)
    assert made.method == "normal, clustered"
    assert any("few clusters: 2 are below 40" in flag for flag in made.flags)


def test_a_normal_interval_of_few_weights_is_flagged_with_numbers():
    random = np.random.default_rng(0)
    weight, reward, _, largest = drawn(random, 5000)
    sound = evidence(weight, reward, bounds=Bounds(largest, (0.0, 1.0)), ess=4000)
    assert interval("normal", sound).flags == ()
    assert "low ess: 12 is below 100" in interval("normal", replace(sound, ess=12.0)).flags[0]


def test_a_weight_that_was_possible_but_not_drawn_flags_the_normal_interval():
    random = np.random.default_rng(0)
    weight, reward, _, _ = drawn(random, 5000)
    (flag,) = interval("normal", evidence(weight, reward, bounds=Bounds(510.0, (0.0, 1.0)), ess=4000)).flags
    assert flag.startswith("one round can move it by 1")


def test_rewards_that_are_all_alike_flag_the_normal_interval():
    made = interval("normal", evidence([1.0] * 1000, [0.0] * 1000, ess=1000))
    assert made.low == made.high == 0.0
    assert "one round can move it by inf standard errors" in made.flags[0]


def test_empirical_bernstein_of_four_terms_by_hand():
    """Terms 0, 2, 0, 2 in [0, 4]: sample variance 4/3, ln(4 / .5) = 2.0794; unclipped in a range of [-9, 9]."""
    bounds = Bounds(4.0 / 9.0, (-9.0, 9.0))
    made = interval("empirical-bernstein", evidence([2, 2, 2, 2], [0, 1, 0, 1], bounds=bounds), 0.5)
    assert any("w_max 0.444444 is below a weight in the log: 2 is used" in flag for flag in made.flags)
    bounds = Bounds(2.0, (-9.0, 9.0))
    made = interval("empirical-bernstein", evidence([2, 2, 2, 2], [0, 1, 0, 1], bounds=bounds), 0.5)
    log = math.log(8)
    half = math.sqrt(2 * (4 / 3) * log / 4) + 7 * 36 * log / (3 * 3)
    assert (made.low, made.high) == pytest.approx((max(1 - half, -9), min(1 + half, 9)))
    many = evidence(np.full(40_000, 2.0), np.tile([0, 1], 20_000), bounds=bounds)
    made = interval("empirical-bernstein", many, 0.5)
    half = math.sqrt(2 * log / 39_999) + 7 * 36 * log / (3 * 39_999)
    assert (made.low, made.high) == pytest.approx((1 - half, 1 + half))


def test_the_range_of_terms_comes_from_the_bounds_and_not_from_the_sample():
    weight, reward, _, _ = drawn(np.random.default_rng(1), 2000)
    narrow, wide = (
        interval("empirical-bernstein", evidence(weight, reward, bounds=Bounds(largest, (0.0, 1.0))))
        for largest in (2.0, 20.0)
    )
    log, n = math.log(4 / 0.05), 2000
    assert wide.high - narrow.high == pytest.approx(7 * 18 * log / (3 * (n - 1)))


@pytest.mark.parametrize("method", list(METHODS))
def test_every_interval_is_wider_for_a_smaller_alpha(method):
    weight, reward, _, largest = drawn(np.random.default_rng(2), 3000)
    one = evidence(weight, reward, bounds=Bounds(largest, (0.0, 1.0)), n_blocks=60)
    made = [interval(method, one, alpha, 3) for alpha in (0.01, 0.05, 0.2)]
    assert made[0].low < made[1].low < made[2].low < made[2].high < made[1].high < made[0].high


@pytest.mark.parametrize("method", list(METHODS))
def test_intervals_of_merged_moments_are_those_of_the_union(method):
    weight, reward, _, largest = drawn(np.random.default_rng(3), 1000)
    bounds, user = Bounds(largest, (0.0, 1.0)), np.arange(1000) % 300
    whole = evidence(weight, reward, bounds=bounds, user=user, n_blocks=50)
    first = evidence(weight[:400], reward[:400], bounds=bounds, user=user[:400])
    second = evidence(weight[400:], reward[400:], bounds=bounds, user=user[400:])
    first.moments.merge(second.moments)
    merged = replace(first, clusters=first.clusters.merge(second.clusters), blocks=whole.blocks)
    ours, theirs = interval(method, merged, 0.05, 1), interval(method, whole, 0.05, 1)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert (ours.method, ours.flags) == (theirs.method, theirs.flags)


@pytest.mark.parametrize("method", list(METHODS))
def test_without_rounds_and_without_weight_the_interval_is_all_that_can_be(method):
    bounds = Bounds(5.0, (-1.0, 3.0), ("w_max assumed: 5",))
    nothing = interval(method, evidence([], [], bounds=bounds))
    assert (nothing.low, nothing.high, nothing.flags) == (-1.0, 3.0, ("no rounds", "w_max assumed: 5"))
    unmatched = interval(method, evidence([0, 0, 0], [1, 0, 1], bounds=bounds))
    assert (unmatched.low, unmatched.high) == (-1.0, 3.0)
    assert unmatched.flags[0].startswith("no weight: the log never takes what the target would")


@pytest.mark.parametrize("method", list(METHODS))
def test_one_round_is_no_ground_for_a_narrow_interval(method):
    made = interval(method, evidence([1.0], [1.0], bounds=Bounds(5.0, (0.0, 1.0))))
    assert made.high - made.low > 0.9


@pytest.mark.parametrize(
    ("asked", "estimator", "used"),
    [
        ("cressie-read", DR(), "normal"),
        ("cressie-read", SNDR(), "normal, delta method"),
        ("cressie-read", DM(), "normal"),
        ("cressie-read", SNIPS(), "cressie-read"),
        ("cressie-read", CIPS(2.0), "cressie-read"),
        ("empirical-bernstein", SNIPS(), "normal, delta method"),
        ("empirical-bernstein", DR(), "empirical-bernstein"),
        ("confseq", SNDR(), "normal, delta method"),
        ("confseq", SNIPS(), "confseq"),
        ("bootstrap", SNDR(), "bootstrap of blocks of rounds, BCa"),
    ],
)
def test_what_was_used_is_named_and_why_it_is_not_what_was_asked_for(asked, estimator, used):
    weight, reward, _, _ = drawn(np.random.default_rng(4), 500)
    made = interval(asked, evidence(weight, reward, estimator, base=np.full(500, 0.1), n_blocks=50))
    assert made.method == used
    said = [flag for flag in made.flags if flag == f"{asked} does not hold for this form of estimator"]
    assert len(said) == (not used.startswith(asked) and asked != DEFAULT)


def test_bounds_that_are_not_finite_leave_the_normal_interval():
    weight, reward, _, _ = drawn(np.random.default_rng(5), 500)
    made = interval("cressie-read", evidence(weight, reward, bounds=Bounds(math.inf, (0.0, 1.0))))
    assert made.method == "normal"
    assert made.flags[0] == "cressie-read needs a finite w_max and range of rewards"


def test_unknown_methods_and_levels_are_refused():
    one = evidence([1.0, 1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="interval must be one of normal, bootstrap, .*, got 'student'"):
        interval("student", one)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0, 1\), got 1"):
        interval("normal", one, 1.0)


def test_every_estimator_has_an_interval_by_every_method_asked_for():
    weight, reward, _, largest = drawn(np.random.default_rng(6), 400)
    for kind, estimator in ESTIMATORS.items():
        for asked in METHODS:
            one = evidence(weight, reward, estimator(), bounds=Bounds(largest, (0.0, 1.0)), n_blocks=50)
            made = interval(asked, replace(one, estimator=_named(kind)), 0.05, 0)
            assert -1.0 < made.low < made.high < 2.0


def _named(kind):
    family = ESTIMATORS[kind]
    return family(0.5) if "lam" in family.__dataclass_fields__ else family()


def test_rounds_that_count_for_several_make_an_interval_wider():
    """Half of the rounds kept at random and counted twice: sum c = 1,000 again, (sum c)^2 / sum c^2 = 500."""
    weight, reward, _, _ = drawn(np.random.default_rng(7), 1000)
    kept = evidence(weight[:500], reward[:500], count=np.full(500, 2.0))
    assert kept.moments.effective_n == pytest.approx(500)
    for method in ("normal", "empirical-bernstein", "cressie-read"):
        once, twice = interval(method, evidence(weight[:500], reward[:500])), interval(method, kept)
        assert (once.low, once.high) == pytest.approx((twice.low, twice.high))


def test_the_design_effect_of_copies_is_their_number():
    """Every round four times, its user's own: 250 independent rounds in 1,000."""
    weight, reward, _, _ = drawn(np.random.default_rng(8), 250)
    one = evidence(np.repeat(weight, 4), np.repeat(reward, 4), user=np.repeat(np.arange(250), 4))
    found = Independent.of(one, IPS().gradient(one.moments))
    assert found.n == pytest.approx(250 * 249 / 250)
    assert found.note == "design effect 4.02"
    alone = interval("cressie-read", evidence(weight, reward))
    made = interval("cressie-read", one)
    assert made.method == "cressie-read, design effect 4.02"
    assert (made.low, made.high) == pytest.approx((alone.low, alone.high), abs=1e-3)


def test_a_single_user_is_one_observation():
    one = evidence([1.0] * 100, [0.0, 1.0] * 50, user=[3] * 100)
    for method in ("normal", "bootstrap", "empirical-bernstein", "cressie-read"):
        made = interval(method, one)
        assert (made.low, made.high) == (0.0, 1.0)


def test_a_value_beside_its_own_interval_is_told():
    """Weights of 1.2 throughout: IPS multiplies every reward by it, the interval knows that they average 1."""
    made = interval("cressie-read", evidence([1.2] * 400, [0.5] * 400, bounds=Bounds(1.3, (0.0, 1.0))))
    assert made.high < 0.6
    assert any("the value lies outside" in flag and "read snips" in flag for flag in made.flags)


@pytest.mark.parametrize(("n", "narrow"), [(50, True), (20_000, False)])
def test_a_sample_too_thin_for_its_own_variance_is_said_to_be(n, narrow):
    weight, reward, _, _ = drawn(np.random.default_rng(6), n)
    assert interval("normal", evidence(weight, reward, bounds=Bounds(60.0, (0.0, 1.0)))).narrow == narrow


SHRUNK = {"switch-dr": SwitchDR, "dros": DRos, "drps": DRps}


@pytest.mark.parametrize("kind", SHRUNK)
@pytest.mark.parametrize("name", ["normal", "bootstrap", "empirical-bernstein", "confseq"])
def test_an_interval_of_a_shrunk_correction_says_that_it_leaves_the_bias_out(kind, name):
    weight, reward, _, largest = drawn(np.random.default_rng(0), 5000)
    estimator = SHRUNK[kind](1.0)
    shrunk = evidence(estimator.shrink(weight), reward, estimator, bounds=Bounds(largest, (0.0, 1.0)), n_blocks=50)
    assert OF_EXPECTATION in interval(name, replace(shrunk, seen=largest)).flags


@pytest.mark.parametrize("lam", [6.0, math.inf])
def test_a_lambda_that_shrinks_no_weight_leaves_nothing_out(lam):
    weight, reward, _, largest = drawn(np.random.default_rng(0), 5000)
    sound = evidence(weight, reward, DRps(lam), bounds=Bounds(largest, (0.0, 1.0)), ess=4000)
    assert interval("normal", replace(sound, seen=largest)).flags == ()


@pytest.mark.parametrize("kind", SHRUNK)
@pytest.mark.parametrize("name", ["normal", "bootstrap"])
def test_a_doubly_robust_form_whose_lambda_is_0_is_told_as_the_model_alone(kind, name):
    """Its terms are q(x, pi): their spread says nothing of q's error, as with dm."""
    base = np.random.default_rng(0).random(5000)
    alone = evidence(np.zeros(5000), base, SHRUNK[kind](0.0), base=base, n_blocks=50)
    made = interval(name, replace(alone, seen=3.0))
    assert made.flags == (OF_MODEL,)
    assert made.narrow
