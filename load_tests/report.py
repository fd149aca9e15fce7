"""Results of benchmarks: on a terminal, as JSON and as Markdown.

JSON holds every cell. Tables for people are narrower: a column that comes with NAME_min and NAME_max is one cell of all
three, and a column in which every row has the same is said once, below the table.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bandits import __version__
from bandits.terminal import Terminal

Cell = str | int | float | bool | None
Rows = Sequence[Mapping[str, Cell]]


class Result(TypedDict):
    """What a benchmark found; all rows have the same columns, and `figures` hold for all of them.

    A column NAME may have NAME_min and NAME_max beside it: a median, and the range around it.
    """

    rows: Rows
    figures: Mapping[str, Cell]


class Machine(TypedDict):
    """Where and with what it was measured, without names of hosts or paths."""

    cpus: int
    architecture: str
    system: str
    python: str
    banditd: str
    date: str


class Document(Result):
    """A result as it is written down."""

    name: str
    about: str
    machine: Machine


def machine() -> Machine:
    """What matters of this machine for a comparison."""
    return Machine(
        cpus=os.cpu_count() or 1,
        architecture=platform.machine(),
        system=platform.system(),
        python=platform.python_version(),
        banditd=__version__,
        date=datetime.now(UTC).date().isoformat(),
    )


def show(document: Document) -> None:
    """Print a document's table and figures on stdout."""
    console = Terminal()
    rows, figures = _folded(document)
    console.print(f"{document['name']}: {document['about']}\n", style="bold", highlight=False, markup=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for i, column in enumerate(rows[0]):
        table.add_column(column, overflow="fold", justify="right" if i else "left")
    for row in rows:
        table.add_row(*row.values())
    console.print(table, "")
    for name, value in figures.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)


def markdown(document: Document) -> str:
    """A document as a page: what it is, its table, its figures, the machine."""
    rows, figures = _folded(document)
    columns = list(rows[0])
    lines = [f"# {document['name']}", "", document["about"], ""]
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    lines += ["", *(f"- {name}: {value}" for name, value in figures.items())]
    about = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    return "\n".join([*lines, "", f"Measured with {about}.", ""])


def _folded(document: Document) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows and the figures as tables show them."""
    rows = [_row(row) for row in document["rows"]]
    same = {} if len(rows) == 1 else {name: cell for name, cell in rows[0].items() if _all_have(rows, name, cell)}
    shown = [{name: cell for name, cell in row.items() if name not in same} for row in rows]
    return shown, same | {name: text(value) for name, value in document["figures"].items()}


def _row(row: Mapping[str, Cell]) -> dict[str, str]:
    cells = {name: text(value) for name, value in row.items()}
    for name, value in row.items():
        low, high = row.get(f"{name}_min"), row.get(f"{name}_max")
        if isinstance(value, float) and isinstance(low, float) and isinstance(high, float):
            cells[name] = spread(value, low, high)
            del cells[f"{name}_min"], cells[f"{name}_max"]
    return cells


def _all_have(rows: Sequence[Mapping[str, str]], name: str, cell: str) -> bool:
    return all(row[name] == cell for row in rows)


def spread(middle: float, low: float, high: float) -> str:
    """A median and its range with equal decimals: three digits of the largest, two where it is below 0.1.

    >>> spread(0.965, 0.9612, 0.9704), spread(1.0, 0.95, 1.25), spread(1234.5, 1100.0, 1300.2)
    ('.965 (.961-.970)', '1.00 (0.95-1.25)', '1,234 (1,100-1,300)')
    """
    largest = max(abs(low), abs(high), abs(middle))
    digits = 2 if largest < 0.1 else 3
    decimals = min(max(digits - 1 - math.floor(math.log10(largest)), 0), 9) if largest else 0
    shown = [f"{value:,.{decimals}f}" for value in (middle, low, high)]
    if largest < 1:
        shown = [number.replace("0.", ".", 1) for number in shown]
    return f"{shown[0]} ({shown[1]}{'-' if low >= 0 else ' to '}{shown[2]})"


def text(value: Cell) -> str:
    """A cell as tables show it: four digits that count, a dash for nothing.

    >>> [text(1234.5678), text(0.0123456), text(5), text(None), text("a|b")]
    ['1,235', '0.01235', '5', '-', 'a\\\\|b']
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value).replace("|", "\\|")


def write(document: Document) -> list[Path]:
    """Write NAME.json and NAME.md into the results directory; returns their paths."""
    folder = results_directory()
    page, data = folder / f"{document['name']}.md", folder / f"{document['name']}.json"
    page.write_text(markdown(document), encoding="utf-8")
    data.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [data, page]


def results_directory() -> Path:
    """load_tests/results beside this module where that can be written, else ./results, made if missing."""
    beside = Path(__file__).parent / "results"
    try:
        beside.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=beside):
            return beside
    except OSError:
        here = Path("results")
        here.mkdir(exist_ok=True)
        return here
