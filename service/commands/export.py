"""banditd export: the decisions of a data directory and what became of them, as a file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bandits.errors import UsageError
from service.commands.flags import add_server_flags, load_settings

if TYPE_CHECKING:
    from service.export.run import Progress

HELP = "write the decisions of a surface and their rewards to a file"
EXAMPLE = """example:
  banditd export --data ./banditd-data --surface home --format own -o home.parquet

Rows are sorted by time; a decision without reward has none inside the surface's wait_window_s, and its default_reward
after it: give the server's --config where it sets them. Safe beside a running server."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config, --data and the export's own flags."""
    add_server_flags(parser, ["server.data"])
    parser.add_argument("--surface", required=True, metavar="S", help="surface to export")
    parser.add_argument(
        "--format",
        choices=["own", "obp", "dsjson", "csv"],
        default="own",
        help="own: every column; the others: rows with a reward (default: %(default)s)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="own: .parquet, or lines of JSON: .jsonl, .jsonl.gz, .jsonl.zst; obp: .npz; csv: .csv; dsjson: .dsjson",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Export, report, and return 0. Raises UsageError."""
    from service.export.run import export
    from service.export.writers import opened
    from service.log import LogUnavailable
    from service.log_sqlite import wall_clock_us
    from service.rewards import Generations
    from service.settings import SurfaceSettings
    from service.stored_state import open_stored

    settings = load_settings(args).settings
    folder, surface = Path(settings.server.data), args.surface
    with open_stored(folder) as (log, _):
        generations = Generations(folder / "generations.json")
        if surface not in generations.surfaces:
            raise UsageError(f"--surface {surface}: unknown; there are {', '.join(generations.surfaces) or 'none'}")
        rules = settings.surfaces.get(surface)
        if rules is None:
            rules = SurfaceSettings()
            if args.config is not None:
                text = f"wait_window_s = {rules.wait_window_s} and default_reward = {rules.default_reward} are used"
                print(f"{args.config} has no surface {surface}: {text}", file=sys.stderr)
        try:
            with opened(args.output, args.format) as writer, _progress() as progress:
                exported = export(log, generations, surface, rules, writer, wall_clock_us(), progress)
        except LogUnavailable as fault:
            raise UsageError(f"{fault}; check the disk, then start the export again") from fault
    rows = exported.rows - writer.left_out.total()
    report = {"output": str(args.output), "rows": rows, "decisions": exported.decisions}
    left_out = exported.left_out | writer.left_out
    if args.json:
        print(json.dumps(report | {"left_out": left_out}))
    else:
        print(_sentence(report, left_out))
    return 0


def _sentence(report: dict[str, object], left_out: dict[str, int]) -> str:
    text = "{output}: {rows:,} rows of {decisions:,} decisions".format(**report)
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in left_out.items() if count)
    return f"{text}; left out: {reasons}" if reasons else text


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # FORCE_COLOR makes rich take anything for a terminal: the stream itself is asked.
    plain = bool(os.environ.get("NO_COLOR")) or console.is_dumb_terminal or not sys.stderr.isatty()
    with Progress(console=console, transient=True, disable=plain) as bars:
        tasks = {stage: bars.add_task(stage) for stage in ("frames read", "decisions written")}
        yield lambda stage, done, total: bars.update(tasks[stage], completed=done, total=total)
