"""banditd learn: a policy from a log, if the log can vouch for one."""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bandits.errors import UsageError
from offline_eval.commands.log_flags import add_log_flags, log_files
from offline_eval.commands.output import write_whole

if TYPE_CHECKING:
    from offline_eval.files import LogFiles
    from offline_eval.learning import Learned, Options
    from offline_eval.learning.reading import AdLoadRows

HELP = "learn an ad-load policy from a log"
EXAMPLE = """example:
  banditd learn ad-load ads.parquet --beta .7 -o policy.json
  banditd learn ad-load ads.parquet --constraint "satisfaction>=-0.5%" -o policy.json
  banditd learn ad-load ads.parquet --sweep --html front.html -o policy.json

Two thirds of the users are learned from, the others choose. The file is written only where the lower end of its gain
over the logging policy is above 0. Exit status: 0; 2 bad input; 3 the log cannot vouch for a policy, nothing is
written."""
UNSUPPORTED = 3
_CONSTRAINT = re.compile(r"\s*satisfaction\s*>=\s*(?P<sign>[+-]?)(?P<percent>\d+(\.\d*)?|\.\d+)\s*%\s*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    from offline_eval.learning.candidates import KINDS
    from offline_eval.learning.learn import FLOOR

    parser.add_argument("what", metavar="ad-load", choices=["ad-load"], help="what kind of policy")
    add_log_flags(parser)
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument(
        "--beta",
        type=float,
        metavar="B",
        help="raise B z(satisfaction) + (1 - B) z(revenue), z as in the log (default: .7)",
    )
    aim.add_argument(
        "--constraint",
        metavar="RULE",
        help='raise revenue, and keep satisfaction as in "satisfaction>=-0.5%%": at most half a percent below that of '
        "the logging policy",
    )
    parser.add_argument("--sweep", action="store_true", help="also learn for B = 0, .1, .. 1, and print the front")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write the front as a page with a plot (with --sweep)"
    )
    parser.add_argument("--model", choices=KINDS, default="auto", help="(default: %(default)s, both)")
    parser.add_argument(
        "--floor",
        type=float,
        metavar="P",
        help="least probability of an allowed load; give the surface's where that is higher "
        f"(default: {FLOOR}, or a quarter of the rarest load's share where that is less)",
    )
    parser.add_argument(
        "--logging",
        metavar="P,..",
        help="distribution over the loads that the policy is mixed with (default: the log's average)",
    )
    parser.add_argument(
        "--missing",
        metavar="NAME=VALUE,..",
        help="what satisfaction or revenue counts where a row lacks it, as revenue=0 (default: rows without either are "
        "left out, with one of them an error)",
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="all intervals hold with 1 - alpha (default: .05)")
    parser.add_argument("--min-ess", type=float, default=100.0, metavar="N", help="choose none below (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the split and the trees (default: 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the policy file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Learn, print, write, and return the exit status. Raises UsageError."""
    from threadpoolctl import threadpool_limits

    from offline_eval.learning import learn
    from offline_eval.learning.document import document
    from offline_eval.learning.learn import n_fits
    from offline_eval.learning.reading import read
    from offline_eval.progress import progress

    options = _options(args)
    missing, files = _missing(args.missing), _files(args)
    with progress(None, "reading") as advance:
        rows = read(files.shards, files.options, missing, advance)
    # One thread: the order of sums, and with it the policy, does not hang on the number of cores.
    with progress(n_fits(options) * len(rows.log), "learning") as advance, threadpool_limits(1):
        learned = learn(rows.log, options, advance)
    if learned.policy is not None:
        write_whole("-o", args.output, learned.policy.to_bytes())
    if args.html is not None:
        write_whole("--html", args.html, _page(learned, rows, options).encode())
    if args.json:
        print(json.dumps(document(learned, rows, options, args.output), allow_nan=False))
    else:
        _show(learned, rows, options, args.output)
    return UNSUPPORTED if learned.policy is None else 0


def _options(args: argparse.Namespace) -> Options:
    from offline_eval.learning import Options

    beta = 0.7 if args.beta is None else args.beta
    if not 0.0 <= beta <= 1.0:
        raise UsageError(f"--beta must lie in [0, 1], got {beta:g}")
    if not 0.0 < args.alpha < 1.0:
        raise UsageError(f"--alpha must lie in (0, 1), got {args.alpha:g}")
    if not 0.0 <= args.min_ess < math.inf:
        raise UsageError(f"--min-ess must be >= 0 and finite, got {args.min_ess:g}")
    if args.seed < 0:
        raise UsageError(f"--seed must be >= 0, got {args.seed}")
    if args.html is not None and not args.sweep:
        raise UsageError("--html: shows the front, add --sweep")
    constraint = None if args.constraint is None else _constraint(args.constraint)
    logging = None if args.logging is None else _numbers("--logging", args.logging)
    return Options(beta, constraint, args.sweep, args.model, args.seed, args.floor, logging, args.alpha, args.min_ess)


def _constraint(text: str) -> float:
    """Share of the satisfaction that may be lost; below 0 where some must be gained."""
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        raise UsageError(f'--constraint must be such as "satisfaction>=-0.5%", got {text!r}')
    share = float(found["percent"]) / 100
    return share if found["sign"] == "-" else -share


def _files(args: argparse.Namespace) -> LogFiles:
    if args.jobs != 1:
        raise UsageError("--jobs: learning holds the log in one process, leave it out")
    if args.actions is not None:
        raise UsageError("--actions: learning takes the loads of the log, leave it out")
    return log_files(args)


def _missing(text: str | None) -> dict[str, float]:
    from offline_eval.commands.numbers import number
    from offline_eval.learning.reward import COMPONENTS

    values = {}
    for part in filter(None, (text or "").split(",")):
        name, _, value = part.partition("=")
        if name not in COMPONENTS or name in values:
            raise UsageError(f"--missing must be NAME=VALUE,.. of {' and '.join(COMPONENTS)}, got {part!r}")
        values[name] = number("--missing", value)
    return values


def _numbers(flag: str, text: str) -> list[float]:
    from offline_eval.commands.numbers import number

    return [number(flag, part) for part in text.split(",")]


def _page(learned: Learned, rows: AdLoadRows, options: Options) -> str:
    from offline_eval.learning.document import about, front
    from offline_eval.report.pareto import front_page

    points, logging = front(learned, options)
    return front_page(
        "Ad-load policies",
        points,
        logging,
        reasons=learned.reasons,
        about=about(learned, rows),
        command=shlex.join(["banditd", *sys.argv[1:]]),
    )


def _show(learned: Learned, rows: AdLoadRows, options: Options, output: Path) -> None:
    from offline_eval.learning.terminal import show

    show(learned, rows, options)
    if learned.policy is not None:
        print(f"wrote {output} ({learned.policy.version[:12]})")
