"""Learning an ad-load policy: what is right is learned, what cannot be told is refused, masks and floors hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandits.ad_load import dump, load
from bandits.errors import UsageError
from bandits.simulation.ad_load import AdLoadWorld
from offline_eval.errors import BadLog
from offline_eval.learning import Options, learn
from offline_eval.learning.judge import Judge, judged
from offline_eval.learning.play import as_log, fetches, of_policy, truth
from offline_eval.learning.reward import Scale, mixed
from offline_eval.learning.study import split
from tests.offline_eval.learning_logs import best_logged, part_of, two_contexts


@pytest.mark.parametrize("model", ["linear", "tree", "auto"])
def test_the_right_load_of_two_is_learned_in_each_of_two_contexts(model):
    """Two contexts, two loads, satisfaction 1 for the right one: the gain over even logging is 1/2 raw satisfaction."""
    learned = learn(two_contexts(3), Options(beta=1.0, model=model, floor=0.0))
    assert learned.policy is not None
    assert [one.name for one in learned.policy.features] == ["side"]
    pi = learned.policy.probabilities(np.array([[1.0], [-1.0]]))
    assert pi[0, 1] > 0.95
    assert pi[1, 0] > 0.95
    assert learned.judge is not None
    gain = learned.judge.raw(learned.everyone[learned.chosen].gain, 0, change=True)
    assert gain.low < 0.5 < gain.high
    assert gain.high - gain.low < 0.25


@pytest.mark.parametrize("seed", range(4))
def test_where_logging_is_best_it_is_kept(seed):
    learned = learn(best_logged(seed), Options(beta=1.0, floor=0.045))
    assert learned.policy is None
    assert learned.chosen is None
    assert "surely beats the logging policy, which is kept" in learned.reasons[0]
    assert learned.judge is not None
    assert all(learned.judge.reward(one.gain, 1.0).low <= 0 for one in learned.everyone)


def test_where_loads_do_not_matter_logging_is_kept_nearly_always():
    """At alpha = .05 at most one of 20 logs without any difference between loads gives a policy."""
    made = [learn(two_contexts(seed, 400, gain=0.0), Options(model="linear")).policy for seed in range(20)]
    assert sum(policy is not None for policy in made) <= 1


def test_the_logging_policy_gains_exactly_nothing_and_is_estimated_by_the_logged_mean():
    log = two_contexts()
    learned = learn(log, Options(model="linear"))
    assert learned.logging is not None
    assert not learned.logging.gain.any()
    held = learned.study.judging
    expected = log.satisfaction[held.row].mean()
    assert learned.judge.raw(learned.logging.terms, 0).value == pytest.approx(expected, abs=1e-12)


def test_users_are_either_learned_from_or_judged_on():
    study = split(two_contexts(), seed=3)
    first, second = (set(part.user.tolist()) for part in (study.learning, study.judging))
    assert not first & second
    assert len(first) + len(second) == 1000
    assert len(second) == pytest.approx(1000 / 3, abs=1)


def test_what_is_judged_on_has_no_part_in_the_candidates():
    """Other rewards of held-out users, of the same mean and deviation: the policies stay the same."""
    log = two_contexts()
    row = split(log, seed=0).judging.row
    mirrored = log.satisfaction.copy()
    mirrored[row] = mirrored[row[::-1]]
    options = Options(floor=0.0)
    one, other = (learn(some, options) for some in (log, replace(log, satisfaction=mirrored)))
    x = np.array([[1.0], [-1.0]])
    for first, second in zip(one.everyone, other.everyone, strict=True):
        np.testing.assert_allclose(first.policy.probabilities(x), second.policy.probabilities(x), atol=1e-6)
    assert one.policy is not None
    assert other.policy is None


def test_masks_hold_in_what_is_learned_and_in_what_is_judged():
    """Load 2 is forbidden for half of the +1 users, who then get load 0 with probability 1."""
    log = two_contexts()
    forbidden = (log.features[:, 0] > 0) & (log.user % 2 == 0)
    allowed = log.allowed.copy()
    allowed[forbidden, 1] = False
    action = np.where(forbidden, 0, log.action)
    masked = replace(
        log,
        allowed=allowed,
        action=action,
        propensity=np.where(forbidden, 1.0, 0.5),
        logging=np.where(forbidden[:, None], [1.0, 0.0], 0.5),
        satisfaction=((log.features[:, 0] > 0) == (action == 1)) + np.random.default_rng(0).normal(0, 0.5, len(log)),
    )
    learned = learn(masked, Options(beta=1.0, floor=0.0))
    assert learned.policy is not None
    pi = learned.policy.probabilities(masked.features[:, :1], masked.allowed)
    assert (pi[forbidden] == [1.0, 0.0]).all()
    assert pi[~forbidden & (log.features[:, 0] > 0), 1].min() > 0.9
    part = learned.study.judging
    again = judged(part, "again", 1.0, learned.policy)
    only = forbidden[part.row]
    np.testing.assert_allclose(again.gain[only], 0.0, atol=1e-12)


def test_one_seed_gives_the_same_bytes_and_another_seed_another_split():
    log = two_contexts()
    first, second, other = (dump(learn(log, Options(seed=seed)).policy) for seed in (4, 4, 5))
    assert first == second != other


def test_the_file_tells_its_window_floor_logging_and_estimate_as_served():
    log = two_contexts(logging=(0.7, 0.3))
    learned = learn(log, Options(beta=0.9))
    policy = load(dump(learned.policy))
    assert policy.window == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.002999Z")
    assert policy.floor == 0.02
    np.testing.assert_allclose(policy.logging, [0.7, 0.3], atol=1e-12)
    assert policy.probabilities(np.array([[1.0], [-1.0]])).min() >= 0.02
    found = learned.judge.reward(judged(learned.study.judging, "", 0.9, policy).terms, 0.9)
    assert (policy.estimate.value, *policy.estimate.interval) == pytest.approx(tuple(found), abs=1e-12)
    assert policy.estimate.n == len(learned.study.judging)
    assert policy.reward["beta"] == 0.9
    assert "judged on" in policy.objective


def test_the_interval_is_that_of_users_and_wider_by_the_number_of_comparisons():
    """Of one row each as of independent rows; with three equal rows each as wide, not narrower by sqrt 3."""
    log = two_contexts(n_users=1200, rows_each=1)
    study = split(log, 0)
    policy = learn(log, Options(model="linear", beta=1.0)).everyone[0].policy
    terms = judged(study.judging, "", 1.0, policy).terms[:, 0]
    judge = Judge(study.judging, study.scale, 1, 0.05)
    found = judge.interval(terms)
    error = terms.std(ddof=1) / np.sqrt(len(terms))
    assert found.high - found.value == pytest.approx(1.959964 * error, rel=1e-6)
    copied = replace(study.judging, row=np.repeat(study.judging.row, 3))
    assert Judge(copied, study.scale, 1, 0.05).interval(np.repeat(terms, 3)) == pytest.approx(found)
    many = Judge(study.judging, study.scale, 100, 0.05)
    assert many.width == pytest.approx(3.480756, abs=1e-5)


def test_revenue_is_winsorised_in_fitting_and_nowhere_else():
    log = two_contexts()
    log.revenue[7] = 5000.0
    scale = Scale.of(log)
    assert scale.mean[1] == pytest.approx(log.revenue.mean())
    assert scale.z(log)[7, 1] == pytest.approx((5000.0 - scale.mean[1]) / scale.sd[1])
    assert scale.z(log, fitting=True)[7, 1] == pytest.approx((scale.cap - scale.mean[1]) / scale.sd[1])
    assert scale.cap < 20
    assert mixed(scale.z(log), 0.25)[0] == pytest.approx(scale.z(log)[0] @ [0.25, 0.75])


def test_constrained_more_revenue_is_taken_while_satisfaction_surely_stays():
    """Load 2 brings 1 of revenue more, and costs satisfaction where the user is -1: it is kept from those."""
    log = two_contexts(n_users=3000, noise=0.2)
    rng = np.random.default_rng(5)
    unhappy = (log.features[:, 0] < 0) & (log.action == 1)
    served = replace(
        log,
        satisfaction=1.0 - 0.5 * unhappy + rng.normal(0, 0.2, len(log)),
        revenue=rng.exponential(1.0, len(log)) + (log.action == 1),
    )
    learned = learn(served, Options(constraint=0.005, floor=0.0))
    assert learned.policy is not None
    pi = learned.policy.probabilities(np.array([[1.0], [-1.0]]))
    assert pi[0, 1] > 0.9
    assert pi[1, 1] < 0.6
    kept, gained = (learned.judge.raw(learned.everyone[learned.chosen].gain, k, change=True).low for k in (0, 1))
    assert kept >= -0.005 * served.satisfaction.mean()
    assert gained > 0
    strict = learn(served, Options(constraint=-0.5, floor=0.0))
    assert strict.policy is None
    assert "surely keeps satisfaction" in strict.reasons[0]


def test_a_sweep_gives_a_front_on_which_more_of_one_costs_the_other():
    world = AdLoadWorld.make(1)
    learned = learn(as_log(fetches(world, 1, 30_000)), Options(sweep=True, model="linear"))
    assert list(learned.front) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    ends = [learned.everyone[learned.front[beta]] for beta in (0.0, 1.0)]
    revenue, satisfaction = ([learned.judge.raw(one.terms, k).value for one in ends] for k in (1, 0))
    assert revenue[0] > revenue[1]
    assert satisfaction[0] < satisfaction[1]
    assert learned.front[0.7] == learned.chosen


def test_half_of_the_gap_is_closed_in_a_world_of_the_simulator():
    """World 3 from 30,000 fetches, by its truth on other users; the published table has 20 worlds."""
    world = AdLoadWorld.make(3)
    learned = learn(as_log(fetches(world, 3, 30_000)), Options(model="linear"))
    other = fetches(world, 77, 20_000)
    expected = mixed(truth(other, learned.study.scale), 0.7)
    served = of_policy(learned.policy, world)(other.features, other.allowed)
    logging, value = ((one * expected).sum(axis=1).mean() for one in (other.distribution, served))
    best = np.where(other.allowed, expected, -np.inf).max(axis=1).mean()
    assert 0.45 < (value - logging) / (best - logging) < 1.0


REFUSED = {
    "too few rows": (lambda log: part_of(log, np.arange(900)), "too few rows: 900"),
    "too few users": (lambda log: replace(log, user=log.user % 90), "too few users: 90"),
    "nothing to choose": (
        lambda log: replace(log, allowed=np.eye(2, dtype=bool)[log.action], propensity=np.ones(len(log)), logging=None),
        "nothing to choose",
    ),
    "no chance": (lambda log: replace(log, propensity=np.ones(len(log))), "never chose by chance"),
    "a load never served": (lambda log: part_of(log, log.action == 0), "load 2 is allowed but never served"),
    "wrong propensities": (lambda log: replace(log, propensity=log.propensity * 0.8), "load 0 do not fit"),
    "few weights": (lambda log: log, "effective sample size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_cannot_teach_is_refused_with_the_reason(name):
    change, reason = REFUSED[name]
    options = Options(model="linear", min_ess=1e6 if name == "few weights" else 100.0)
    learned = learn(change(two_contexts()), options)
    assert learned.policy is None
    assert reason in learned.reasons[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": np.zeros(3000)}, r"row 0: propensity: got 0.0, must lie in \(0, 1\]"),
        ({"satisfaction": np.full(3000, np.nan)}, "row 0: satisfaction: got nan, must be finite"),
        ({"allowed": np.zeros((3000, 2), bool)}, "row 0: action: got [02], must be among the row's allowed loads"),
        ({"loads": (2, 0)}, "loads: .*must ascend"),
        ({"revenue": np.zeros(5)}, r"revenue: got \(5,\), must have shape \(3000,\)"),
        ({"logging": np.full((3000, 2), 0.4)}, "row 0: sum of logging: got 0.8, must be 1"),
        ({"features": np.full((3000, 2), 1e13)}, "row 0: features: got 10000000000000.0, must be at most 1e12"),
    ],
)
def test_a_malformed_log_is_told_where(changes, message):
    with pytest.raises(BadLog, match=message):
        replace(two_contexts(), **changes)


def test_floors_and_distributions_that_do_not_fit_are_told():
    with pytest.raises(UsageError, match=r"--floor must lie in \[0, 0.3\], .* got 0.4"):
        learn(two_contexts(logging=(0.7, 0.3)), Options(floor=0.4))
    for wrong in ([0.5, 0.6], [1.0], [1.5, -0.5]):
        with pytest.raises(UsageError, match=r"--logging must be a probability for each of the loads \[0, 2\]"):
            learn(two_contexts(), Options(logging=wrong))
    learned = learn(two_contexts(), Options(logging=[0.8, 0.2], floor=0.1))
    np.testing.assert_allclose(learned.policy.logging, [0.8, 0.2])
