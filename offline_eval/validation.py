"""Whether a log is sound, whatever it will be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_eval.comparison import OF_A_TARGET
from offline_eval.diagnostics import Finding, Level
from offline_eval.diagnostics.candidates import not_given, untested
from offline_eval.errors import BadLog
from offline_eval.files import (
    DENSE_ACTIONS,
    MAX_NAME,
    LogFiles,
    duplicates_of,
    fixed_actions,
    frame_of,
    known_candidates,
    users_of,
)
from offline_eval.plan import Plan
from offline_eval.progress import progress
from offline_eval.report.words import LEVELS, short
from offline_eval.rewards import choose
from offline_eval.stream import Job, accumulate
from offline_eval.survey import Survey
from offline_eval.targets.fixed import Uniform


@dataclass(frozen=True, slots=True)
class Check:
    """One check's result, as banditd validate prints it; level is ok, note (not tested), warning or refusal."""

    name: str
    ok: bool
    detail: str
    level: str = "ok"


def validate(log: LogFiles) -> Sequence[Check]:
    """Every check of the log: schema, propensities, duplicates, users, support; a structural fault ends them.

    Propensities are tested with the weights of the uniform policy. Where candidates are unknown an action may have been
    impossible, so a mean weight below 1 proves nothing and only one above 1 is held against the log; where a graph that
    is not given knows them, nothing is, for there may be more candidates than actions in the log.
    """
    try:
        found = log.survey()
        findings = [*_propensities(log, found), duplicates_of(log, found), users_of(found, clustered=False)]
    except BadLog as fault:
        return [Check("schema", False, str(fault), LEVELS[Level.REFUSE])]
    if found.graphless:
        findings.insert(0, Finding("candidates", Level.WARN, not_given(found.graphless, found.n)))
    return [_schema(log, found), *map(_check, findings), _support(log, found)]


def _propensities(log: LogFiles, found: Survey) -> list[Finding]:
    actions = log.all_actions(found)
    frame = frame_of(log, found, actions, choose(found, None, None))
    dense = len(actions) <= DENSE_ACTIONS
    known = known_candidates(log, found, dense)
    job = Job(Plan([]), log.options, frame, Uniform(), [], dense, found.time, found.n, known, found.middle)
    with progress(found.n, "propensities") as advance:
        diagnosis = accumulate(job, log.shards, log.jobs, advance).diagnosis
    findings = diagnosis.findings(Plan([]).thresholds, None, lambda i: short(actions.ids[i], MAX_NAME))
    of_log = [one for one in findings if one.name not in OF_A_TARGET]
    below = not (known or found.candidates == found.n) and diagnosis.numbers()["mean_weight"] <= 1.0
    if below or found.graphless:
        of_log = [untested(one) if one.name == "mean weight" else one for one in of_log]
    return of_log


def _check(finding: Finding) -> Check:
    doubt = "warning: " if finding.level == Level.WARN else ""
    return Check(finding.name, finding.level < Level.REFUSE, doubt + finding.detail, LEVELS[finding.level])


def _schema(log: LogFiles, found: Survey) -> Check:
    left = "".join(f", {n:,} left out: {reason}" for reason, n in found.left_out.items())
    formats = ", ".join(sorted({shard.format for shard in log.shards}))
    files = "file" if log.n_files == 1 else "files"
    return Check("schema", True, f"{found.rows:,} rows of {log.n_files} {files}, format {formats}{left}")


def _support(log: LogFiles, found: Survey) -> Check:
    """Actions never taken speak against a log that does not tell whether that was chance."""
    never = len(found.ids) - len(found.logged)
    text = f"smallest propensity {found.least_propensity:.6g}; {len(found.logged):,} actions were taken"
    if not never:
        return Check("support", True, text)
    fixed = len(log.all_actions(found)) if fixed_actions(log, found) else None
    if found.uniform(fixed) or found.distributions == found.n:
        return Check("support", True, f"{text}, {never:,} candidates never, whose probabilities are logged")
    text = f"warning: {text}, {never:,} candidates never: a policy that takes them cannot be evaluated"
    return Check("support", True, text, LEVELS[Level.WARN])
