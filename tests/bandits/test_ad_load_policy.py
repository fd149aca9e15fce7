"""The distribution over ad loads that a policy gives, and the draw from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.ad_load import Estimate, Feature, LinearModel, PolicyError, act, draw, dump, lifted, load, over_allowed
from tests.bandits.ad_load_policies import FILE, TREE_FILE, cases, changed

POLICY = load(changed(FILE, ("version",), 1))
TREES = load(changed(TREE_FILE, ("version",), 1))
ROUNDING = 1e-12


def softmax(*scores: float) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def test_a_linear_policy_by_hand():
    """hour 16 is 1 and age .25 is -1 in standard units: scores 0 and 1 + 2 + .5 = 3.5, over temperature 2: 0 and 1.75.
    softmax: .148047 and .851953, both above the floor .125."""
    got = POLICY.probabilities(np.array([[16.0, 0.25]]))
    assert POLICY.scores(np.array([[16.0, 0.25]])).tolist() == [[0.0, 3.5]]
    np.testing.assert_allclose(got, [[0.148047, 0.851953]], atol=1e-6)


def test_the_smallest_share_of_logging_by_hand():
    """Scores 0 and 12.5 give load 0 the probability t = .00192673: s = (.125 - t) / (.75 - t) lifts it to .125."""
    got = POLICY.probabilities(np.array([[36.0, -0.25]]))
    target = softmax(0, 6.25)
    s = (0.125 - target[0]) / (0.75 - target[0])
    assert got[0, 0] == 0.125
    np.testing.assert_allclose(got[0, 1], (1 - s) * target[1] + s * 0.25, atol=ROUNDING)


def test_a_tree_policy_by_hand():
    """hour 14 is .5, which is not above the threshold: left, leaf (1, 0). hour 15 goes right; age 0 is -2: left,
    (0, 2); age .5 is 0: right, (0, 3). The bias adds (0, .5)."""
    x = np.array([[14.0, 0.0], [15.0, 0.0], [15.0, 0.5]])
    assert TREES.scores(x).tolist() == [[1.0, 0.5], [0.0, 2.5], [0.0, 3.5]]


def test_where_no_share_lifts_every_load_the_row_is_its_logging_distribution():
    """A surface's floor of .3 lies above logging's .25 for load 2, and age 1 is 2: scores 0 and -3.5 give it .148."""
    got = POLICY.probabilities(np.array([[12.0, 1.0]]), floor=0.3)
    assert got.tolist() == [[0.75, 0.25]]


def test_a_policy_above_the_floor_is_not_mixed_though_logging_lies_below_it():
    """Both scores 0: (.5, .5) is above .3 already, and logging would only pull load 2 below."""
    even = replace(POLICY, model=LinearModel(np.zeros((2, 2)), np.zeros(2)))
    assert even.probabilities(np.array([[12.0, 0.5]]), floor=0.3).tolist() == [[0.5, 0.5]]


def test_a_missing_feature_takes_its_mean():
    for policy, value in product((POLICY, TREES), (0.0, 0.4)):
        given_rows = [{"hour": 12.0, "age": value}, {"hour": 9.0, "age": 0.5}, {"hour": 12.0, "age": 0.5}]
        missing = [{"age": value}, {"hour": 9.0, "unknown": 3.0}, None]
        assert np.isnan(policy.matrix(missing)).sum() == 4
        np.testing.assert_array_equal(
            policy.probabilities(policy.matrix(given_rows)), policy.probabilities(policy.matrix(missing))
        )


@given(cases())
def test_rows_sum_to_one_and_forbidden_loads_have_exactly_zero(case):
    policy, x, allowed, floor = case
    got = policy.probabilities(x, allowed, floor)
    assert got.shape == allowed.shape
    np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=ROUNDING)
    assert (got[~allowed] == 0.0).all()
    assert (got >= 0.0).all()


@given(cases())
def test_every_allowed_load_has_the_floor_where_logging_has_it(case):
    policy, x, allowed, floor = case
    got = policy.probabilities(x, allowed, floor)
    least = max(policy.floor, floor)
    reaches = (over_allowed(policy.logging, allowed) >= least) | ~allowed
    assert (got[allowed & reaches.all(axis=1, keepdims=True)] >= least).all()
    assert (policy.probabilities(x, allowed)[allowed] >= policy.floor).all()


@given(cases())
@settings(max_examples=200)
def test_the_share_of_logging_is_the_smallest_of_all_that_lift_every_load(case):
    """Against a search over 2,001 shares of each row."""
    policy, x, allowed, floor = case
    target = np.exp(np.where(allowed, policy.scores(x) / policy.temperature, -np.inf))
    target /= target.sum(axis=1, keepdims=True)
    logging = over_allowed(policy.logging, allowed)
    least = max(policy.floor, floor)
    got = policy.probabilities(x, allowed, floor)
    shares = np.linspace(0.0, 1.0, 2001)
    for row in range(len(x)):
        mixed = (1 - shares[:, None]) * target[row] + shares[:, None] * logging[row]
        enough = (mixed[:, allowed[row]] >= least).all(axis=1)
        first = shares[enough.argmax()] if enough.any() else 1.0
        moved = np.abs(got[row] - target[row]).max()
        furthest = np.abs(logging[row] - target[row]).max()
        share = moved / furthest if furthest > 1e-6 else 0.0
        assert share <= first + 1e-6
        if enough.any() and furthest > 1e-6:
            assert share >= first - 1 / 2000 - 1e-6


@given(cases(), st.floats(0, 1, exclude_max=True))
def test_a_single_request_gets_what_its_row_gets(case, uniform):
    policy, x, allowed, floor = case
    for values, mask in zip(x, allowed, strict=True):
        features = {one.name: value for one, value in zip(policy.features, values.tolist(), strict=True)}
        loads = [one for one, may in zip(policy.loads, mask.tolist(), strict=True) if may]
        action = act(policy, features, loads, uniform, floor)
        row = policy.probabilities(values[None], mask[None], floor)[0]
        np.testing.assert_allclose(action.distribution, row, atol=ROUNDING)
        assert action.load in loads
        assert action.propensity == action.distribution[policy.loads.index(action.load)] > 0


@given(cases())
def test_a_file_gives_its_policy_back(case):
    policy, x, allowed, floor = case
    again = load(dump(policy))
    assert dump(again) == dump(policy)
    assert again.version == policy.version
    np.testing.assert_array_equal(again.probabilities(x, allowed, floor), policy.probabilities(x, allowed, floor))


def test_the_version_is_of_the_bytes_that_were_read():
    """The same policy with blanks has another version; a changed copy has neither."""
    spaced = load(changed(FILE, ("version",), 1))
    packed = load(changed(FILE, ("version",), 1).replace(b" ", b""))
    assert spaced.to_bytes() != packed.to_bytes()
    assert spaced.version != packed.version
    warmer = replace(spaced, temperature=3.0)
    assert warmer.version not in (spaced.version, packed.version)
    assert load(dump(warmer)).temperature == 3.0


def test_draws_follow_the_distribution():
    """A grid of 1,000 numbers meets each load as often as its probability says."""
    drawn = [draw([0.0, 0.25, 0.0, 0.75, 0.0], i / 1000) for i in range(1000)]
    assert np.bincount(drawn, minlength=5).tolist() == [0, 250, 0, 750, 0]
    assert draw([0.3, 0.3, 0.3, 0.0], np.nextafter(1.0, 0.0)) == 2


def test_logging_without_weight_on_what_is_allowed_is_uniform_there():
    got = over_allowed(np.array([1.0, 0.0, 0.0]), np.array([[False, True, True]]))
    assert got.tolist() == [[0.0, 0.5, 0.5]]


def test_tiny_targets_do_not_overflow():
    target, logging = np.array([[1e-310, 1.0]]), np.array([[0.0, 1.0]])
    assert lifted(target, logging, np.ones((1, 2), bool), 0.5).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("x", "allowed", "floor", "message"),
    [
        (np.zeros((2, 2)), [[True, True], [False, False]], 0.0, "at least one load, got none at row 1"),
        (np.zeros((1, 3)), None, 0.0, r"features must have shape \(n, 2\), got \(1, 3\)"),
        (np.zeros((1, 2)), [[True]], 0.0, r"allowed must have shape \(1, 2\), got \(1, 1\)"),
        (np.array([[0.0, np.inf]]), None, 0.0, "feature 'age' must be at most 1e.12 in magnitude, got inf at row 0"),
        (np.zeros((1, 2)), None, np.nan, r"floor must lie in \[0, 1\], got nan"),
    ],
)
def test_bad_rows_say_what_is_wrong(x, allowed, floor, message):
    with pytest.raises(ValueError, match=message):
        POLICY.probabilities(x, allowed, floor)


def test_bad_requests_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"allowed must be among the loads \[0, 2\], got 1 at row 0"):
        act(POLICY, {}, [0, 1], 0.5)
    with pytest.raises(ValueError, match="allowed must hold at least one load"):
        act(POLICY, {}, [], 0.5)
    with pytest.raises(ValueError, match=r"uniform must lie in \[0, 1\), got 1.0"):
        act(POLICY, {}, None, 1.0)


def test_a_policy_made_by_a_learner_is_checked_like_a_file():
    with pytest.raises(PolicyError, match=r"^model.weights\[0\]: must have 2 entries, got shape \(3,\)$"):
        replace(POLICY, model=LinearModel(np.zeros((2, 3)), np.zeros(2)))
    with pytest.raises(PolicyError, match=r"^model.weights\[1\]\[1\]: must be a number from .* got nan$"):
        replace(POLICY, model=LinearModel(np.array([[0.0, 0.0], [0.0, np.nan]]), np.zeros(2)))
    with pytest.raises(PolicyError, match=r"^features\[1\].scale: must be a number from 1e-09"):
        replace(POLICY, features=(POLICY.features[0], Feature("age", 0.0, 0.0)))
    with pytest.raises(PolicyError, match="^estimate.value: must be a number"):
        replace(POLICY, estimate=Estimate("dr", float("nan"), (0.0, 1.0), 1.0, 1))


@pytest.mark.parametrize(("n_features", "n_loads"), [(1, 2), (3, 4), (10, 4), (33, 12)])
def test_a_row_has_the_same_bits_alone_and_among_others(n_features, n_loads):
    """What a server gives one request is what evaluation finds for a million of them."""
    random = np.random.default_rng(n_features)
    features = tuple(Feature(f"f{i}", random.normal(), random.uniform(0.1, 3)) for i in range(n_features))
    model = LinearModel(random.normal(size=(n_loads, n_features)), random.normal(size=n_loads))
    logging = random.dirichlet(np.full(n_loads, 5.0))
    policy = replace(
        POLICY, loads=tuple(range(n_loads)), features=features, model=model, logging=logging, floor=0.9 * logging.min()
    )
    x = random.normal(size=(257, n_features))
    together = policy.probabilities(x)
    assert all((policy.probabilities(x[i : i + 1]) == together[i]).all() for i in range(len(x)))
