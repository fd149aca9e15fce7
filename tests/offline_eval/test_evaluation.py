"""evaluate() on arrays: what it returns, what it refuses, and laws that its numbers obey."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from offline_eval import BanditLog, evaluate
from offline_eval.diagnostics import Thresholds
from offline_eval.errors import BadLog
from tests.offline_eval.engine import EVERY, columns, log, target

HELD, TARGET = columns(), target()
N, K = TARGET.shape
EVERYTHING = [*EVERY.split(","), "bipw"]
SMALL = slice(0, 400)


def small(**changes):
    part = {name: one[SMALL] if isinstance(one, np.ndarray) else one for name, one in HELD.items()}
    return BanditLog(**{**part, **changes})


def levels(report):
    return {one.name: one.level.name for one in report.findings}


def test_estimates_are_keyed_as_asked_and_their_terms_average_to_them():
    asked = [*EVERYTHING, ("switch-dr", {"lam": 5.3}), "cips:lam=3", "drps(lam=2)"]
    report = evaluate(log(), TARGET, asked)
    assert list(report.estimates) == [*EVERYTHING, "switch-dr(lam=5.3)", "cips(lam=3)", "drps(lam=2)"]
    for key, one in report.estimates.items():
        assert one.estimator == key
        assert one.terms.shape == (N,)
        assert one.terms.mean() == pytest.approx(one.value, abs=1e-12)
        assert one.interval[0] <= one.interval[1]
    assert report.estimates["switch-dr"].parameters["chosen_by"] == "mse"
    assert report.supported
    assert report.verdict.startswith("supported")


def test_terms_are_weighted_by_count():
    count = np.random.default_rng(3).uniform(1, 3, N)
    for one in evaluate(log(count=count), TARGET, EVERYTHING).estimates.values():
        assert np.average(one.terms, weights=count) == pytest.approx(one.value, abs=1e-12)


def test_closed_forms():
    report = evaluate(log(), TARGET, ("ips", "snips", "dr"), reward_model=np.full((N, K), 0.3), terms=False)
    weight = TARGET[np.arange(N), HELD["action"]] / HELD["propensity"]
    values = {name: one.value for name, one in report.estimates.items()}
    assert values["ips"] == pytest.approx(np.mean(weight * HELD["reward"]), abs=1e-12)
    assert values["snips"] == pytest.approx(np.average(HELD["reward"], weights=weight), abs=1e-12)
    assert values["dr"] == pytest.approx(0.3 + np.mean(weight * (HELD["reward"] - 0.3)), abs=1e-12)
    assert report.estimates["ips"].terms is None
    assert report.diagnostics["ess"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


@pytest.mark.parametrize("uniform", [False, True])
def test_a_policy_valued_on_its_own_log_has_the_logged_mean(uniform):
    action = np.random.default_rng(2).integers(K, size=N)
    changes = {"action": action, "propensity": np.full(N, 1 / K), "logging": np.full((N, K), 1 / K)} if uniform else {}
    held = log(**changes)
    asked = ("ips", "snips", "dr", *(("replay",) if uniform else ()))
    report = evaluate(held, held.logging, asked, reward_model=np.full((N, K), 0.37))
    for one in report.estimates.values():
        assert one.value == pytest.approx(HELD["reward"].mean(), abs=1e-12)
    assert report.diagnostics["aa_difference"] == pytest.approx(0.0, abs=1e-12)
    assert levels(report)["a/a"] == "OK"


@pytest.mark.parametrize("model", [Ridge(), LogisticRegression(), GradientBoostingRegressor(n_estimators=5)])
def test_scikit_learn_reward_models_are_cross_fitted_and_named(model):
    report = evaluate(log(), TARGET, ("dm", "dr", "mrdr"), reward_model=model)
    assert report.about["reward_model"] == f"cross-fitted {type(model).__name__}, one per action, 5 folds"
    truth = (TARGET @ (0.2 + 0.15 * np.arange(K))).mean()
    assert report.estimates["dr"].value == pytest.approx(truth, abs=0.04)
    assert report.estimates["dm"].value == pytest.approx(truth, abs=0.04)


METHODS = {
    "normal": ("normal", "normal, delta method", "normal"),
    "bootstrap": ("bootstrap", "bootstrap", "bootstrap"),
    "empirical-bernstein": ("empirical-bernstein", "normal, delta method", "empirical-bernstein"),
    "cressie-read": ("cressie-read", "cressie-read", "normal"),
    "confseq": ("confseq", "confseq", "confseq"),
}


@pytest.mark.parametrize("asked", METHODS)
def test_interval_method_names_what_was_used(asked):
    estimates = evaluate(log(), TARGET, ("ips", "snips", "dr"), interval=asked).estimates.values()
    for one, used in zip(estimates, METHODS[asked], strict=True):
        assert one.interval_method.startswith(used)
        documented = asked == "cressie-read" and one.estimator == "dr"
        assert one.interval_method.startswith(asked) or documented or any(asked in flag for flag in one.flags)
        assert one.interval[0] < one.value < one.interval[1]


@pytest.mark.parametrize("ids", [[i % 150 for i in range(N)], [f"u{i % 150}" for i in range(N)], None])
def test_clusters_from_an_array_or_the_log_are_the_same(ids):
    held = log(user=np.array([f"x{i % 150}" for i in range(N)], object))
    of_log = evaluate(held, TARGET, ("ips", "dr"), interval="normal", cluster="user")
    given = evaluate(held, TARGET, ("ips", "dr"), interval="normal", cluster=held.user if ids is None else ids)
    alone = evaluate(held, TARGET, ("ips", "dr"), interval="normal")
    assert given.estimates["ips"].interval == pytest.approx(of_log.estimates["ips"].interval, abs=1e-12)
    assert given.estimates["ips"].interval != alone.estimates["ips"].interval
    assert "clustered" in given.estimates["dr"].interval_method


@pytest.mark.parametrize("ids", [[None, "a", 1] * (N // 3), [""] * N, [np.nan] * N])
def test_missing_users_are_caught_by_name(ids):
    report = evaluate(log(), TARGET, ("ips",), cluster=np.array(ids, object))
    assert levels(report)["users"] == "REFUSE"
    assert any("missing users" in reason for reason in report.reasons)


def test_the_largest_weight_is_assumed_only_where_logging_is_unknown():
    known, unknown = (evaluate(held, TARGET, ("ips",)).estimates["ips"] for held in (log(), log(logging=None)))
    assert known.flags == ()
    assert unknown.flags == (
        f"w_max assumed: max(target)/min(propensity) = {TARGET.max() / HELD['propensity'].min():.6g}",
    )
    given = evaluate(log(logging=None), TARGET, ("ips",), w_max=40.0).estimates["ips"]
    assert given.flags == ()


@pytest.mark.parametrize("given", [(0, 1), None])
def test_rewards_beyond_the_range_are_seen_and_said(given):
    report = evaluate(log(reward=HELD["reward"] * 9 - 2), TARGET, ("ips",), reward_range=given)
    assert "reward range assumed: what was seen, [-2, 7]" in report.estimates["ips"].flags
    assert "reward range assumed: what was seen, [-2, 7]" in report.baseline.flags


FAULTS = {
    "target sum": ({"target": TARGET * 0.9}, "row 0: sum of target: got 0.9, must be 1"),
    "target shape": ({"target": TARGET[:, :2]}, f"target: got ({N}, 2), shape must be ({N}, 4)"),
    "target rows": ({"target": TARGET[:5]}, f"target: got (5, 4), shape must be ({N}, 4)"),
    "target flat": ({"target": HELD["action"]}, f"target: got ({N},), shape must be ({N}, 4)"),
    "target negative": ({"target": TARGET - 0.9}, "row 0: target["),
    "target NaN": ({"target": np.where(np.arange(K) == 2, np.nan, TARGET)}, "row 0: target[2]: got nan"),
    "target text": ({"target": TARGET.astype(str)}, "must be numbers"),
    "target ragged": ({"target": [[1], [0, 1]]}, "target: got 'list', rows must have the same length"),
    "against": ({"against": TARGET[:5]}, f"against: got (5, 4), shape must be ({N}, 4)"),
    "model shape": ({"reward_model": np.zeros((N, 2))}, f"reward_model: got ({N}, 2)"),
    "model NaN": ({"reward_model": np.full((N, K), np.nan)}, "row 0: reward_model[0]: got nan, must be finite"),
    "model name": ({"reward_model": "ridge"}, "reward_model: got 'str', must be a scikit-learn estimator"),
    "model class": ({"reward_model": Ridge}, "reward_model: got 'ABCMeta', must be a scikit-learn estimator"),
    "cluster shape": ({"cluster": [1, 2]}, f"cluster: got (2,), shape must be ({N},)"),
    "cluster user": ({"cluster": "user"}, "user: got None, is needed to cluster by user"),
    "cluster name": ({"cluster": "session"}, "cluster must be \"user\" or an id per round, got 'session'"),
    "estimator": ({"estimators": ["ipss"]}, "'ipss' is no estimator; did you mean ips?"),
    "estimator number": ({"estimators": [3]}, "an estimator is a name or (name, {parameter: value}), got 3"),
    "parameter": ({"estimators": [("switch-dr", {"lambda": 1})]}, "switch-dr has no parameter 'lambda'"),
    "parameter value": ({"estimators": [("switch-dr", {"lam": -1})]}, "switch-dr: lam must lie in [0, inf], got -1"),
    "slates": ({"estimators": ["sips"]}, "sips: slate estimator: not in this version"),
    "mips": ({"estimators": ["mips"]}, "mips needs action_embedding in the log"),
    "mrdr": ({"estimators": ["mrdr"], "reward_model": np.zeros((N, K))}, "mrdr fits its own reward model"),
    "interval": ({"interval": "cresie-read"}, "got 'cresie-read'; did you mean cressie-read?"),
    "selection": ({"selection": "sloppy"}, "selection must be one of slope, mse, got 'sloppy'; did you mean slope?"),
    "alpha 0": ({"alpha": 0}, "alpha must lie in (0, 1), got 0"),
    "alpha NaN": ({"alpha": float("nan")}, "alpha must lie in (0, 1), got nan"),
    "w_max": ({"w_max": 0}, "w_max must be > 0 and finite, got 0"),
    "w_max NaN": ({"w_max": float("nan")}, "w_max must be > 0 and finite, got nan"),
    "w_max infinite": ({"w_max": float("inf")}, "w_max must be > 0 and finite, got inf"),
    "range falls": ({"reward_range": (1, 0)}, "reward_range must rise, got (1.0, 0.0)"),
    "range of three": ({"reward_range": (0, 1, 2)}, "reward_range must be (low, high), got (0, 1, 2)"),
    "seed": ({"seed": 1.5}, "seed must be an integer >= 0, got 1.5"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_that_says_what(name):
    changes, text = FAULTS[name]
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the text is what is checked
        evaluate(log(), **{"target": TARGET, "estimators": ["ips", "dr"], **changes})
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_log_is_refused():
    with pytest.raises(BadLog, match="a log must have at least one round"):
        evaluate(BanditLog(None, [], [], [], 2), np.empty((0, 2)))


@pytest.mark.parametrize("interval", METHODS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 2), (40, 1)])
def test_the_smallest_logs_have_numbers_and_a_refusal(n, k, interval):
    held = BanditLog(None, np.arange(n) % k, np.ones(n), np.full(n, 1 / k), k)
    report = evaluate(held, np.full((n, k), 1 / k), EVERYTHING, interval=interval, pictures=True)
    assert report.estimates["ips"].value == 1.0
    assert not report.supported
    assert levels(report)["effective sample size"] == "REFUSE"


def test_what_the_log_never_does_is_refused_by_name():
    held = log(action=np.maximum(HELD["action"], 1), logging=None)
    report = evaluate(held, np.tile([1.0, 0.0, 0.0, 0.0], (N, 1)), EVERYTHING)
    assert levels(report)["unsupported actions"] == "REFUSE"
    assert report.verdict.startswith("refused")
    assert report.estimates["ips"].value == 0.0
    assert np.isnan(report.estimates["snips"].value)


def test_one_weight_that_carries_half_of_the_sum_is_caught_by_name():
    propensity = HELD["propensity"].copy()
    weight = TARGET[np.arange(N), HELD["action"]] / propensity
    propensity[5] = TARGET[5, HELD["action"][5]] / (weight.sum() - weight[5])
    report = evaluate(log(propensity=propensity, logging=None), TARGET, ("ips",))
    assert report.diagnostics["max_weight_share"] == pytest.approx(0.5, abs=1e-9)
    assert levels(report)["largest weight"] == "REFUSE"
    lenient = evaluate(log(propensity=propensity, logging=None), TARGET, ("ips",), thresholds=Thresholds(1, 0.6))
    assert levels(lenient)["largest weight"] == "OK"


WRONG = {
    "scaled": lambda p: p * 0.7,
    "shuffled": lambda p: np.random.default_rng(4).permutation(p),
}


@pytest.mark.parametrize("name", WRONG)
def test_propensities_that_contradict_their_distribution_are_a_finding(name):
    report = evaluate(log(propensity=WRONG[name](HELD["propensity"])), TARGET, ("ips",))
    assert levels(report)["propensities"] == "REFUSE"
    assert "propensity" in next(one.detail for one in report.findings if one.name == "propensities")


def test_a_softmax_logged_for_an_argmax_is_caught_by_name():
    scores = np.random.default_rng(5).normal(size=(N, K))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    action = scores.argmax(axis=1)
    held = log(action=action, propensity=softmax[np.arange(N), action], logging=softmax)
    report = evaluate(held, TARGET, ("ips",))
    assert levels(report)["propensities, reliability"] == "REFUSE"


def test_duplicates_are_caught_by_name():
    twice = {name: np.concatenate([one[:1500]] * 2) for name, one in HELD.items() if name not in ("n_actions",)}
    held = BanditLog(**twice, n_actions=K, timestamp=np.tile(np.arange(1500), 2))
    report = evaluate(held, target(1500).repeat(2, axis=0), ("ips",))
    assert levels(report)["duplicates"] == "REFUSE"
    assert any("1,500 of 3,000 rows repeat an earlier one (first: row 1500)" in one for one in report.reasons)


def test_an_interval_of_contradictory_weights_is_not_upside_down():
    report = evaluate(log(propensity=HELD["propensity"] * 0.5), TARGET, ("ips", "snips"))
    assert all(one.interval[0] <= one.interval[1] for one in report.estimates.values())
    assert any("wrong propensities" in flag for flag in report.estimates["ips"].flags)


def test_the_largest_numbers_that_are_taken_do_not_overflow():
    reward, context = HELD["reward"][SMALL].copy(), HELD["context"][SMALL].copy()
    reward[0], reward[1], context[2, 0] = 1e50, -1e50, 1e50
    for interval in METHODS:
        report = evaluate(small(reward=reward, context=context), TARGET[SMALL], EVERYTHING, interval=interval)
        assert np.isfinite(report.estimates["ips"].value)


def test_another_target_is_compared_round_by_round():
    other = target(seed=9)
    report = evaluate(log(), TARGET, ("ips", "snips", "dr", "switch-dr", "bipw"), against=other)
    alone = evaluate(log(), other, ("ips", "snips", "dr"))
    assert list(report.comparison) == list(report.estimates)
    for name, one in alone.estimates.items():
        difference = report.comparison[name]
        assert difference.value == pytest.approx(report.estimates[name].value - one.value, abs=1e-12)
        assert difference.interval[0] < difference.value < difference.interval[1]
        assert difference.interval_method.endswith("paired")
    terms = report.estimates["ips"].terms - alone.estimates["ips"].terms
    assert report.comparison["ips"].standard_error == pytest.approx(terms.std() / np.sqrt(N), rel=1e-3)
    assert "effective sample size, of the other policy" in levels(report)
    assert evaluate(log(), TARGET).comparison is None


def test_a_target_is_not_ahead_of_itself():
    users = [i % 150 for i in range(N)]
    report = evaluate(log(), TARGET, ("ips", "dr", "dros"), against=TARGET, cluster=users)
    for one in report.comparison.values():
        assert (one.value, *one.interval) == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
        assert "clustered" in one.interval_method


def test_a_log_that_cannot_tell_of_the_other_target_is_refused():
    held = log(action=np.maximum(HELD["action"], 1), logging=None, allowed=None)
    without = np.tile([0.0, 0.4, 0.3, 0.3], (N, 1))
    report = evaluate(held, without, ("ips",), against=np.tile([1.0, 0.0, 0.0, 0.0], (N, 1)))
    assert levels(report)["unsupported actions"] == "OK"
    assert levels(report)["unsupported actions, of the other policy"] == "REFUSE"
    assert not report.supported
