"""evaluate: a target policy on a log in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits.arrays import F64
from offline_eval import models
from offline_eval.accumulate import Accumulator, blocks_of_rows, blocks_of_time, expand
from offline_eval.comparison import Comparison
from offline_eval.conclude import bounds_of, chosen, conclude
from offline_eval.dataset import BanditLog, distribution
from offline_eval.diagnostics import Diagnosis, Finding, Thresholds, duplicates, middles, repeated, users, without_user
from offline_eval.errors import BadLog
from offline_eval.estimators import Estimator, parse
from offline_eval.intervals.bootstrap import group_of
from offline_eval.models import Models
from offline_eval.plan import Plan
from offline_eval.report.pictures import Pictures
from offline_eval.result import Report
from offline_eval.rounds import Rounds

SLICE = 1_000_000
"""Entries of an (n, K) array that are worked on at a time, so that they stay in the cache."""
Spec = str | tuple[str, Mapping[str, Any]] | Estimator


def evaluate(
    log: BanditLog,
    target: ArrayLike,
    estimators: Sequence[Spec] = ("ips", "snips", "dr"),
    reward_model: Any = None,
    interval: str = "cressie-read",
    alpha: float = 0.05,
    w_max: float | None = None,
    reward_range: tuple[float, float] | None = (0, 1),
    cluster: ArrayLike | str | None = None,
    seed: int = 0,
    *,
    against: ArrayLike | None = None,
    thresholds: Thresholds | None = None,
    selection: str = "mse",
    terms: bool = True,
    pictures: bool = False,
) -> Report:
    """What the target policy would have earned per round, with intervals and a diagnosis of the log.

    target        float64 (n, K)  the target's probabilities
    estimators    names, or (name, {parameter: value}); one whose lambda is left out has it chosen on the log
    reward_model  float64 (n, K) predicted rewards, or a scikit-learn estimator, which is cross-fitted; None: a
                  cross-fitted ridge regression
    interval      normal | bootstrap | empirical-bernstein | cressie-read | confseq; where it does not hold for an
                  estimator the normal interval stands in, and interval_method says so
    w_max         a-priori bound of target / logging; None: its largest value where `log.logging` is known, else
                  1 / min(propensity), flagged "assumed"
    reward_range  a-priori bounds of a reward; where rewards lie beyond, or for None, what was seen is taken, flagged
                  "assumed"
    cluster       "user" for the log's, or an id per round (n,): rounds of one id are not taken as independent
    against       float64 (n, K)  another target: report.comparison has the first's value less its value, by estimator,
                  paired over the rounds; mrdr takes the first target's reward model for both
    thresholds    of the diagnosis; None: Thresholds()
    selection     how a lambda is chosen: slope | mse
    terms         whether estimates keep their per-round terms
    pictures      whether the report holds what plots are drawn from

    The numbers are always there; report.verdict and report.reasons say whether the log supports them.
    Raises BadLog for a target that does not fit, ValueError for an unknown name or parameter.

    >>> log = BanditLog(None, action=[0, 1, 1, 0], reward=[1, 0, 1, 0], propensity=[0.5] * 4, n_actions=2)
    >>> report = evaluate(log, target=[[0.0, 1.0]] * 4, estimators=["ips"])
    >>> report.estimates["ips"].value, report.estimates["ips"].interval_method
    (0.5, 'cressie-read')
    >>> report.supported
    False
    """
    if not len(log):
        raise BadLog("reward", 0, "a log must have at least one round")
    whole = distribution("target", target, len(log), log.n_actions)
    other = None if against is None else distribution("against", against, len(log), log.n_actions)
    plan = Plan(
        [parse(one) for one in ([estimators] if isinstance(estimators, str) else estimators)],
        interval,
        alpha,
        w_max,
        _checked_range(reward_range),
        cluster is not None,
        selection,
        pictures,
        thresholds or Thresholds(),
        seed,
    )
    ids = _cluster(log, cluster)
    key = None if ids is None else _key(ids)
    fitted = models.fit(plan, reward_model, log, whole, ids)
    fitted_other = None if other is None else models.refit(plan, fitted, log, other, ids)
    least = float(log.propensity.min())
    middle, members = middles(log.context), expand(plan, w_max or 1.0 / least, len(log))
    accumulator = Accumulator(
        members,
        Diagnosis(log.n_actions, middle=middle),
        Pictures() if pictures else None,
        comparison=None
        if other is None
        else Comparison(members, Diagnosis(log.n_actions, middle=middle), plan.cluster),
    )
    parts = list(_slices(log, whole, fitted))
    for rounds, rows in parts:
        second = None if other is None or fitted_other is None else _rounds(rounds.log, other, fitted_other, rows)
        accumulator.add(rounds, {}, _group(plan, key, rows), _block(plan, log, rows), second=second)
    bounds = bounds_of(plan, accumulator, least, (float(log.reward.min()), float(log.reward.max())))
    findings = [_duplicates(log), _users(log, plan.cluster, ids)]
    about = {"reward_model": fitted.name} if fitted.name else {}
    report = conclude(plan, accumulator, bounds, findings, about)
    if not terms:
        return report
    of_rounds = {one.key: chosen(one, report.estimates[one.key]) for one in plan.estimators}
    kept = {
        key: np.concatenate([one.terms(part, accumulator.of(one)) for part, _ in parts])
        for key, one in of_rounds.items()
    }
    return replace(report, estimates={key: replace(one, terms=kept[key]) for key, one in report.estimates.items()})


def _checked_range(given: tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None:
        return None
    if len(given) != 2:
        raise ValueError(f"reward_range must be (low, high), got {given}")
    return float(given[0]), float(given[1])


def _cluster(log: BanditLog, given: ArrayLike | str | None) -> NDArray[Any] | None:
    """An id per round, or None."""
    if given is None:
        return None
    if isinstance(given, str):
        if given != "user":
            raise ValueError(f'cluster must be "user" or an id per round, got {given!r}')
        if log.user is None:
            raise BadLog("user", None, "is needed to cluster by user")
        return log.user
    ids = np.asarray(given)
    if ids.shape != (len(log),):
        raise BadLog("cluster", ids.shape, f"shape must be ({len(log)},)")
    return ids


def _key(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Equal for equal ids, 0 where there is none, uint64 (n,)."""
    if ids.dtype.kind != "O":
        missing = np.isnan(ids) if ids.dtype.kind == "f" else ids == "" if ids.dtype.kind == "U" else None
        number = np.unique(ids, return_inverse=True)[1].reshape(-1) + 1
        return np.asarray(number if missing is None else np.where(missing, 0, number), np.uint64)
    seen: dict[object, int] = {}
    missing_one = (None, "")
    numbers = [0 if one in missing_one or one != one else seen.setdefault(one, len(seen) + 1) for one in ids.tolist()]
    return np.array(numbers, np.uint64)


def _slices(log: BanditLog, target: F64, fitted: Models) -> Iterator[tuple[Rounds, slice]]:
    size = max(1, SLICE // log.n_actions)
    for start in range(0, len(log), size):
        rows = slice(start, min(start + size, len(log)))
        yield _rounds(log.rows(rows), target, fitted, rows), rows


def _rounds(part: BanditLog, target: F64, fitted: Models, rows: slice) -> Rounds:
    of_action = target[rows][np.arange(len(part)), part.action]
    by_name = {name: values[rows] for name, values in fitted.by_name.items()}
    balanced = None if fitted.balanced is None else fitted.balanced[rows]
    return Rounds(part, of_action, target[rows], by_name, balanced)


def _group(plan: Plan, key: NDArray[np.uint64] | None, rows: slice) -> NDArray[np.uint64] | None:
    """Of each round its user, or for a bootstrap without users its group."""
    if key is not None:
        return key[rows]
    return group_of(np.arange(rows.start, rows.stop)) if plan.interval == "bootstrap" else None


def _block(plan: Plan, log: BanditLog, rows: slice) -> NDArray[np.intp] | None:
    if not plan.in_blocks:
        return None
    if log.timestamp is None:
        return blocks_of_rows(np.arange(rows.start, rows.stop), len(log))
    return blocks_of_time(log.timestamp[rows], int(log.timestamp.min()), int(log.timestamp.max()))


def _duplicates(log: BanditLog) -> Finding:
    rows = repeated(log)
    if rows is None:
        return duplicates(None, len(log))
    return duplicates(len(rows), len(log), f"row {rows[0]}" if len(rows) else "")


def _users(log: BanditLog, clustered: bool, ids: NDArray[Any] | None) -> Finding:
    of = ids if ids is not None else log.user
    return users(len(log) if of is None else without_user(of), len(log), clustered)
