"""The plots of a report, each as SVG; "" where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bandits.arrays import F64
from offline_eval.report.drawing import ACCENT, BAND, INK, MUTED, SECOND, Z, figure, linear, logarithmic, quiet
from offline_eval.report.pictures import Moment, Pictures
from offline_eval.report.words import rounded, short
from offline_eval.result import Estimate, Report

ROW = 26
LEAST_ROUNDS = 10
"""In a bin, for its mean to be drawn with full weight."""


def estimates_plot(report: Report) -> str:
    """A dot and an interval per estimator; the logged mean with its interval as a band behind them."""
    rows = list(report.estimates.values())
    if not rows:
        return ""
    with figure("estimates with their intervals beside the logged mean", 74 + ROW * len(rows)) as drawing:
        axes = drawing.axes()
        low, high = _reach([report.baseline, *rows])
        _draw_baseline(axes, report.baseline, len(rows), low, high)
        for i, one in enumerate(rows):
            _draw_interval(axes, len(rows) - 1 - i, one, low, high)
        axes.set_xlim(low, high)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), [short(one.estimator) for one in reversed(rows)], color=INK)
        axes.set_xlabel("mean reward of a round")
        linear(axes.xaxis, 6)
        quiet(axes, grid="x")
    return drawing.svg


def _reach(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """What of the axis to show: all, but of an interval far wider than the others only the inner part."""
    values = np.array([one.value for one in estimates])
    half = np.array([(one.interval[1] - one.interval[0]) / 2 for one in estimates])
    half[~np.isfinite(half)] = np.inf
    finite = values[np.isfinite(values)]
    typical = np.median(half[np.isfinite(half)]) if np.isfinite(half).any() else 0.0
    ends = [end for one in estimates for end in one.interval if math.isfinite(end)]
    centre = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    low = max(min([*ends, centre[0]]), centre[0] - 8 * typical)
    high = min(max([*ends, centre[1]]), centre[1] + 8 * typical)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def _draw_baseline(axes: Axes, baseline: Estimate, rows: int, low: float, high: float) -> None:
    ends = [min(max(end, low), high) if math.isfinite(end) else side for end, side in _sides(baseline, low, high)]
    axes.axvspan(ends[0], ends[1], color=BAND, alpha=0.16, linewidth=0)
    axes.axvline(baseline.value, color=BAND, linewidth=1.2, dashes=(3, 3))
    right = baseline.value > (low + high) / 2
    axes.annotate(
        "logged mean",
        (baseline.value, rows - 0.4),
        xytext=(-4 if right else 4, 3),
        textcoords="offset points",
        ha="right" if right else "left",
        color=MUTED,
        fontsize=11,
    )


def _sides(estimate: Estimate, low: float, high: float) -> list[tuple[float, float]]:
    return list(zip(estimate.interval, (low, high), strict=True))


def _draw_interval(axes: Axes, y: int, one: Estimate, low: float, high: float) -> None:
    """An end beyond the axis is an arrowhead."""
    colour = SECOND if one.narrow else ACCENT
    ends = []
    for (end, side), marker in zip(_sides(one, low, high), "<>", strict=True):
        beyond = not math.isfinite(end) or not low <= end <= high
        ends.append(side if beyond else end)
        if beyond:
            axes.plot([side], [y], marker=marker, markersize=7, color=colour, clip_on=False)
    axes.plot(ends, [y, y], color=colour, linewidth=2.4)
    if math.isfinite(one.value):
        axes.plot([one.value], [y], "o", markersize=8, color=colour)


def calibration_plot(pictures: Pictures) -> str:
    """Mean reward against the reward predicted, per bin of predictions; sound models lie on the diagonal."""
    sums = (
        pictures.calibration.sums[pictures.calibration.filled()] if len(pictures.calibration.sums) else np.zeros((0, 4))
    )
    if not len(sums):
        return ""
    n = sums[:, 0]
    predicted, actual = sums[:, 1] / n, sums[:, 2] / n
    error = Z * np.sqrt(np.maximum(sums[:, 3] / n - actual**2, 0.0) / n)
    with figure("calibration of the reward model", 300) as drawing:
        axes = drawing.axes()
        solid = n >= LEAST_ROUNDS
        seen = solid if solid.any() else np.ones(len(n), bool)
        ends = np.concatenate([predicted[seen], (actual - error)[seen], (actual + error)[seen]])
        low, high = float(ends.min()), float(ends.max())
        margin = 0.05 * (high - low) or 0.1
        axes.plot(
            [low - margin, high + margin], [low - margin, high + margin], color=BAND, linewidth=1.2, dashes=(3, 3)
        )
        for x, y, e, some, sure in zip(predicted, actual, error, n / n.max(), solid, strict=True):
            alpha = 1.0 if sure else 0.35
            axes.plot([x, x], [y - e, y + e], color=ACCENT, linewidth=1.4, alpha=alpha)
            axes.plot([x], [y], "o", markersize=4 + 7 * math.sqrt(some), color=ACCENT, alpha=alpha)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlabel("reward predicted for the logged action")
        axes.set_ylabel("mean reward")
        linear(axes.xaxis, 5)
        linear(axes.yaxis, 5)
        quiet(axes, grid="y")
    return drawing.svg


def propensities_plot(pictures: Pictures) -> str:
    """How often actions were chosen against the logged probability; the band holds 95 % of sound bins."""
    sums = pictures.propensities.sums
    sums = sums[(sums[:, 0] > 0) & (sums[:, 1] > 0)]
    if not len(sums):
        return ""
    pairs, expected, chosen, variance = sums.T
    p, often = expected / pairs, chosen / pairs
    band = Z * np.sqrt(variance) / pairs
    with figure("reliability of the logged propensities", 300) as drawing:
        axes = drawing.axes()
        low = min(p.min(), often[often > 0].min() if (often > 0).any() else p.min()) / 2
        axes.plot([low, 1], [low, 1], color=BAND, linewidth=1.2, dashes=(3, 3))
        axes.vlines(p, np.maximum(p - band, low / 10), p + band, color=BAND, alpha=0.3, linewidth=9, capstyle="butt")
        odd = np.abs(often - p) > band * 1.5
        for some, colour in ((~odd, ACCENT), (odd, SECOND)):
            axes.plot(p[some], np.maximum(often[some], low), "o", markersize=6, color=colour)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, 1.4)
        axes.set_ylim(low * 0.8, 1.4)
        axes.set_xlabel("logged probability of an action")
        axes.set_ylabel("how often it was chosen")
        logarithmic(axes.xaxis, 5)
        logarithmic(axes.yaxis, 5)
        quiet(axes, grid="y")
    return drawing.svg


def timeline_plot(moments: Sequence[Moment], baseline: Estimate) -> str:
    """The estimate as the log grew, within its confidence sequence."""
    shown = [one for one in moments if math.isfinite(one.value)]
    if len(shown) < 2:
        return ""
    dated = all(one.time is not None for one in shown)
    x = np.array([float(one.time or 0) if dated else float(one.n) for one in shown])
    value, low, high = (np.array([getattr(one, name) for one in shown]) for name in ("value", "low", "high"))
    with figure("value over time with its confidence sequence", 250) as drawing:
        axes = drawing.axes()
        axes.fill_between(x, low, high, color=ACCENT, alpha=0.18, linewidth=0)
        axes.plot(x, value, color=ACCENT)
        axes.axhline(baseline.value, color=BAND, linewidth=1.2, dashes=(3, 3))
        top, bottom = _timeline_reach(value, low, high, baseline.value)
        axes.set_ylim(bottom, top)
        axes.set_xlim(x[0], x[-1])
        axes.annotate(
            "logged mean", (x[-1], baseline.value), xytext=(-2, 4), textcoords="offset points", ha="right", color=MUTED
        )
        axes.set_ylabel("mean reward of a round")
        axes.set_xlabel("time (UTC)" if dated else "rounds")
        linear(axes.yaxis)
        linear(axes.xaxis, 4)
        if dated:
            _dates(axes, x)
        else:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: rounded(int(n))))
        quiet(axes, grid="y")
    return drawing.svg


def _timeline_reach(value: F64, low: F64, high: F64, baseline: float) -> tuple[float, float]:
    """Top and bottom: all of the values and of the later half of the band, whose start is as wide as the rewards."""
    later = slice(len(value) // 4, None)
    ends = np.concatenate([value[later], low[later], high[later], [baseline]])
    ends = ends[np.isfinite(ends)]
    margin = 0.08 * (ends.max() - ends.min()) or 0.1
    return float(ends.max() + margin), float(ends.min() - margin)


def _dates(axes: Axes, x: F64) -> None:
    """Four ticks: the day, or the hour where all is within two days."""
    ticks = np.linspace(x[0], x[-1], 4)
    form = "%H:%M" if x[-1] - x[0] < 2 * 86_400e6 else "%d %b" if x[-1] - x[0] < 300 * 86_400e6 else "%b %Y"
    axes.set_xticks(ticks, [datetime.fromtimestamp(one / 1e6, UTC).strftime(form) for one in ticks])
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
