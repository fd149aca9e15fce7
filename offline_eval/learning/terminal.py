"""What was learned, as tables for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from bandits.terminal import Terminal
from offline_eval.learning.document import METHOD, front, verdict
from offline_eval.learning.judge import Estimated, Judge, Judged
from offline_eval.learning.learn import Learned, Options
from offline_eval.learning.reading import AdLoadRows
from offline_eval.report.pareto import FrontPoint, Span


def show(learned: Learned, rows: AdLoadRows, options: Options) -> None:
    """Print the candidates, or the front of a sweep, and the verdict."""
    console = Terminal(highlight=False)
    for reason, count in rows.left_out.items():
        console.print(Text(f"{count:,} rows left out: {reason}", style="dim"))
    if learned.judge is not None and learned.study is not None:
        parts = len(learned.study.learning), len(learned.study.judging)
        console.print(Text(f"learned from {parts[0]:,} rows, judged on {parts[1]:,} rows of other users"))
        console.print(_front(learned, options) if learned.front else _candidates(learned.judge, learned, options))
        console.print(Text(f"intervals: {METHOD}", style="dim"))
    console.print(Text(verdict(learned), style="bold"))
    if learned.policy is not None:
        console.print(Text("evaluate it on later rows: on those it was learned from it looks better than it is"))
    for reason in learned.reasons:
        console.print(Text(f"- {reason}"))


def _candidates(judge: Judge, learned: Learned, options: Options) -> Table:
    table = _table("policy", "gain of r_beta, s.d.", "satisfaction", "revenue", "ess")
    if learned.logging is not None:
        _add(table, judge, learned.logging, options, False)
    for i, one in enumerate(learned.everyone):
        _add(table, judge, one, options, i == learned.chosen)
    return table


def _add(table: Table, judge: Judge, one: Judged, options: Options, chosen: bool) -> None:
    beta = options.beta if one.beta is None else one.beta
    name = f"{one.name}, beta {beta:.3g}" if options.constraint is not None and one.beta is not None else one.name
    cells = [_text(judge.reward(one.gain, beta)), _text(judge.raw(one.terms, 0)), _text(judge.raw(one.terms, 1))]
    label = Text(f"{'> ' if chosen else '  '}{name}")
    table.add_row(label, *cells, f"{one.ess:,.0f}", style="bold" if chosen else "")


def _front(learned: Learned, options: Options) -> Table:
    table = _table("policy", "satisfaction", "revenue", "satisfaction to logging", "revenue to logging")
    points, logging = front(learned, options)
    if logging is not None:
        table.add_row(Text("  logging policy"), _text(logging.satisfaction), _text(logging.revenue), "", "")
        for one in points:
            label = Text(f"{'> ' if one.chosen else '  '}{one.label}")
            changes = [_change(one, logging, name) for name in ("satisfaction", "revenue")]
            style = "bold" if one.chosen else ""
            table.add_row(label, _text(one.satisfaction), _text(one.revenue), *changes, style=style)
    return table


def _change(one: FrontPoint, logging: FrontPoint, name: str) -> str:
    before: Span = getattr(logging, name)
    after: Span = getattr(one, name)
    return f"{100 * (after.value - before.value) / abs(before.value):+.2f} %" if before.value else "-"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    return table


def _text(span: Estimated | Span) -> str:
    value, low, high = span
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
