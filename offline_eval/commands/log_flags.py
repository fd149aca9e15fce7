"""Flags of every command that reads a log, and the log they name."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bandits.errors import UsageError
from offline_eval.commands import names

if TYPE_CHECKING:
    from offline_eval.files import LogFiles
    from offline_eval.formats.chunk import Id

MAX_JOBS = 256
MAX_TOLD = 5
"""Files of a folder that are named where they are passed over."""


def add_log_flags(parser: argparse.ArgumentParser) -> None:
    """Add LOG and how it is read."""
    parser.add_argument("log", type=Path, metavar="LOG", help="a file, or a folder of files of one format")
    parser.add_argument("--format", choices=names.FORMATS, help="of the log (default: told by suffix and columns)")
    parser.add_argument(
        "--map",
        metavar="NAME=COLUMN,..",
        help="columns of a CSV file, such as reward=click,propensity=p; names: action, reward, propensity, user, "
        "timestamp, position, decision_id",
    )
    parser.add_argument(
        "--actions", metavar="N|FILE", help="all actions: 0 .. N-1, or an id a line (default: those of the log)"
    )
    parser.add_argument(
        "--include-exploit", action="store_true", help="keep rows of exploit mode, which are left out because p = 1"
    )
    parser.add_argument(
        "--default-reward", type=float, default=0.0, metavar="R", help="of a dsjson line without outcome (default: 0)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that read the log (default: 1)")
    parser.set_defaults(graph=[])


def add_graph_flag(parser: argparse.ArgumentParser) -> None:
    """Add --graph, of commands that ask for a decision's candidates."""
    parser.add_argument(
        "--graph",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a graph of the log's surface, or a folder of them such as DATA/graphs; may be repeated. Own logs leave "
        "more than 64 candidates of a graph to it",
    )


def log_files(args: argparse.Namespace) -> LogFiles:
    """What the flags say. Raises UsageError."""
    from offline_eval.files import LogFiles
    from offline_eval.formats import find, passed_over
    from offline_eval.formats.chunk import ReadOptions
    from offline_eval.formats.graph_files import find_graphs

    if not 1 <= args.jobs <= MAX_JOBS:
        raise UsageError(f"--jobs must lie in [1, {MAX_JOBS}], got {args.jobs}")
    if not abs(args.default_reward) < math.inf:
        raise UsageError(f"--default-reward must be finite, got {args.default_reward:g}")
    graphs = find_graphs(args.graph)
    if over := passed_over(args.log):
        more = f" and {len(over) - MAX_TOLD:,} more" if len(over) > MAX_TOLD else ""
        print(f"passed over, no log by its suffix: {', '.join(map(str, over[:MAX_TOLD]))}{more}", file=sys.stderr)
    options = ReadOptions(_map(args.map), args.include_exploit, args.default_reward, graphs=graphs)
    return LogFiles(args.log, find(args.log, args.format), options, _actions(args.actions), args.jobs)


def _map(text: str | None) -> dict[str, str]:
    columns: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, column = part.partition("=")
        if not equals or not name or not column or name in columns:
            raise UsageError(f"--map must be NAME=COLUMN,.. with each name once, got {part!r}")
        columns[name] = column
    return columns


def _actions(text: str | None) -> Sequence[Id] | None:
    if text is None:
        return None
    if text.isascii() and text.isdecimal():
        n = int(text)
        if not 1 <= n <= 10_000_000:
            raise UsageError(f"--actions must lie in [1, 10,000,000], got {n}")
        return range(n)
    try:
        lines = [line.strip() for line in Path(text).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"--actions {text}: must be a number or a file with an id a line: {fault}") from fault
    ids = [line for line in lines if line]
    if not ids or len(set(ids)) != len(ids):
        raise UsageError(f"--actions {text}: must have at least one id, and each once")
    return ids
