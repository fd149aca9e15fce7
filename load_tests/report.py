"""Results of benchmarks: on a terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from bandits import __version__

Cell = str | int | float | bool | None
Rows = Sequence[Mapping[str, Cell]]


class Result(TypedDict):
    """What a benchmark found; all rows have the same columns, and `figures` hold for all of them."""

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
    console = Console()
    table = Table(title=f"{document['name']}: {document['about']}")
    for column in document["rows"][0]:
        table.add_column(column, overflow="fold")
    for row in document["rows"]:
        table.add_row(*map(text, row.values()))
    console.print(table)
    for name, value in document["figures"].items():
        console.print(f"{name}: {text(value)}", highlight=False)


def markdown(document: Document) -> str:
    """A document as a page: what it is, its table, its figures, the machine."""
    columns = list(document["rows"][0])
    lines = [f"# {document['name']}", "", document["about"], ""]
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    lines += [f"| {' | '.join(map(text, row.values()))} |" for row in document["rows"]]
    lines += ["", *(f"- {name}: {text(value)}" for name, value in document["figures"].items())]
    about = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    return "\n".join([*lines, "", f"Measured with {about}.", ""])


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
