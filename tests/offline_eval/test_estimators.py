"""What every estimator has in common: names, parameters, A/A, and that shards merge."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.dataset import BanditLog
from offline_eval.estimators import ESTIMATORS, Shrunk, parse
from offline_eval.rounds import Rounds
from tests.offline_eval.estimator_cases import EVERY, estimate, moments_of, random_rounds

FAMILIES = sorted(kind for kind, one in ESTIMATORS.items() if issubclass(one, Shrunk))


def uniform_log(random, n, k):
    action = random.integers(k, size=n)
    return BanditLog(None, action, random.uniform(0, 3, n), np.full(n, 1 / k), k, logging=np.full((n, k), 1 / k))


@pytest.mark.parametrize("spec", ["ips", "snips", "dr", "sndr", "mrdr", "sg-ips:lam=0.4", "sg-dr:lam=0.4", "bipw"])
def test_the_logging_policy_itself_gets_the_mean_reward(spec):
    """A/A: w = 1, and a constant model cancels."""
    random = np.random.default_rng(0)
    log = random_rounds(random, 1_000, 5).log
    constant = np.full((1_000, 5), 0.37)
    rounds = Rounds(log, log.propensity, log.logging, {"plain": constant, "mrdr": constant}, np.ones(1_000))
    assert estimate(spec, rounds) == pytest.approx(log.reward.mean(), abs=1e-12)


def test_the_logging_policy_itself_gets_the_mean_reward_by_replay_of_a_uniform_log():
    log = uniform_log(np.random.default_rng(1), 1_000, 4)
    rounds = Rounds(log, log.propensity, log.logging)
    assert estimate("replay", rounds) == pytest.approx(log.reward.mean(), abs=1e-12)


def test_replay_is_the_mean_of_the_rows_that_match():
    random = np.random.default_rng(2)
    log = uniform_log(random, 500, 4)
    wanted = random.integers(4, size=500)
    target = np.eye(4)[wanted]
    rounds = Rounds(log, target[np.arange(500), log.action], target)
    assert estimate("replay", rounds) == pytest.approx(log.reward[log.action == wanted].mean(), abs=1e-12)
    assert ESTIMATORS["replay"].needs == {"uniform"}


def test_nothing_that_matches_is_no_number():
    log = BanditLog(None, [0, 0], [1.0, 1.0], [0.5, 0.5], 2)
    nothing = Rounds(log, np.zeros(2), np.array([[0.0, 1.0]] * 2))
    assert math.isnan(estimate("replay", nothing))
    assert math.isnan(estimate("snips", nothing))
    assert estimate("ips", nothing) == 0.0


def test_embeddings_that_differ_everywhere_make_mips_ips_and_one_for_all_the_mean():
    rounds = random_rounds(np.random.default_rng(3), 200, 4)
    log = rounds.log
    apart = Rounds(log.with_columns(action_embedding=np.arange(4)[:, None]), rounds.target_action, rounds.target)
    same = Rounds(log.with_columns(action_embedding=np.zeros((4, 1))), rounds.target_action, rounds.target)
    assert estimate("mips", apart) == pytest.approx(estimate("ips", rounds), abs=1e-12)
    assert estimate("mips", same) == pytest.approx(log.reward.mean(), abs=1e-12)


@pytest.mark.parametrize("spec", EVERY)
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 20))
def test_shards_merge_to_the_whole(spec, seed, cut):
    rounds = random_rounds(np.random.default_rng(seed), 20, 3)
    parts = [slice(0, cut), slice(cut, 20)]
    first, second = (moments_of(spec, part_of(rounds, rows)) for rows in parts)
    first.merge(second)
    whole = moments_of(spec, rounds)
    assert first.n == whole.n
    np.testing.assert_allclose(first.first, whole.first, atol=1e-9)
    assert parse(spec).value(first) == pytest.approx(parse(spec).value(whole), abs=1e-9)


def part_of(rounds, rows):
    models = {name: model[rows] for name, model in rounds.models.items()}
    part = rounds.log.rows(rows)
    return Rounds(part, rounds.target_action[rows], rounds.target[rows], models, rounds.balanced[rows])


@pytest.mark.parametrize("spec", EVERY)
def test_terms_have_the_value_as_their_mean(spec):
    rounds = random_rounds(np.random.default_rng(4), 50, 3)
    terms = parse(spec).terms(rounds, moments_of(spec, rounds))
    assert terms.mean() == pytest.approx(estimate(spec, rounds), abs=1e-12)


@pytest.mark.parametrize("spec", EVERY)
def test_a_round_that_stands_for_two_counts_as_two(spec):
    rounds = random_rounds(np.random.default_rng(5), 10, 3)
    twice = np.r_[np.arange(10), 3, 7]
    count = np.bincount(twice).astype(float)
    once = Rounds(
        rounds.log.with_columns(count=count), rounds.target_action, rounds.target, rounds.models, rounds.balanced
    )
    assert estimate(spec, once) == pytest.approx(estimate(spec, part_of(rounds, twice)), abs=1e-12)


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("ips", "ips"),
        ("switch-dr:lam=5.3", "switch-dr(lam=5.3)"),
        ("switch-dr(lam=5.3)", "switch-dr(lam=5.3)"),
        (" switch-dr ( lam = 5.3 ) ", "switch-dr(lam=5.3)"),
        (("switch-dr", {"lam": 5.3}), "switch-dr(lam=5.3)"),
        (("dr", {}), "dr"),
        ("sg-ips:lam=1e-3", "sg-ips(lam=0.001)"),
        ("switch-dr", "switch-dr"),
    ],
)
def test_an_estimator_is_known_by_name_and_parameters(spec, key):
    assert parse(spec).key == key
    assert parse(key) == parse(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("swich-dr", "'swich-dr' is no estimator; did you mean switch-dr?"),
        ("xyz", "'xyz' is no estimator; they are replay dm ips cips"),
        ("sips", "sips: slate estimator: not in this version"),
        ("cascade-dr", "cascade-dr: slate estimator: not in this version"),
        (("cips", {"lamb": 3}), "cips has no parameter 'lamb'; did you mean lam?"),
        ("ips:lam=3", "ips has no parameter 'lam'; it has none"),
        ("cips:lam=three", "'lam=three' must be PARAMETER=NUMBER"),
        ("cips:lam", "'lam' must be PARAMETER=NUMBER"),
        ("cips:lam=-1", r"cips: lam must lie in \[0, inf\], got -1"),
        ("cips:lam=nan", r"cips: lam must lie in \[0, inf\], got nan"),
        ("sg-dr:lam=1.5", r"sg-dr: lam must lie in \[0, 1\], got 1.5"),
        (("dros", {"lam": "5"}), "dros: lam must be a number, got '5'"),
        ("cips(lam=3", "an estimator is NAME, NAME:PARAMETER=VALUE"),
    ],
)
def test_what_cannot_be_an_estimator_is_said_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as fault:
        parse(spec)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("largest", [1.0, 1.7, 40.0, 1e6])
def test_a_family_goes_from_shrunk_to_not_at_all(kind, largest):
    members = ESTIMATORS[kind].grid(largest, 1_000)
    assert 1 <= len(members) <= 14
    assert len({one.key for one in members}) == len(members)
    mildness = [one.mildness for one in members]
    assert mildness == sorted(mildness)
    weight = np.linspace(0.0, largest, 101)
    np.testing.assert_allclose(members[-1].shrink(weight), weight, rtol=1e-9)
    error = [np.abs(one.shrink(weight) - weight).max() for one in members]
    assert error == sorted(error, reverse=True)
    assert json.loads(json.dumps([one.strength for one in members], allow_nan=False))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_without_lambda_is_not_yet_an_estimator(kind):
    rounds = random_rounds(np.random.default_rng(6), 10, 3)
    assert parse(kind).is_family
    with pytest.raises(ValueError, match=f"{kind}: lam is not chosen yet"):
        parse(kind).split(rounds)


@pytest.mark.parametrize(("spec", "missing"), [("bipw", "weights of"), ("mips", "logging"), ("dm", "probabilities")])
def test_what_an_estimator_lacks_is_said(spec, missing):
    log = BanditLog(None, [0, 1], [1.0, 0.0], [0.5, 0.5], 2)
    with pytest.raises(ValueError, match=missing):
        parse(spec).split(Rounds(log, np.ones(2), None, {"plain": np.zeros((2, 2))}))


@pytest.mark.parametrize("kind", [kind for kind, one in ESTIMATORS.items() if issubclass(one, Shrunk)])
@pytest.mark.parametrize("importance", [0.5, 3.0, 40.0])
def test_no_shrunk_weight_passes_the_largest_one(kind, importance):
    for member in ESTIMATORS[kind].grid(40.0, 1000):
        weights = member.shrink(np.linspace(0.0, importance, 4001))
        assert weights.max() <= member.largest_weight(importance) * (1 + 1e-12)
        assert weights.max() >= member.largest_weight(importance) * (1 - 1e-2)
