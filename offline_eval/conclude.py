"""From what was added up to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bandits.moments import Moments
from offline_eval.accumulate import COLUMNS, Accumulator, Logged, Sums
from offline_eval.diagnostics import Finding, Level
from offline_eval.estimators import Estimator, Shrunk
from offline_eval.intervals import interval
from offline_eval.intervals.base import Bounds, Evidence
from offline_eval.intervals.confseq import path
from offline_eval.plan import Plan
from offline_eval.report.pictures import Moment
from offline_eval.report.words import percent
from offline_eval.result import Estimate, Report
from offline_eval.selection import select


def bounds_of(plan: Plan, accumulator: Accumulator, least_propensity: float, reward: tuple[float, float]) -> Bounds:
    """A-priori bounds as given; what was not given is assumed, and said so."""
    assumed = []
    largest = plan.w_max
    if largest is None and not accumulator.unknown:
        largest = accumulator.largest_ratio
    if largest is None:
        share = min(accumulator.largest_target, 1.0)
        largest = share / least_propensity
        what = "1" if share == 1.0 else "max(target)"
        assumed.append(f"w_max assumed: {what}/min(propensity) = {largest:.6g}")
    low, high = plan.reward or (0.0, 1.0)
    if reward[0] < low or high < reward[1]:
        low, high = (
            min(reward[0], low) if plan.reward else reward[0],
            max(reward[1], high) if plan.reward else reward[1],
        )
        assumed.append(f"reward range assumed: what was seen, [{low:.6g}, {high:.6g}]")
    return Bounds(largest, (low, high), tuple(assumed))


def conclude(
    plan: Plan,
    accumulator: Accumulator,
    bounds: Bounds,
    findings: Sequence[Finding],
    about: Mapping[str, Any],
    name: Callable[[int], str] = str,
    times: Mapping[int, int] | None = None,
) -> Report:
    """The report.

    findings  of what the diagnosis cannot see: duplicates, users
    name      of an action by its column
    times     end of each stretch of time, microseconds; None where the log has no clock
    """
    numbers = accumulator.diagnosis.numbers()
    by_member = dict(zip(accumulator.members, accumulator.sums, strict=True))
    estimates = {}
    for asked in plan.estimators:
        member, record = _member(plan, asked, by_member, bounds)
        evidence = _evidence(plan, member, by_member[member], bounds, numbers["ess"], numbers["max_weight"])
        estimates[asked.key] = _estimate(plan, asked.key, evidence, record)
    reward_only = tuple(one for one in bounds.assumed if one.startswith("reward"))
    logged = replace(bounds, largest_weight=1.0, assumed=reward_only)
    baseline = _evidence(plan, Logged(), accumulator.baseline, logged, float("inf"), 1.0)
    if accumulator.pictures is not None and accumulator.sums:
        _draw_time(plan, accumulator, bounds, times)
    known = not any(one.startswith("w_max") for one in bounds.assumed)
    made = accumulator.diagnosis.findings(plan.thresholds, bounds.largest_weight if known else None, name)
    if accumulator.comparison is not None:
        made += accumulator.comparison.findings(plan.thresholds, name)
    return Report(
        accumulator.baseline.moments.n,
        replace(_estimate(plan, "logged", baseline, {}), flags=reward_only),
        estimates,
        numbers,
        [*made, *_narrow(plan, estimates), *findings],
        accumulator.pictures,
        {"alpha": plan.alpha, "interval": plan.interval, **about, "thresholds": plan.thresholds},
        _differences(plan, accumulator, by_member, bounds),
    )


def _differences(
    plan: Plan, accumulator: Accumulator, by_member: Mapping[Estimator, Sums], bounds: Bounds
) -> dict[str, Estimate] | None:
    """To the other target, of a family with the member that was chosen for the first."""
    comparison = accumulator.comparison
    if comparison is None:
        return None
    members = {asked.key: _member(plan, asked, by_member, bounds)[0] for asked in plan.estimators}
    return {key: comparison.difference(key, member, plan.alpha) for key, member in members.items()}


def _member(
    plan: Plan, asked: Estimator, by_member: Mapping[Estimator, Sums], bounds: Bounds
) -> tuple[Estimator, Mapping[str, Any]]:
    """The estimator, or of a family the member chosen, with how."""
    if not (isinstance(asked, Shrunk) and asked.is_family):
        return asked, {}
    family = [one for one in by_member if isinstance(one, Shrunk) and type(one) is type(asked)]
    member, _, record = select(plan.selection, family, [by_member[one].moments for one in family], bounds)
    return member, {"lam": record["lam"], "chosen_by": record["chosen_by"]}


def chosen(asked: Estimator, estimate: Estimate) -> Estimator:
    """The member of a family that an estimate is of; the estimator itself where it is none."""
    if isinstance(asked, Shrunk) and asked.is_family:
        return type(asked)(estimate.parameters["lam"])
    return asked


def _evidence(plan: Plan, estimator: Estimator, sums: Sums, bounds: Bounds, ess: float, seen: float) -> Evidence:
    clusters, groups = (sums.clusters, None) if plan.cluster else (None, sums.clusters)
    return Evidence(estimator, sums.moments, bounds, clusters, sums.in_time, ess, groups, seen)


def _estimate(plan: Plan, key: str, evidence: Evidence, record: Mapping[str, Any]) -> Estimate:
    made = interval(plan.interval, evidence, plan.alpha, plan.seed)
    error, ends = evidence.standard_error, (made.low, made.high)
    return Estimate(key, evidence.value, ends, made.method, error, made.flags, dict(record), narrow=made.narrow)


def _narrow(plan: Plan, estimates: Mapping[str, Estimate]) -> list[Finding]:
    """Intervals that nothing should be decided by, in one finding."""
    models = {one.key for one in plan.estimators if one.form == "model"}
    told = [
        f"{key}: {one.flags[-1]}" for key, one in estimates.items() if one.narrow and one.flags and key not in models
    ]
    if not told:
        return []
    return [Finding("intervals", Level.WARN, f"{'; '.join(told)}: read cressie-read ones, or log more rounds")]


def _draw_time(plan: Plan, accumulator: Accumulator, bounds: Bounds, times: Mapping[int, int] | None) -> None:
    """The first estimator's value over time, with its confidence sequence."""
    estimator, sums = accumulator.members[0], accumulator.sums[0]
    evidence = Evidence(estimator, sums.moments, bounds, None, sums.in_time)
    assert accumulator.pictures is not None
    running = Moments.zero(COLUMNS)
    moments = []
    for stop, (n, low, high) in zip(sorted(sums.blocks), path(evidence, plan.alpha), strict=True):
        running.merge(sums.blocks[stop])
        moments.append(Moment(None if times is None else times[stop], n, estimator.value(running), low, high))
    accumulator.pictures.timeline = moments
    accumulator.pictures.timeline_of = f"{estimator.key}, {percent(1 - plan.alpha)} confidence sequence"
