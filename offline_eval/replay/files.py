"""Replay a policy on the files of a log."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bandits.errors import UsageError
from offline_eval.batches import Frame
from offline_eval.errors import BadLog
from offline_eval.files import LogFiles, duplicates_of
from offline_eval.learners import is_learner
from offline_eval.progress import progress
from offline_eval.replay.outcome import Outcome, conclude
from offline_eval.replay.run import Log, play
from offline_eval.replay.scan import scan
from offline_eval.rewards import choose
from offline_eval.stream import numbered
from offline_eval.targets import constant_action


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a log.

    policy        as on the command line
    seed          of the draws
    quantile      share of rows in which doubly robust replay may cut off its rejection sampling
    interval      name of the method; None: the default of the kind of replay
    alpha         intervals have coverage 1 - alpha
    reward_range  a-priori (low, high); None: assumed
    reward, beta  which reward, see rewards.choose
    min_ess       effective rows below which it is refused, see outcome.conclude
    """

    policy: str
    seed: int = 0
    quantile: float = 0.05
    interval: str | None = None
    alpha: float = 0.05
    reward_range: tuple[float, float] | None = None
    reward: str | None = None
    beta: float | None = None
    min_ess: float | None = None


def replay_files(log: LogFiles, question: Question) -> Outcome:
    """Scan the log, then replay it. Raises UsageError, for a fault of the log too."""
    try:
        return _replay(log, question)
    except BadLog as fault:
        raise UsageError(str(fault)) from fault


def _replay(log: LogFiles, question: Question) -> Outcome:
    log = replace(log, options=replace(log.options, slots=is_learner(question.policy)))
    with progress(None, "reading") as advance:
        found = scan(log.shards, log.options, advance)
    survey = found.survey
    if not survey.n:
        left = ", ".join(f"{n:,} {reason}" for reason, n in survey.left_out.items())
        raise UsageError(f"{log.path}: has no row to replay" + (f" (left out: {left})" if left else ""))
    repeats = duplicates_of(log, survey)
    choice = choose(survey, question.reward, question.beta)
    seen = choice.bounds(survey)
    bounds, assumed = _bounds(question.reward_range, seen)
    actions = log.all_actions(survey, constant_action(question.policy))
    uniform = found.uniform(len(log.all_actions(survey)))
    scale = max(abs(bounds[0]), abs(bounds[1])) or 1.0
    with progress(survey.n, "replaying") as advance:
        shards = numbered(log.shards, survey)
        scanned = Log(shards, log.options, found, Frame(actions, survey.columns, choice), uniform, advance)
        played = play(scanned, question.policy, question.seed, question.quantile, scale)
    if not played.n:
        raise UsageError(f"{log.path}: no row has {choice.name}; choose another --reward")
    left_out = dict(survey.left_out)
    if played.n < survey.n:
        left_out[f"no {choice.name}"] = survey.n - played.n
    return conclude(
        played,
        interval_name=question.interval,
        alpha=question.alpha,
        reward_range=bounds,
        assumed=assumed,
        least_propensity=survey.least_propensity,
        left_out=left_out,
        findings=[repeats],
        min_ess=question.min_ess,
    )


def _bounds(given: tuple[float, float] | None, seen: tuple[float, float]) -> tuple[tuple[float, float], list[str]]:
    """A-priori range of a reward, and what of it was assumed."""
    if given is not None:
        if seen[0] < given[0] or seen[1] > given[1]:
            raise UsageError(f"--reward-range: the log has rewards from {seen[0]:.6g} to {seen[1]:.6g}; widen it")
        return given, []
    if seen[0] >= 0.0 and seen[1] <= 1.0:
        return (0.0, 1.0), []
    return seen, [f"reward range assumed: what was seen, [{seen[0]:.6g}, {seen[1]:.6g}]"]
