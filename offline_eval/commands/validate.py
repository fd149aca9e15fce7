"""banditd validate: whether a log is sound."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from offline_eval.commands.log_flags import add_graph_flag, add_log_flags, log_files

HELP = "check a log: schema, propensities, duplicates, support"
EXAMPLE = """example:
  banditd validate home.parquet
  banditd validate clicks.csv --map reward=click,propensity=p --json

Exit status: 0 sound; 2 not, or not readable: the first fault is one line on stderr."""
UNSOUND = 2
WORDS = {"ok": "ok", "note": "note", "warning": "doubt", "refusal": "FAULT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the log's flags and --json."""
    add_log_flags(parser)
    add_graph_flag(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the exit status. Raises UsageError."""
    from rich.table import Table

    from bandits.terminal import Terminal
    from offline_eval.errors import BadLog
    from offline_eval.report.words import plain
    from offline_eval.validation import Check, validate

    try:
        checks = validate(log_files(args))
    except BadLog as fault:
        checks = [Check("schema", False, str(fault), "refusal")]
    bad = [check for check in checks if not check.ok]
    if args.json:
        print(json.dumps({"ok": not bad, "checks": [asdict(check) for check in checks]}))
    elif len(checks) > 1:
        table = Table(box=None, show_header=False, pad_edge=False)
        for check in checks:
            table.add_row(WORDS[check.level], plain(check.name), plain(check.detail.removeprefix("warning: ")))
        Terminal(highlight=False).print(table, markup=False)
    if not bad:
        return 0
    first = bad[0]
    name = "" if first.name == "schema" else f"{args.log}: {first.name}: "
    print(f"banditd validate: {plain(name + ' '.join(first.detail.split()))}", file=sys.stderr)
    return UNSOUND
