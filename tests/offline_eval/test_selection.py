"""The choice of lambda: known answers, and laws."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.estimators import ESTIMATORS, Shrunk
from offline_eval.intervals.base import Bounds
from offline_eval.selection import DEFAULT, METHODS, Family, mse, select, slope
from tests.offline_eval.estimator_cases import moments_of, random_rounds

BOUNDS = Bounds(40.0, (0.0, 1.0))
FAMILIES = sorted(kind for kind, one in ESTIMATORS.items() if issubclass(one, Shrunk))


def of_family(kind, rounds, grid=20.0):
    members = ESTIMATORS[kind].grid(grid, len(rounds))
    return members, [moments_of(one, rounds) for one in members]


def family_of(variance, gap, error):
    return Family(np.array(variance), np.array(gap), np.array(error))


def test_slope_goes_on_while_members_agree_with_all_that_are_milder():
    """Of four, the third and the second lie within 1.25 errors of what is milder, the first is 2 off the last."""
    gap = np.zeros((4, 4))
    gap[2, 3], gap[1, 2], gap[1, 3], gap[0, 3] = 1.0, 1.2, -1.0, 2.0
    assert slope(family_of([1, 2, 3, 4], gap, np.ones((4, 4)))) == 1


def test_slope_does_not_jump_over_a_member_that_disagrees():
    gap = np.zeros((3, 3))
    gap[1, 2] = 5.0
    assert slope(family_of([1, 2, 3], gap, np.ones((3, 3)))) == 2


def test_the_mse_proxy_adds_variance_and_squared_bias_by_hand():
    """Biases squared 4 - .5, max(1 - .5, .25 - .5) and 0: totals 4.5, 2.5 and 2.7."""
    gap = np.array([[0.0, 0.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    of = family_of([1.0, 2.0, 2.7], gap, np.ones((3, 3)))
    assert mse(of) == 1
    assert mse(family_of([1.0, 2.0, 2.4], gap, np.ones((3, 3)))) == 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_bias_that_the_log_shows_beyond_doubt_is_avoided(method, kind):
    """A large log, weights of up to 20, and a model that says 0 where rewards are near 1.7."""
    rounds = random_rounds(np.random.default_rng(0), 20_000, 4)
    rounds.log.reward[:] = rounds.log.reward * 0.1 + 1.7
    rounds.models["plain"][:] = 0.0
    members, moments = of_family(kind, rounds)
    member, _, _ = select(method, members, moments, BOUNDS)
    values = np.array([one.value(its) for one, its in zip(members, moments, strict=True)])
    assert abs(values[members.index(member)] - 1.75) < 0.06
    assert np.abs(values - 1.75).max() > 0.2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["switch-dr", "dros", "drps"])
def test_a_model_that_is_right_is_believed(method, kind):
    """q is the reward itself: no member has a bias, all have the same variance, and the model alone is as good."""
    rounds = random_rounds(np.random.default_rng(1), 500, 4)
    rounds.models["plain"][np.arange(500), rounds.log.action] = rounds.log.reward
    member, _, record = select(method, *of_family(kind, rounds), BOUNDS)
    assert member.strength == 0.0
    assert record["lam"] == 0.0


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(FAMILIES))
def test_the_choice_does_not_hang_on_the_order_of_the_members(method, seed, kind):
    random = np.random.default_rng(seed)
    members, moments = of_family(kind, random_rounds(random, 40, 3))
    chosen, its, record = select(method, members, moments, BOUNDS)
    order = random.permutation(len(members))
    again = select(method, [members[i] for i in order], [moments[i] for i in order], BOUNDS)
    assert again[0] == chosen
    assert moments[members.index(chosen)] is its
    assert record["chosen_by"] == method
    assert record["lam"] == chosen.strength
    assert sorted(record["considered"]) == sorted(one.strength for one in members)
    assert json.loads(json.dumps(record, allow_nan=False)) == record


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["switch-dr", "dros", "drps", "sg-dr"]))
def test_the_choice_does_not_hang_on_the_unit_of_the_rewards(method, seed, kind):
    rounds = random_rounds(np.random.default_rng(seed), 40, 3)
    before = select(method, *of_family(kind, rounds), BOUNDS)[0]
    rounds.log.reward[:] *= 8.0
    rounds.models["plain"][:] *= 8.0
    assert select(method, *of_family(kind, rounds), BOUNDS)[0] == before


@pytest.mark.parametrize("method", METHODS)
def test_without_rounds_or_without_weight_the_mildest_or_any_is_chosen(method):
    rounds = random_rounds(np.random.default_rng(2), 5, 3)
    members = ESTIMATORS["drps"].grid(10.0, 0)
    nothing = [type(moments_of("ips", rounds)).zero(3) for _ in members]
    assert select(method, members, nothing, BOUNDS)[0] == members[-1]
    rounds.target_action[:] = 0.0
    assert select(method, *of_family("cips", rounds), BOUNDS)[0] in ESTIMATORS["cips"].grid(20.0, 5)


def test_an_unknown_method_and_an_empty_family_are_refused():
    assert DEFAULT in METHODS
    with pytest.raises(ValueError, match="'best' is no way to choose a lambda; they are slope mse"):
        select("best", [], [], BOUNDS)
    with pytest.raises(ValueError, match="there is no member to choose"):
        select("mse", [], [], BOUNDS)
