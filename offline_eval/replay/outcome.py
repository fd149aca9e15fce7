"""What a replay says: value, interval and what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bandits.errors import UsageError
from bandits.moments import Moments
from offline_eval.accumulate import Logged
from offline_eval.diagnostics.candidates import untested
from offline_eval.diagnostics.few_rewards import LEAST
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.mean_weight import MeanWeight
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.estimators.dr import DR
from offline_eval.estimators.replay import Replay
from offline_eval.intervals import interval
from offline_eval.intervals.base import Bounds, Evidence, Interval
from offline_eval.replay.doubly_robust import DoublyRobust
from offline_eval.replay.rejection import Matching
from offline_eval.replay.run import Played, Way

FEW = 100.0
MOST_MOVED = 0.5
"""Standard errors by which one row may move the value (a quarter of its variance) before the interval is doubted."""
MOST_LOST, TOO_MUCH_LOST = 0.05, 0.2
"""Shares of its history that a policy goes without before its value is doubted, and refused. Measured on logs of 2,000
and 3,000 rows of the digits world: up to .06 no bias was seen, at .06 to .1 values lay .02 to .05 below a life's,
at .1 to .2 .05 to .13 below, and beyond .2 up to .35.
"""
WITHOUT_PATH = ("cressie-read", "normal", "confseq")
WITH_PATH = ("cressie-read", "normal")
RESIDUAL = ("normal",)
PATH = (
    "the interval is for the mean value along the path that was learned here, not over other paths; rounds are "
    "differences of a martingale, so that it holds for many rows"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A replay's answer.

    n            rows replayed
    matched      rows that count, in doubly robust replay those that the policy learned from; of a policy that does not
                 learn all rows whose action it may choose
    value        mean reward of a row under the policy; NaN where nothing matched
    interval     of coverage 1 - alpha
    method       rejection replay | dr replay
    baseline     mean logged reward and its interval
    ess          effective number of rows that the value rests on
    max_weight   largest weight
    mean_weight  1 in expectation where the propensities are right
    left_out     rows that were not replayed, by reason
    findings     every check made
    notes        how it was played
    """

    n: int
    matched: int
    value: float
    interval: Interval
    method: str
    baseline: tuple[float, Interval]
    ess: float
    max_weight: float
    mean_weight: float
    left_out: Mapping[str, int]
    findings: Sequence[Finding]
    notes: Sequence[str]

    @property
    def supported(self) -> bool:
        """Whether the log can support the question."""
        return all(finding.level < Level.REFUSE for finding in self.findings)

    @property
    def reasons(self) -> list[str]:
        """What speaks against the numbers, the worst first."""
        bad = sorted((one for one in self.findings if one.level >= Level.WARN), key=lambda one: -one.level)
        return [f"{one.name}: {one.detail}" for one in bad]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.supported:
            return f"refused: the log cannot support the question; {self.reasons[0]}"
        if self.reasons:
            return f"supported, with reservations: {self.reasons[0]}"
        return "supported: every check of the log passed"


def intervals_for(played: Played) -> tuple[str, ...]:
    """Methods whose theory covers the replay, the default first.

    Rows of a policy that does not learn are independent of each other. Those of one that learns are not: given the
    past, a term of rejection replay has the policy's value of that moment as its mean, so that terms less these values
    are differences of a martingale, and a central limit theorem holds for them. Its variance is at most that of the
    terms about their common mean, which Cressie-Read and the normal interval estimate: they cover the mean value along
    the path, in the limit, and a little too often where the policy improves on its way. A confidence sequence
    intersects over time, which a value that moves does not allow. Empirical Bernstein holds for no ratio.
    """
    if isinstance(played.way, DoublyRobust):
        return RESIDUAL
    return WITH_PATH if played.learns else WITHOUT_PATH


def conclude(
    played: Played,
    *,
    interval_name: str | None,
    alpha: float,
    reward_range: tuple[float, float],
    assumed: Sequence[str],
    least_propensity: float,
    left_out: Mapping[str, int],
    findings: Sequence[Finding],
    min_ess: float | None = None,
) -> Outcome:
    """The outcome.

    interval_name  None: the default of the way it was played
    reward_range   a-priori (low, high); `assumed` says so where it is not
    findings       of what the replay cannot see: duplicates
    min_ess        effective rows below which it is refused; None: 100 for doubly robust replay, any for rejection
                   replay, whose interval holds for few rows too
    Raises UsageError where the interval does not fit the replay.
    """
    known = intervals_for(played)
    name = known[0] if interval_name is None else interval_name
    if name not in known:
        kind = "a learning policy's" if played.learns else "a"
        raise UsageError(f"--interval {name}: {kind} {played.way.method} has {' or '.join(known)}")
    way, moments = played.way, played.way.sums.moments
    robust = isinstance(way, DoublyRobust)
    weights = (f"w_max assumed: 1/min(propensity) = {1 / least_propensity:.6g}",) if robust else ()
    bounds = Bounds(1.0 / least_propensity, reward_range, (*weights, *assumed))
    ess = _ess(moments)
    evidence = Evidence(DR() if robust else Replay(), moments, bounds, None, way.sums.in_time, ess)
    logged = Evidence(Logged(), played.baseline.moments, Bounds(1.0, reward_range, tuple(assumed)))
    made = interval(name, evidence, alpha, 0)
    return Outcome(
        n=played.n,
        matched=way.matched,
        value=evidence.value if way.matched else math.nan,
        interval=made,
        method=way.method,
        baseline=(logged.value, interval("cressie-read", logged, alpha, 0)),
        ess=ess,
        max_weight=way.largest_weight,
        mean_weight=float(moments.mean[1]) if moments.n else math.nan,
        left_out=left_out,
        findings=[*_findings(played, moments, ess, 1.0 / least_propensity, min_ess), *findings],
        notes=_notes(played),
    )


def _ess(moments: Moments) -> float:
    """(sum w)**2 / sum w**2 of the weights with which rows enter the value."""
    squares = float(moments.second[2, 2])
    return float(moments.first[0, 2]) ** 2 / squares if squares > 0 else 0.0


def _findings(played: Played, moments: Moments, ess: float, largest: float, min_ess: float | None) -> list[Finding]:
    n, way = f"{played.n:,} rows", played.way
    if not way.matched:
        return [Finding("no match", Level.REFUSE, f"the policy never chooses what was logged in {n}")]
    robust = isinstance(way, DoublyRobust)
    least = min_ess if min_ess is not None else FEW if robust else 0.0
    level = Level.REFUSE if ess < least else Level.WARN if ess < FEW else Level.OK
    mend = "; replay more rows, or lower --min-ess" if level == Level.REFUSE else ""
    findings = [
        *played.findings,
        Finding("few rows", level, f"the value rests on an effective number of {ess:.3g} of {n}{mend}"),
    ]
    findings.append(_few_rewards(way, moments))
    weights = np.ix_([0, 2], [0, 2])
    of_weights = Moments(moments.n, moments.first[weights], moments.second[weights])
    check = MeanWeight()
    of_mean = check.findings(check.tests(of_weights, largest, endless=False), Thresholds(), 1)
    unknown = any(one.name == "candidates" and one.level == Level.REFUSE for one in played.findings)
    findings += [untested(one) for one in of_mean] if unknown else of_mean
    if isinstance(way, DoublyRobust) and way.quantile is not None:
        findings.append(_clipped(way, way.clipped / played.n, way.quantile))
    return findings


def _clipped(way: DoublyRobust, share: float, quantile: float) -> Finding:
    """Whether the policy could learn what it would have learned."""
    lost = max(0.0, way.lost / way.met)
    sure = (way.lost - 2.0 * math.sqrt(way.lost_sq)) / way.met
    level = Level.OK
    if sure > MOST_LOST or share > 2 * quantile:
        level = Level.REFUSE if sure > TOO_MUCH_LOST else Level.WARN
    detail = f"rejection sampling was cut off in {share:.1%} of rows; the policy learned from {lost:.1%} fewer than it "
    lack = ", chiefly of what the log rarely takes, and so worse than it would"
    mend = f"{lack}; try a lower --quantile, or log with more exploration" if level else ""
    return Finding("clipped sampling", level, f"{detail}would have met{mend}")


def _few_rewards(way: Way, moments: Moments) -> Finding:
    """Whether the value rests on enough rows that were rewarded, and, doubly robust, none of them makes it alone."""
    faults = []
    if way.rewarded < LEAST:
        faults.append(f"{way.rewarded:,} rows that count have a reward other than 0, fewer than {LEAST}")
    if isinstance(way, DoublyRobust):
        spread = DR().variance(moments) * moments.count**2
        moved = way.largest_term / math.sqrt(spread) if spread > 0.0 else 0.0
        if moved > MOST_MOVED:
            faults.append(f"one row moves the value by {moved:.2g} standard errors: more such rows may be missing")
    if faults:
        detail = f"{'; '.join(faults)}; replay more rows before trusting the interval"
        return Finding("few rewards", Level.WARN, detail)
    return Finding("few rewards", Level.OK, f"{way.rewarded:,} rows that count have a reward other than 0")


def _notes(played: Played) -> list[str]:
    way, notes = played.way, list(played.notes)
    if isinstance(way, DoublyRobust):
        notes.append(f"the log was not chosen uniformly; reward model: {way.model_name}, fitted on the past")
    elif isinstance(way, Matching) and not played.uniform:
        notes.append("the policy is the one that logged: every row matches")
    if played.learns:
        notes.append(PATH)
    return notes
