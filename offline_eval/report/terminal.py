"""A report on a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bandits.terminal import Terminal
from offline_eval.diagnostics.finding import Level
from offline_eval.report import words
from offline_eval.report.words import plain
from offline_eval.result import Estimate, Report

_STYLES = {Level.OK: "green", Level.NOTE: "", Level.WARN: "yellow", Level.REFUSE: "red"}
_LEAST_BAR = 14


def show(report: Report, console: Console | None = None) -> None:
    """Print a report for people, on stdout unless a console is given; without estimates where it is refused."""
    console = console or Terminal(highlight=False)
    console.print(_heading(report), end="\n\n", soft_wrap=False)
    if report.supported:
        _print_estimates(report, console)
        _print_comparison(report, console)
    else:
        console.print(Text("No estimate is shown: too little of the log speaks about this policy."), end="\n\n")
    console.print(_diagnostics(report), "")
    worst = max((one.level for one in report.findings), default=Level.OK)
    console.print(Text(f"verdict: {plain(report.verdict)}", style=f"bold {_STYLES[worst]}".strip()))
    _print_doubts(report, console)


def _heading(report: Report) -> Text:
    text = Text(words.subject(report), style="bold")
    shown = [f"{name} {value}" for name, value in words.about(report) if name not in ("policy", "log", "alpha")]
    rows = [f"{report.n:,} rounds", *shown]
    return text.append("\n" + " · ".join(rows), style="not bold dim")


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def _print_estimates(report: Report, console: Console) -> None:
    """The logged mean, then each estimate, with a picture.

    How intervals were made stands below the table where the width is not enough for both.
    """
    rows = [report.baseline, *report.estimates.values()]
    columns = _columns(report, rows)
    with_methods = _room(console, columns)
    narrow = with_methods < _LEAST_BAR
    methods = columns.pop("interval by") if narrow else []
    draw = _picture(rows, _room(console, columns), console.options.ascii_only)
    if draw:
        columns[""] = [draw(one) for one in rows]
    table = _table()
    for i, name in enumerate(columns):
        table.add_column(name, overflow="fold", justify="right" if 1 <= i <= 3 else "left")
    for i, cells in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(*(Text(cell, style="" if i else "dim") for cell in cells))
    console.print(table)
    notes = [(", ".join(names), text) for text, names in _by_method(columns["estimator"], methods).items()]
    for names, text in [*notes, *words.notes(report)]:
        console.print(Padding(Text(f"{plain(names)}: {plain(text)}", style="dim"), (0, 0, 0, 2)))
    console.print()


def _print_comparison(report: Report, console: Console) -> None:
    """How far the policy is ahead of another, where one was given."""
    differences = list((report.comparison or {}).values())
    if not differences:
        return
    decimals = words.decimals_for(differences)
    table = _table()
    for name in ("estimator", f"ahead of {words.against(report)} by", words.coverage(report), "interval by"):
        table.add_column(name, overflow="fold")
    for one in differences:
        cells = (one.estimator, words.number(one.value, decimals), words.interval(one, decimals), one.interval_method)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    console.print(table)
    for one in differences:
        for flag in one.flags:
            console.print(Padding(Text(f"{plain(one.estimator)}: {plain(flag)}", style="dim"), (0, 0, 0, 2)))
    console.print()


def _columns(report: Report, rows: list[Estimate]) -> dict[str, list[str]]:
    """Cells by the name of their column."""
    decimals = words.decimals_for(rows)
    changes = [words.difference(one, report.baseline, decimals) for one in rows[1:]]
    return {
        "estimator": ["logged mean", *(plain(one.estimator) for one in rows[1:])],
        "value": [words.number(one.value, decimals) for one in rows],
        words.coverage(report): [words.interval(one, decimals) for one in rows],
        "to logged": ["", *changes],
        "interval by": [plain(one.interval_method) for one in rows],
    }


def _room(console: Console, columns: dict[str, list[str]]) -> int:
    """Columns of the terminal that are left for a picture."""
    used = sum(max(len(name), *map(len, cells)) + 2 for name, cells in columns.items())
    return min(console.width - used, 48)


def _by_method(names: list[str], methods: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, method in zip(names, methods, strict=False):
        found.setdefault(f"interval by {method}", []).append(name)
    return found


def _picture(rows: list[Estimate], width: int, ascii_only: bool) -> Callable[[Estimate], str] | None:
    """Draws an interval, its estimate and the logged mean on a line of so many characters; None where too few."""
    ends = [end for one in rows for end in (*one.interval, one.value) if math.isfinite(end)]
    if width < _LEAST_BAR or not ends or min(ends) == max(ends):
        return None
    low, step = min(ends), (max(ends) - min(ends)) / (width - 1)
    line, left, right, dot, mark = "-||o:" if ascii_only else "─├┤●┊"

    def at(value: float, otherwise: int) -> int:
        return round((value - low) / step) if math.isfinite(value) else otherwise

    def draw(one: Estimate) -> str:
        cells = [" "] * width
        cells[at(rows[0].value, 0)] = mark
        first, last = at(one.interval[0], 0), at(one.interval[1], width - 1)
        cells[first : last + 1] = line * (last + 1 - first)
        cells[first], cells[last] = left, right
        if math.isfinite(one.value):
            cells[at(one.value, 0)] = dot
        return "".join(cells)

    return draw


def _diagnostics(report: Report) -> Table:
    table = _table()
    table.add_column("diagnostics")
    table.add_column("", overflow="fold")
    table.add_column("")
    for one in words.diagnostics(report):
        table.add_row(*(Text(cell, style="red" if one.crossed else "") for cell in (one.label, one.value, one.limit)))
    levels = [(words.LEVELS[level], sum(one.level == level for one in report.findings)) for level in Level]
    table.add_row("checks", ", ".join(f"{n} {name}" for name, n in levels if n), "")
    return table


def _print_doubts(report: Report, console: Console) -> None:
    """What is not sound beside what the verdict names, the worst first."""
    doubtful = [one for one in report.findings if one.level != Level.OK]
    others = [one for one in doubtful if f"{one.name}: {one.detail}" not in report.verdict]
    if not others:
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for one in sorted(others, key=lambda one: -one.level):
        level = Text(words.LEVELS[one.level], style=_STYLES[one.level])
        table.add_row(level, Text(f"{plain(one.name)}: {plain(one.detail)}"))
    console.print("", table)
