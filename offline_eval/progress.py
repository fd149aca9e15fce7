"""A bar for long work, on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int], None]


@contextmanager
def progress(total: int | None, label: str) -> Iterator[Advance]:
    """Yields a function that takes the number of rows just done.

    total  rows of all the work, None where unknown
    Nothing is shown where stderr is no terminal, or a dumb one, or NO_COLOR is set.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    # FORCE_COLOR makes rich take anything for a terminal: the stream itself is asked.
    plain = bool(os.environ.get("NO_COLOR")) or console.is_dumb_terminal or not sys.stderr.isatty()
    if plain:
        yield lambda rows: None
        return
    shown = ("{task.description}", BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,.0f} rows"))
    with Progress(*shown, TimeRemainingColumn(), console=console, transient=True) as bars:
        task = bars.add_task(label, total=total)
        yield lambda rows: bars.advance(task, rows)
