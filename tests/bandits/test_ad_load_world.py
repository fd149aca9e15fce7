"""The ad-load world: its truth is exact, its sessions behave, and it is worth learning."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.special import ndtr

from bandits.ad_load import AdLoadPolicy, Feature, LinearModel
from bandits.simulation.ad_load import AdLoadWorld
from bandits.simulation.ad_load_sessions import MINUTE_US, AdLoadLog
from bandits.simulation.ad_load_traits import COLUMN, FEATURES, FLOOR, LOADS, MAX_FETCHES, MAX_MINUTES, RANGES
from tests.bandits.ad_load_policies import ESTIMATE, WINDOW

L = len(LOADS)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def even(x: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    return allowed / allowed.sum(axis=1, keepdims=True)


def constant(load: int):
    """As many ads as are allowed, up to load."""

    def act(x: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        return np.eye(L)[np.minimum(load, allowed.sum(axis=1) - 1)]

    return act


def z_of_mean(residual: np.ndarray, user: np.ndarray) -> float:
    """Mean over its standard error, rows of a user summed first."""
    sums = np.bincount(user, residual)
    return sums.sum() / np.sqrt((sums**2).sum())


@pytest.mark.parametrize("seed", [0, 7])
def test_the_truth_is_the_mean_of_what_is_drawn(seed: int):
    """Within 4 standard errors (revenue 5) in each half of each feature under each load, over 100,000 fetches."""
    world = AdLoadWorld.make(seed)
    log = world.sessions(rng(seed), 20_000, even)
    assert len(log.user) > 100_000
    taken = np.arange(len(log.user)), log.action
    pairs = [
        (log.satisfaction - log.expected_satisfaction[taken], 4.0),
        (log.revenue - log.expected_revenue[taken], 5.0),
    ]
    for load in LOADS:
        for column in range(len(FEATURES)):
            high = log.features[:, column] > np.median(log.features[:, column])
            for half in (high, ~high):
                rows = half & (log.action == load)
                for residual, bound in pairs:
                    if residual[rows].any():
                        assert abs(z_of_mean(residual[rows], log.user[rows])) < bound, (load, FEATURES[column])


@pytest.mark.parametrize("seed", [0, 7])
def test_given_the_features_a_user_is_normal_at_every_fetch(seed: int):
    """First and later fetches of 30,000 users under heavy load: what the belief leaves open has mean 0 and the s.d. it
    says, and no feature tells more, each within 4 standard errors."""
    world = AdLoadWorld.make(seed)
    sessions = world.start(rng(seed), 30_000)
    for _ in range(4):
        shown = sessions.fetches
        mean, sd = world.belief(shown.features)
        left = (sessions.own[shown.user] - mean) / sd
        bound = 4 / np.sqrt(len(left))
        assert np.abs(left.mean(axis=0)).max() < bound
        assert np.abs(left.std(axis=0) - 1).max() < bound / np.sqrt(2)
        varying = shown.features[:, shown.features.std(axis=0) > 0]
        z = (varying - varying.mean(axis=0)) / varying.std(axis=0)
        assert np.abs(z.T @ left / len(left)).max() < bound
        sessions.step(shown.allowed.sum(axis=1) - 1)


def test_the_truth_is_the_integral_over_the_users_who_share_the_features():
    """100 rows against 40,000 draws of tolerance and appetite each, within 5 standard errors of their mean."""
    world = AdLoadWorld.make(3)
    x = world.sessions(rng(3), 30).features[:100]
    satisfaction, revenue = world.expected(x)
    mean, sd = world.belief(x)
    traits, ads, draws = world.traits, np.array(LOADS, float), rng(0).normal(size=(40_000, 2))
    for row in range(len(x)):
        many = np.repeat(x[row : row + 1], len(draws), axis=0)
        own = mean[row] + sd * draws
        probit = traits.calm - world.burden(world.tolerance(many, own[:, 0])[:, None], ads)
        liked = ndtr(probit / np.sqrt(1 + traits.spread**2))
        clicks = ndtr(world.click_probit(many, own[:, 1])).cumsum(axis=1)
        paid = np.exp(world.log_price(x[row : row + 1]) + traits.tail**2 / 2) * clicks
        for drawn, truth in ((liked, satisfaction[row]), (paid, revenue[row, 1:])):
            error = drawn.std(axis=0) / np.sqrt(len(draws))
            assert (np.abs(drawn.mean(axis=0) - truth) <= 5 * error + 1e-12).all()


def test_without_ads_there_is_no_revenue_and_rewards_keep_their_bounds():
    log = AdLoadWorld.make(1).sessions(rng(1), 2000)
    assert not log.revenue[log.action == 0].any()
    assert not log.expected_revenue[:, 0].any()
    assert (log.revenue >= 0).all()
    assert (log.expected_revenue[:, 1:] > 0).all()
    for column in (log.satisfaction, log.expected_satisfaction):
        assert (column >= 0).all()
        assert (column <= 1).all()


def test_revenue_has_a_heavy_tail():
    """The largest hundredth of the fetches brings a fifth of the revenue and more."""
    revenue = np.sort(AdLoadWorld.make(2).sessions(rng(2), 5000).revenue)
    assert revenue[-len(revenue) // 100 :].sum() > 0.2 * revenue.sum()


def test_one_seed_gives_one_log_and_another_seed_another():
    first, second = (AdLoadWorld.make(3).sessions(rng(5), 300) for _ in range(2))
    for field in fields(AdLoadLog):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    other = AdLoadWorld.make(3).sessions(rng(6), 300)
    assert len(other.user) != len(first.user) or (other.satisfaction != first.satisfaction).any()
    assert AdLoadWorld.make(3) != AdLoadWorld.make(4)


def test_traits_lie_in_their_ranges():
    for seed in range(5):
        traits = AdLoadWorld.make(seed).traits
        assert all(low <= getattr(traits, name) <= high for name, (low, high) in RANGES.items())


def test_policies_of_one_seed_meet_the_same_users():
    world = AdLoadWorld.make(0)
    first, second = (world.sessions(rng(1), 500, constant(load)) for load in (0, 3))
    starts = [log.features[log.features[:, COLUMN["fetch_index"]] == 0] for log in (first, second)]
    np.testing.assert_array_equal(*starts)


def test_sessions_end_sooner_under_heavy_load():
    for seed in range(4):
        world = AdLoadWorld.make(seed)
        fetches = [len(world.sessions(rng(seed), 3000, constant(load)).user) for load in LOADS]
        assert fetches[0] > fetches[1] > fetches[2] > fetches[3]
        assert fetches[0] > 1.2 * fetches[3]


def test_tolerance_falls_with_the_position_and_recovers_after_an_ad():
    world = AdLoadWorld.make(0)
    x = np.repeat(world.sessions(rng(0), 50).features[:1], 6, axis=0)
    x[:, COLUMN["fetch_index"]] = np.arange(6)
    assert (np.diff(world.tolerance(x)) < 0).all()
    assert (np.diff(world.expected(x)[0][:, 3]) < 0).all()
    x[:, COLUMN["fetch_index"]] = 2
    x[:, COLUMN["minutes_since_ad"]] = [0.5, 1, 3, 10, 30, 60]
    assert (np.diff(world.tolerance(x)) > 0).all()


def test_loads_are_drawn_as_often_as_the_log_says():
    """Each load's count against the sum of its probabilities: within 4 standard errors, also where it is rare."""
    log = AdLoadWorld.make(4).sessions(rng(4), 6000)
    hit = log.action[:, None] == np.array(LOADS)
    for rows in (log.distribution < 0.2, (log.distribution >= 0.2) & (log.distribution < 1.0)):
        for load in LOADS:
            p = log.distribution[rows[:, load], load]
            assert abs(hit[rows[:, load], load].sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())
    np.testing.assert_array_equal(log.propensity, log.distribution[np.arange(len(hit)), log.action])


def test_the_logging_policy_keeps_its_floor_and_never_serves_what_is_forbidden():
    log = AdLoadWorld.make(5).sessions(rng(5), 3000)
    np.testing.assert_allclose(log.distribution.sum(axis=1), 1.0, atol=1e-12)
    assert (log.distribution[~log.allowed] == 0).all()
    assert log.distribution[log.allowed].min() >= FLOOR
    assert log.allowed[np.arange(len(log.action)), log.action].all()
    assert {int(n) for n in log.allowed.sum(axis=1)} == {1, 2, 3, 4}
    assert (log.propensity[log.allowed.sum(axis=1) == 1] == 1).all()


def test_a_session_goes_on_in_time_and_position():
    log = AdLoadWorld.make(6).sessions(rng(6), 400)
    assert (np.diff(log.timestamp) >= 0).all()
    assert np.unique(log.user).tolist() == list(range(400))
    for user in range(50):
        rows = np.flatnonzero(log.user == user)
        index, since = log.features[rows, COLUMN["fetch_index"]], log.features[rows, COLUMN["minutes_since_ad"]]
        assert index.tolist() == list(range(len(rows)))
        assert len(rows) <= MAX_FETCHES
        gap = np.diff(log.timestamp[rows]) / MINUTE_US
        expected = np.minimum(np.where(log.action[rows[:-1]] > 0, 0.0, since[:-1]) + gap, MAX_MINUTES)
        np.testing.assert_allclose(since[1:], expected, atol=1e-6)


def test_stepping_from_outside_gives_the_same_rewards_as_playing():
    world = AdLoadWorld.make(0)
    log = world.sessions(rng(9), 200, constant(2))
    sessions, satisfaction, revenue = world.start(rng(9), 200), 0.0, 0.0
    while len(sessions.fetches.user):
        shown = sessions.fetches
        outcomes = sessions.step(np.minimum(2, shown.allowed.sum(axis=1) - 1))
        assert set(sessions.fetches.user.tolist()) == set(shown.user[~outcomes.ended].tolist())
        satisfaction, revenue = satisfaction + outcomes.satisfaction.sum(), revenue + outcomes.revenue.sum()
    assert satisfaction == pytest.approx(log.satisfaction.sum())
    assert revenue == pytest.approx(log.revenue.sum())


def test_a_policy_file_plays_in_the_world():
    """One that scores load 1 far above the others serves it wherever the floor and the rules leave it."""
    model = LinearModel(np.zeros((L, len(FEATURES))), np.array([0.0, 50.0, 0.0, 0.0]))
    features = tuple(Feature(name, 0.0, 1.0) for name in FEATURES)
    policy = AdLoadPolicy(LOADS, features, model, 1.0, 0.05, np.full(L, 0.25), WINDOW, ESTIMATE)
    log = AdLoadWorld.make(0).sessions(rng(0), 500, policy.probabilities)
    free = log.allowed.all(axis=1)
    np.testing.assert_allclose(log.distribution[free], [[0.05, 0.85, 0.05, 0.05]] * int(free.sum()), atol=1e-12)


def values(world: AdLoadWorld, seed: int, beta: float = 0.7) -> tuple[float, float, float, float]:
    """Of beta z(satisfaction) + (1 - beta) z(revenue), in truth: logging's mean, the best constant's, the best given x;
    and the s.d. of a draw."""
    log = world.sessions(rng(seed), 4000)
    scale = [(one.mean(), one.std()) for one in (log.satisfaction, log.revenue)]

    def scalar(satisfaction: np.ndarray, revenue: np.ndarray) -> np.ndarray:
        z = [(one - mean) / sd for one, (mean, sd) in zip((satisfaction, revenue), scale, strict=True)]
        return beta * z[0] + (1 - beta) * z[1]

    truth = scalar(log.expected_satisfaction, log.expected_revenue)
    fixed = [(constant(load)(log.features, log.allowed) * truth).sum(axis=1).mean() for load in LOADS]
    best = np.where(log.allowed, truth, -np.inf).max(axis=1).mean()
    return (log.distribution * truth).sum(axis=1).mean(), max(fixed), best, scalar(log.satisfaction, log.revenue).std()


def test_features_are_worth_more_than_any_fixed_load():
    """Over ten worlds the gap from logging to the best given x is 5 % to 20 % of the reward's s.d., and the best fixed
    load closes less than a quarter of it on average."""
    closed = []
    for seed in range(10):
        logging, fixed, best, sd = values(AdLoadWorld.make(seed), 100 + seed)
        assert 0.05 < (best - logging) / sd < 0.2
        closed.append((fixed - logging) / (best - logging))
    assert max(closed) < 0.4
    assert np.mean(closed) < 0.25


@pytest.mark.parametrize(
    ("act", "shape"),
    [
        (lambda x, allowed: np.full(allowed.shape, 0.25), "over the allowed"),
        (lambda x, allowed: allowed / 4.0 * 0.9, "over the allowed"),
        (lambda x, allowed: np.full((len(x), 3), 1 / 3), r"shape \(300, 4\)"),
        (lambda x, allowed: np.where(allowed, np.nan, 0.0), "over the allowed"),
    ],
)
def test_what_is_no_distribution_is_refused(act, shape):
    with pytest.raises(ValueError, match=f"act must give distributions .*{shape}"):
        AdLoadWorld.make(0).sessions(rng(0), 300, act)


def test_loads_that_are_not_allowed_are_refused_and_change_nothing():
    world = AdLoadWorld.make(0)
    sessions = world.start(rng(0), 100)
    before = sessions.fetches
    for action in (np.full(100, 3), np.zeros(99, np.int64), np.full(100, 7)):
        with pytest.raises(ValueError, match="action must hold one allowed load for each of 100 fetches"):
            sessions.step(action)
    assert sessions.fetches is before
    with pytest.raises(ValueError, match="n_users must be >= 1, got 0"):
        world.start(rng(0), 0)
