"""Evaluate and validate logs in files, of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits.errors import UsageError
from offline_eval.accumulate import expand
from offline_eval.actions import Actions
from offline_eval.batches import Frame
from offline_eval.conclude import bounds_of, conclude
from offline_eval.diagnostics import Finding, Level, duplicates, users
from offline_eval.diagnostics.candidates import beside_graphs
from offline_eval.formats import FORMATS
from offline_eval.formats.chunk import Id, ReadOptions, Shard
from offline_eval.plan import N_BLOCKS, Plan
from offline_eval.progress import progress
from offline_eval.report.words import short
from offline_eval.result import Report
from offline_eval.rewards import RewardChoice, choose
from offline_eval.stream import Job, accumulate, fit_models, numbered, survey
from offline_eval.survey import Survey
from offline_eval.targets import Target, constant_action, parse
from offline_eval.targets.policy_file import PolicyFileTarget

DENSE_ACTIONS = 4_096
"""Beyond so many actions (n, K) arrays are made only where an estimator needs them."""
MAX_NAME = 80
"""Characters of an action's id in a finding."""
MAX_LOOKED_FOR = 100_000
"""Fingerprints that occur twice, among which the first in the log is named."""


@dataclass(frozen=True)
class LogFiles:
    """A log and how it is read.

    path     as given
    shards   of all its files, in order
    actions  all ids, where the caller knows them; None: those of the log
    jobs     processes
    """

    path: Path
    shards: Sequence[Shard]
    options: ReadOptions = ReadOptions()
    actions: Sequence[Id] | None = None
    jobs: int = 1

    @property
    def n_files(self) -> int:
        return len({shard.path for shard in self.shards})

    def survey(self) -> Survey:
        """The first pass. Raises BadLog, UsageError for a log without a row that counts."""
        with progress(None, "survey") as advance:
            found = survey(self.shards, self.options, self.jobs, advance)
        if not found.n:
            left = ", ".join(f"{n:,} {reason}" for reason, n in found.left_out.items())
            raise UsageError(f"{self.path}: has no row to evaluate" + (f" (left out: {left})" if left else ""))
        return found

    def all_actions(self, found: Survey, *more: str | None) -> Actions:
        """The log's actions, or those that the caller knows, and more. Raises UsageError where one is missing there."""
        ids: dict[str, Id] = dict(found.ids)
        if self.actions is not None:
            ids = {str(one): one for one in self.actions}
            unknown = sorted(found.logged - ids.keys())
            if unknown:
                raise UsageError(f"--actions: the log has the action {unknown[0]}, which is not among these {len(ids)}")
        for one in more:
            if one is not None:
                ids.setdefault(one, one)
        return Actions.of(ids.values())


def evaluate_files(
    log: LogFiles,
    policy: str,
    plan: Plan,
    reward: str | None = None,
    beta: float | None = None,
    against: str | None = None,
) -> Report:
    """What the policy would have earned per row. Raises BadLog, UsageError.

    policy  as on the command line, see targets.GRAMMAR
    against another one, which it is compared with
    reward  name of a raw reward; None: the row's reward
    beta    of a mixture of satisfaction and revenue
    """
    found = log.survey()
    log = replace(log, shards=numbered(log.shards, found))
    actions = log.all_actions(found, constant_action(policy), None if against is None else constant_action(against))
    target = parse(policy, found, actions, log.n_files)
    try:
        other = None if against is None else parse(against, found, actions, log.n_files)
    except UsageError as fault:
        raise UsageError(str(fault).replace("--policy", "--against", 1)) from fault
    return _evaluate(log, found, actions, target, other, plan, choose(found, reward, beta))


def _evaluate(
    log: LogFiles,
    found: Survey,
    actions: Actions,
    target: Target,
    against: Target | None,
    plan: Plan,
    chosen: RewardChoice,
) -> Report:
    _check_needs(plan)
    frame = frame_of(log, found, actions, chosen)
    dropped: list[str] = []
    unknown = not frame.uniform and found.distributions < found.n
    if plan.defaulted and unknown and "logged" in (target.name, None if against is None else against.name):
        dropped = [one.key for one in plan.estimators if "target" in one.needs]
        plan = replace(plan, estimators=[one for one in plan.estimators if one.key not in dropped])
    members = expand(plan, plan.w_max or 1.0 / found.least_propensity, found.n)
    whole = plan.needs("target") or len(actions) <= DENSE_ACTIONS
    job = Job(
        plan,
        log.options,
        frame,
        target,
        members,
        whole,
        found.time,
        found.rows,
        known_candidates(log, found, whole),
        found.middle,
        against=against,
    )
    with progress(found.n, "reward model") as advance:
        models = fit_models(job, log.shards, log.jobs, advance) if plan.models else {}
    job = job.with_models(models)
    with progress(found.n, "evaluate") as advance:
        whole_log = accumulate(job, log.shards, log.jobs, advance)
    bounds = bounds_of(plan, whole_log, found.least_propensity, chosen.bounds(found))
    findings = [duplicates_of(log, found), users_of(found, plan.cluster), *_own_log(target, found)]
    about = _about(log, found, target, frame, models)
    if against is not None:
        about["against"] = against.name
    if dropped:
        about["left out"] = f"{', '.join(dropped)}: needs the logging policy's whole distribution, which is not logged"
    made = conclude(plan, whole_log, bounds, findings, about, lambda i: short(actions.ids[i], MAX_NAME), _times(found))
    policies = [one.name for one in (target, against) if one is not None]
    return replace(made, findings=beside_graphs(made.findings, policies, found.graphless, found.n, plan.thresholds))


def _own_log(target: Target, found: Survey) -> list[Finding]:
    """A policy is not judged by the rows that it was fitted to."""
    if not isinstance(target, PolicyFileTarget) or found.time is None or not target.learned_from(*found.time):
        return []
    window = " to ".join(target.policy.window)
    said = f"the policy was learned from rows of {window}, which this log covers: its value looks better than it is"
    return [Finding("learned from this log", Level.WARN, f"{said}; evaluate it on later rows")]


def known_candidates(log: LogFiles, found: Survey, dense: bool) -> bool:
    """Whether a batch tells every row's candidates: they are logged and (n, K) arrays are made, or are the format's."""
    return fixed_actions(log, found) or (dense and found.candidates == found.n)


def fixed_actions(log: LogFiles, found: Survey) -> bool:
    """Whether the same actions stood for choice in every row, as the format has it."""
    return not found.candidates and all(FORMATS[shard.format].FIXED_ACTIONS for shard in log.shards)


def frame_of(log: LogFiles, found: Survey, actions: Actions, chosen: RewardChoice) -> Frame:
    """What all batches agree on."""
    fixed = len(actions) if fixed_actions(log, found) else None
    return Frame(actions, found.columns, chosen, found.uniform(fixed))


def _check_needs(plan: Plan) -> None:
    for estimator in plan.estimators:
        for need, why in (
            ("embedding", "action embeddings, which no file format has; use offline_eval.evaluate in Python"),
            ("balanced", "the whole log in memory; use offline_eval.evaluate in Python"),
        ):
            if need in estimator.needs:
                raise UsageError(f"--estimators {estimator.kind}: needs {why}")


def _about(log: LogFiles, found: Survey, target: Target, frame: Frame, models: Mapping[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {"policy": target.name, "log": str(log.path), "rows": found.rows}
    if found.left_out:
        about["left_out"] = dict(found.left_out)
    about |= {"actions": len(frame.actions), "reward": frame.reward.name}
    if models:
        about["reward_model"] = next(iter(models.values())).name
        if found.unread:
            about["not in the context, no numbers"] = sorted(found.unread)
    if found.ordered is False:
        about["order"] = "rows are not in the order of time, which does not matter here"
    return about


def _times(found: Survey) -> dict[int, int] | None:
    """End of each stretch of time."""
    if found.time is None:
        return None
    first, last = found.time
    ends = first + (last - first) * (np.arange(N_BLOCKS) + 1.0) / N_BLOCKS
    return {i: int(end) for i, end in enumerate(ends)}


def users_of(found: Survey, clustered: bool) -> Finding:
    """Whose rows they are."""
    without = found.n - found.with_user
    return users(without, found.n, clustered)


def duplicates_of(log: LogFiles, found: Survey) -> Finding:
    """Counted in the survey; the first one is looked for where there are any."""
    if found.fingerprints is None:
        return duplicates(None, found.n)
    with found.fingerprints as fingerprints:
        n = fingerprints.repeats()
        first = _first_repeat(log, fingerprints.repeated(MAX_LOOKED_FOR)) if n else ""
    return duplicates(n, found.n, first)


def _first_repeat(log: LogFiles, repeated: NDArray[np.uint64]) -> str:
    """Where one of the fingerprints stands for the second time."""
    seen: set[int] = set()
    for shard in log.shards:
        for chunk in FORMATS[shard.format].read(shard, 131_072, replace(log.options, context=False)):
            if chunk.fingerprint is None:
                continue
            for i in np.flatnonzero(np.isin(chunk.fingerprint, repeated)).tolist():
                fingerprint = int(chunk.fingerprint[i])
                if fingerprint in seen:
                    return chunk.place.of(i)
                seen.add(fingerprint)
    return ""
