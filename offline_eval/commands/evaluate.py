"""banditd evaluate: what a policy would have earned on a log."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bandits.errors import UsageError
from offline_eval.commands import names
from offline_eval.commands.log_flags import add_graph_flag, add_log_flags, log_files
from offline_eval.commands.numbers import number, reward_range
from offline_eval.commands.output import check_folder, write_whole

if TYPE_CHECKING:
    from offline_eval.plan import Plan
    from offline_eval.result import Report

HELP = "estimate what a policy would have earned on a log"
EXAMPLE = """example:
  banditd evaluate home.parquet --policy uniform --estimators ips,snips,dr
  banditd evaluate home.parquet --policy new.npz --against logged
  banditd evaluate ads.parquet --policy policy.json --cluster user --gate --html report.html

Exit status: 0; 1 the gate failed; 2 bad input; 3 the log cannot support the question."""
DEFAULT_ESTIMATORS = "ips,snips,dr"
GATE_FAILED, UNSUPPORTED = 1, 3
ROUNDING = 1e-12
"""What the mean of standardised rewards may be away from 0."""
ASSUMED = "assumed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the log's flags and the evaluation's own."""
    add_log_flags(parser)
    add_graph_flag(parser)
    parser.add_argument("--policy", required=True, help=names.POLICIES)
    parser.add_argument("--against", metavar="POLICY", help="another policy: print how far the first is ahead of it")
    parser.add_argument(
        "--estimators",
        metavar="E,..",
        help="replay dm ips cips sg-ips snips dr sndr mrdr switch-dr dros drps sg-dr, with a parameter as "
        f"switch-dr:lam=5.3; mips and bipw in Python only (default: {DEFAULT_ESTIMATORS})",
    )
    parser.add_argument(
        "--interval", choices=names.INTERVALS, default="cressie-read", help="(default: %(default)s; DR forms: normal)"
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="of intervals of coverage 1 - alpha (default: .05)")
    parser.add_argument("--cluster", choices=["user"], help="do not take the rounds of a user as independent")
    parser.add_argument("--slate", action="store_true", help="sum a decision's positions; not in this version")
    parser.add_argument("--w-max", type=float, metavar="W", help="a-priori bound of pi/pi0 (default: assumed)")
    parser.add_argument("--reward-range", metavar="LO,HI", help="a-priori range of a reward (default: assumed)")
    parser.add_argument("--reward", metavar="NAME", help="evaluate this one of the log's rewards")
    parser.add_argument(
        "--beta", type=float, metavar="B", help="evaluate B z(satisfaction) + (1 - B) z(revenue) of an ad-load log"
    )
    parser.add_argument("--selection", choices=["slope", "mse"], default="mse", help="of a lambda left out")
    parser.add_argument("--min-ess", type=float, default=names.MIN_ESS, metavar="N", help="refuse below (%(default)s)")
    parser.add_argument(
        "--max-weight-share",
        type=float,
        default=names.MAX_WEIGHT_SHARE,
        metavar="S",
        help="refuse where one weight has a larger share of their sum (%(default)s)",
    )
    parser.add_argument(
        "--max-unsupported",
        type=float,
        default=names.MAX_UNSUPPORTED,
        metavar="M",
        help="refuse where more of the policy lies on actions the log never takes (%(default)s)",
    )
    parser.add_argument(
        "--gate",
        nargs="?",
        const=ASSUMED,
        metavar="VALUE",
        help="exit 1 unless the first estimator's lower end exceeds VALUE (without one: the logged mean)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of a bootstrap (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Evaluate, print, and return the exit status. Raises UsageError."""
    from offline_eval.files import evaluate_files
    from offline_eval.report.document import to_document

    gate = _gate(args.gate)
    plan = _plan(args)
    if args.html is not None:
        check_folder("--html", args.html)
    report = evaluate_files(log_files(args), args.policy, plan, args.reward, args.beta, args.against)
    if args.html is not None:
        from offline_eval.report.html import report_page

        page = report_page(report, shlex.join(["banditd", *sys.argv[1:]]))
        write_whole("--html", args.html, page.encode())
    if args.json:
        print(json.dumps(to_document(report), allow_nan=False))
    else:
        from offline_eval.report.terminal import show

        show(report)
    return _status(report, gate)


def _status(report: Report, gate: float | None) -> int:
    """What the gate says goes to stderr as well."""
    if not report.supported:
        return UNSUPPORTED
    if gate is None:
        return 0
    estimate = next(iter(report.estimates.values()))
    level = report.baseline.value if math.isnan(gate) else gate
    passed = estimate.interval[0] > level
    what = "the logged mean" if math.isnan(gate) else "the gate"
    sign = "exceeds" if passed else "does not exceed"
    doubt = f"; but {estimate.flags[-1]}" if estimate.narrow and estimate.flags else ""
    level = 0.0 if abs(level) < ROUNDING else level
    print(
        f"gate {'passed' if passed else 'failed'}: {estimate.estimator}'s lower end {estimate.interval[0]:.6g} "
        f"{sign} {what}, {level:.6g}{doubt}",
        file=sys.stderr,
    )
    return 0 if passed else GATE_FAILED


def _gate(text: str | None) -> float | None:
    """The level, NaN for the logged mean, None without a gate."""
    if text is None or text == ASSUMED:
        return None if text is None else math.nan
    return number("--gate", text)


def _plan(args: argparse.Namespace) -> Plan:
    from offline_eval.diagnostics.thresholds import Thresholds
    from offline_eval.estimators import parse
    from offline_eval.plan import Plan

    if args.slate:
        raise UsageError("--slate: not in this version; without it each position of a slate counts as a round")
    if not 0.0 < args.alpha < 1.0:
        raise UsageError(f"--alpha must lie in (0, 1), got {args.alpha:g}")
    if args.w_max is not None and not 0 < args.w_max < math.inf:
        raise UsageError(f"--w-max must be > 0 and finite, got {args.w_max:g}")
    if args.seed < 0:
        raise UsageError(f"--seed must be >= 0, got {args.seed}")
    for flag, value in (
        ("--min-ess", args.min_ess),
        ("--max-weight-share", args.max_weight_share),
        ("--max-unsupported", args.max_unsupported),
    ):
        if not 0 <= value < math.inf:
            raise UsageError(f"{flag} must be >= 0 and finite, got {value:g}")
    try:
        asked = DEFAULT_ESTIMATORS if args.estimators is None else args.estimators
        estimators = [parse(one) for one in split_estimators(asked)]
    except ValueError as fault:
        raise UsageError(f"--estimators: {fault}") from fault
    return Plan(
        estimators,
        args.interval,
        args.alpha,
        args.w_max,
        reward_range(args.reward_range),
        args.cluster is not None,
        args.selection,
        args.html is not None,
        Thresholds(args.min_ess, args.max_weight_share, args.max_unsupported),
        args.seed,
        args.estimators is None,
    )


def split_estimators(text: str) -> Sequence[str]:
    """Names between commas; a part KEY=VALUE belongs to the name before it."""
    names: list[str] = []
    for part in text.split(","):
        if "=" in part and ":" not in part and "(" not in part and names:
            names[-1] += f",{part}"
        elif part:
            names.append(part)
    if not names:
        raise ValueError("needs at least one")
    return names
