"""Pareto fronts of ad-load policies: satisfaction against revenue, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes

from offline_eval.report.drawing import ACCENT, BAND, INK, MUTED, SECOND, figure, linear, quiet
from offline_eval.report.markup import Markup, banner, code, coloured, data, page, section, table
from offline_eval.report.markup import figure as framed
from offline_eval.report.words import decimals_between, flat, label, number, short


class Span(NamedTuple):
    """An estimate between the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One policy of a sweep.

    label         what it is called, such as "β = 0.7"
    beta          weight of satisfaction, None for the logging policy and constrained forms
    satisfaction  mean per fetch, with its interval
    revenue       mean per fetch, with its interval
    chosen        whether it is the one that is kept
    """

    label: str
    beta: float | None
    satisfaction: Span
    revenue: Span
    chosen: bool = False


def pareto_svg(points: Sequence[FrontPoint], logging: FrontPoint | None = None) -> str:
    """The front as SVG, the logging policy's point on cross-hairs; "" without points."""
    if not points:
        return ""
    with figure("satisfaction against revenue of each policy", 360) as drawing:
        axes = drawing.axes()
        line = sorted(points, key=lambda one: one.satisfaction.value)
        axes.plot(
            [one.satisfaction.value for one in line],
            [one.revenue.value for one in line],
            color=ACCENT,
            linewidth=1.2,
            alpha=0.6,
        )
        if logging is not None:
            axes.axvline(logging.satisfaction.value, color=BAND, linewidth=1, dashes=(3, 3))
            axes.axhline(logging.revenue.value, color=BAND, linewidth=1, dashes=(3, 3))
            _draw(axes, logging, BAND, "s", 7)
        for one in line:
            _draw(axes, one, *((SECOND, "D", 9) if one.chosen else (ACCENT, "o", 6.5)))
        axes.margins(0.12)
        _name(axes, line, logging)
        axes.set_xlabel("satisfaction, mean per fetch")
        axes.set_ylabel("revenue, mean per fetch")
        linear(axes.xaxis)
        linear(axes.yaxis)
        quiet(axes, grid="y")
    return drawing.svg


def _draw(axes: Axes, one: FrontPoint, colour: str, marker: str, size: float) -> None:
    x, y = one.satisfaction, one.revenue
    if math.isfinite(x.low) and math.isfinite(x.high):
        axes.hlines(y.value, x.low, x.high, color=colour, linewidth=1.3, alpha=0.45)
    if math.isfinite(y.low) and math.isfinite(y.high):
        axes.vlines(x.value, y.low, y.high, color=colour, linewidth=1.3, alpha=0.45)
    axes.plot([x.value], [y.value], marker, markersize=size, color=colour)


def _name(axes: Axes, line: Sequence[FrontPoint], logging: FrontPoint | None) -> None:
    """The ends of the front, the chosen policy and the logging policy by name; the rest stands in the table."""
    named = [one for i, one in enumerate(line) if one.chosen or i in (0, len(line) - 1)]
    colours = [(one, SECOND if one.chosen else INK) for one in named]
    if logging is not None:
        colours.append((logging, MUTED))
    for one, colour in colours:
        below = one is logging
        axes.annotate(
            short(one.label),
            (one.satisfaction.value, one.revenue.value),
            xytext=(-7 if below else 7, -7 if below else 6),
            textcoords="offset points",
            color=colour,
            ha="right" if below else "left",
            va="top" if below else "bottom",
            weight="bold" if one.chosen else "normal",
        )


def pareto_table(points: Sequence[FrontPoint], logging: FrontPoint | None = None) -> Markup:
    """Every policy with both intervals, and what it changes relative to the logging policy."""
    everyone = [*([logging] if logging else []), *points]
    digits = [decimals_between((one.low, one.high) for one in spans) for spans in _spans(everyone)]
    head = ["policy", "satisfaction", "interval", "revenue", "interval"]
    rows = [[_label(one), *_cells(one.satisfaction, digits[0]), *_cells(one.revenue, digits[1])] for one in everyone]
    if logging is not None:
        head += ["satisfaction to logging", "revenue to logging"]
        for row, one in zip(rows, everyone, strict=True):
            row += ["", ""] if one is logging else _changes(one, logging)
    return table(head, rows, numbers=range(1, len(head)))


def _spans(points: Sequence[FrontPoint]) -> tuple[list[Span], list[Span]]:
    return [one.satisfaction for one in points], [one.revenue for one in points]


def _label(one: FrontPoint) -> object:
    return coloured(f"◆ {one.label} (chosen)", "good") if one.chosen else one.label


def _cells(span: Span, decimals: int) -> list[object]:
    low, high = (data(end, number(end, decimals)) for end in (span.low, span.high))
    return [data(span.value, number(span.value, decimals)), Markup(f"[{low}, {high}]")]


def _changes(one: FrontPoint, logging: FrontPoint) -> list[object]:
    pairs = ((one.satisfaction, logging.satisfaction), (one.revenue, logging.revenue))
    return [f"{100 * (new.value - old.value) / abs(old.value):+.1f} %" if old.value else "-" for new, old in pairs]


def front_page(
    title: str,
    points: Sequence[FrontPoint],
    logging: FrontPoint | None = None,
    *,
    reasons: Sequence[str] = (),
    about: Sequence[tuple[str, object]] = (),
    command: str = "",
) -> str:
    """One self-contained page of a sweep: what was chosen, the front as a plot and a table.

    reasons  what speaks against the numbers; about  what was learned from what; command  makes the page again
    """
    chosen = [one.label for one in points if one.chosen]
    text = f"Chosen: {', '.join(chosen)}." if chosen else "No policy was chosen."
    word = "Learned, with reservations" if reasons else "Learned" if chosen else "Logging policy kept"
    caption = "Lines: intervals. Diamond: the chosen policy. Dashed: the logging policy; up and right of it is better."
    return page(
        title,
        f"{len(points)} policies",
        banner("good" if chosen and not reasons else "warn", word, text, reasons),
        section(
            "Pareto front",
            framed("Satisfaction against revenue", caption, pareto_svg(points, logging)),
        ),
        section("Every policy", pareto_table(points, logging)),
        section("What was learned from", table(("", ""), [(label(key), flat(value)) for key, value in about])),
        section("How to make this page again", code(command)) if command else Markup(),
    )
