"""banditd replay: a policy, learning ones too, asked again at every row of a log."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from bandits.errors import UsageError
from offline_eval.commands.log_flags import add_graph_flag, add_log_flags, log_files
from offline_eval.commands.numbers import reward_range

if TYPE_CHECKING:
    from offline_eval.intervals.base import Interval
    from offline_eval.replay.outcome import Outcome

HELP = "replay a policy, learning ones too, on a log"
EXAMPLE = """example:
  banditd replay home.parquet --policy diag_linucb:alpha=.3,variant=centred --seed 1
  banditd replay home.parquet --policy constant:7

A uniformly chosen log: rejection replay (Li et al. 2011), the rows in which the policy chooses what was logged. Any
other: doubly robust replay (Dudik et al. 2012). Exit status: 0; 2 bad input, an unsorted log for a policy that learns
too; 3 the log cannot support the question."""
UNSUPPORTED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the log's flags and the replay's own."""
    from offline_eval.replay.outcome import WITHOUT_PATH
    from offline_eval.targets import GRAMMAR

    add_log_flags(parser)
    add_graph_flag(parser)
    parser.add_argument(
        "--policy",
        required=True,
        help=f"diag_linucb[:alpha=.3,variant=centred,prior=1,temperature=.02,epsilon=.01,sampler=plackett_luce] | "
        f"full_linucb[:..] | {GRAMMAR}",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the policy's draws (default: 0)")
    parser.add_argument(
        "--interval",
        choices=WITHOUT_PATH,
        help="(default: cressie-read for rejection replay, normal for doubly robust replay)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="of intervals of coverage 1 - alpha (default: .05)")
    parser.add_argument("--reward-range", metavar="LO,HI", help="a-priori range of a reward (default: assumed)")
    parser.add_argument("--reward", metavar="NAME", help="evaluate this one of the log's rewards")
    parser.add_argument(
        "--beta", type=float, metavar="B", help="evaluate B z(satisfaction) + (1 - B) z(revenue) of an ad-load log"
    )
    parser.add_argument(
        "--quantile",
        type=float,
        default=0.05,
        metavar="Q",
        help="of doubly robust replay: share of rows whose sampling may be cut off; 0: no bias, less learned "
        "(default: .05)",
    )
    parser.add_argument(
        "--min-ess",
        type=float,
        metavar="N",
        help="refuse where the value rests on fewer effective rows (default: 100 for doubly robust replay, 0 for "
        "rejection replay, which warns below 100)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Replay, print, and return the exit status. Raises UsageError."""
    from offline_eval.replay.files import Question, replay_files

    if not 0.0 < args.alpha < 1.0:
        raise UsageError(f"--alpha must lie in (0, 1), got {args.alpha:g}")
    if not 0.0 <= args.quantile < 1.0:
        raise UsageError(f"--quantile must lie in [0, 1), got {args.quantile:g}")
    if args.seed < 0:
        raise UsageError(f"--seed must be >= 0, got {args.seed}")
    if args.min_ess is not None and not 0.0 <= args.min_ess < math.inf:
        raise UsageError(f"--min-ess must be >= 0 and finite, got {args.min_ess:g}")
    question = Question(
        args.policy,
        args.seed,
        args.quantile,
        args.interval,
        args.alpha,
        reward_range(args.reward_range),
        args.reward,
        args.beta,
        args.min_ess,
    )
    outcome = replay_files(log_files(args), question)
    if args.jobs > 1:
        print("--jobs: a replay goes row by row, in one process", file=sys.stderr)
    for reason, rows in outcome.left_out.items():
        print(f"{rows:,} rows left out: {reason}", file=sys.stderr)
    if args.json:
        print(json.dumps({"policy": args.policy, **document(outcome)}, allow_nan=False))
    else:
        _show(args.policy, outcome)
    return 0 if outcome.supported else UNSUPPORTED


def document(outcome: Outcome) -> dict[str, Any]:
    """What --json prints. A refused replay has neither value nor interval."""
    supported, found = outcome.supported, outcome.findings
    value, interval = outcome.baseline
    return {
        "n": outcome.n,
        "matched": outcome.matched,
        "value": outcome.value if supported else None,
        "interval": _ends(outcome.interval) if supported else None,
        "method": outcome.method,
        "interval_method": outcome.interval.method,
        "baseline": {"value": value, "interval": _ends(interval)},
        "diagnostics": {
            "ess": outcome.ess,
            "max_weight": outcome.max_weight,
            "mean_weight": outcome.mean_weight,
            "findings": [{"name": one.name, "level": one.level.name.lower(), "detail": one.detail} for one in found],
        },
        "left_out": dict(outcome.left_out),
        "verdict": outcome.verdict,
        "reasons": list(outcome.reasons),
        "flags": list(outcome.interval.flags),
        "notes": list(outcome.notes),
    }


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _show(policy: str, outcome: Outcome) -> None:
    from rich.table import Table
    from rich.text import Text

    from bandits.terminal import Terminal

    console = Terminal(highlight=False)
    table = Table("", "value", "interval", "interval method", "rows", box=None, header_style="bold")
    value, interval = outcome.baseline
    table.add_row("logged", f"{value:.6g}", _text(interval), interval.method, f"{outcome.n:,}")
    if outcome.supported:
        made = outcome.interval
        table.add_row(Text(policy), f"{outcome.value:.6g}", _text(made), made.method, f"{outcome.matched:,} matched")
    console.print(table)
    console.print(Text(f"{outcome.method}; ess {outcome.ess:,.1f}, largest weight {outcome.max_weight:.4g}"))
    console.print(Text(outcome.verdict, style="bold"))
    for line in (*outcome.reasons[1:], *outcome.interval.flags, *outcome.notes):
        console.print(Text(f"- {line}", style="dim"))


def _text(interval: Interval) -> str:
    return f"[{interval.low:.6g}, {interval.high:.6g}]"
