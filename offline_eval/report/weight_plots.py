"""Plots of the importance weights and of overlap, each as SVG; "" where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from bandits.arrays import F64
from offline_eval.report.bins import Bins
from offline_eval.report.drawing import ACCENT, BAND, INK, MUTED, SECOND, Z, figure, linear, logarithmic, quiet
from offline_eval.report.pictures import Overlap, Pictures
from offline_eval.report.words import percent, plain, rounded, short

MOST_ROWS = 24
"""Categories that a plot shows; the table beside it has all."""


def weights_plot(pictures: Pictures) -> str:
    """Share of the rounds by importance weight, next to nothing apart."""
    bins = pictures.weights
    share = _shares(bins)[:, 0]
    if not share.any():
        return ""
    with figure("histogram of the importance weights", 230) as drawing:
        axes = drawing.axes()
        first, last = _span(bins, np.flatnonzero(share[2:]) + 2)
        _draw_bars(axes, bins, share, first, last)
        axes.set_xscale("log")
        little = bool(share[:2].any())
        axes.set_xlim(first / 3.2 if little else first, last * 1.1)
        if little:
            _draw_little(axes, share, float(bins.edges[0]), first)
        if first < 1 < last:
            axes.axvline(1.0, color=MUTED, linewidth=1, dashes=(3, 3))
        axes.set_ylim(0, max(share[0] + share[1], share.max()) * 1.15)
        axes.set_xlabel("importance weight  π(a|x) / π₀(a|x)")
        axes.set_ylabel("share of rounds")
        logarithmic(axes.xaxis)
        axes.xaxis.set_major_locator(FixedLocator([one for one in axes.get_xticks() if first <= one <= last]))
        linear(axes.yaxis, 4, shares=True)
        quiet(axes, grid="y")
    return drawing.svg


def _draw_little(axes: Axes, share: F64, lowest: float, first: float) -> None:
    """Left of the others, one bar of the zeros and, on top, of what lies below the lowest bin."""
    at, width = first / 2.4, first * 0.16
    axes.bar(at, share[0], width=width, color=BAND, linewidth=0)
    axes.bar(at, share[1], bottom=share[0], width=width, color=ACCENT, linewidth=0)
    text = f"{percent(share[0])} at 0" if share[0] else f"below {lowest:g}"
    axes.annotate(text, (at, share[0] + share[1]), xytext=(-4, 4), textcoords="offset points", color=MUTED, fontsize=11)


def _shares(bins: Bins) -> F64:
    """Of each column's sum, per bin."""
    total = bins.sums.sum(axis=0)
    shares: F64 = bins.sums / np.where(total > 0, total, 1.0)
    return shares


def _span(bins: Bins, shown: NDArray[np.intp]) -> tuple[float, float]:
    """Lower edge of the first and upper edge of the last bin, a decade at least around 1."""
    if not len(shown):
        return 0.3, 3.0
    first = bins.edges[max(int(shown[0]) - 2, 0)]
    last = bins.edges[min(int(shown[-1]) - 1, len(bins.edges) - 1)]
    return min(float(first), 0.3), max(float(last), 3.0)


def _draw_bars(axes: Axes, bins: Bins, share: F64, first: float, last: float) -> None:
    low, high = bins.edges[:-1], bins.edges[1:]
    height = share[2:-1].copy()
    # What lies beyond the fixed bins is drawn at the last.
    height[-1] += share[-1]
    keep = (low >= first * 0.999) & (high <= last * 1.001)
    axes.bar(low[keep], height[keep], width=(high - low)[keep] * 0.92, align="edge", color=ACCENT, linewidth=0)


def tail_plot(pictures: Pictures) -> str:
    """Share of the rounds, and of the sum of weights, in rounds of at least a weight."""
    bins = pictures.weights
    shares = _shares(bins)
    shown = np.flatnonzero(shares[2:, 0]) + 2
    if not len(shown) or not shares[:, 1].any():
        return ""
    with figure("tail of the importance weights", 230) as drawing:
        axes = drawing.axes()
        # Bin j + 1 starts at edge j - 1: all bins from there on hold what is at least that edge.
        beyond = shares[::-1].cumsum(axis=0)[::-1][2:]
        first, last = _span(bins, shown)
        keep = (bins.edges >= first * 0.999) & (bins.edges <= last * 1.001) & (beyond[:, 0] > 0)
        for column, colour in ((1, SECOND), (0, ACCENT)):
            axes.plot(bins.edges[keep], beyond[keep, column], color=colour, drawstyle="default")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(first, last * 1.1)
        axes.set_ylim(max(beyond[keep, 0].min() / 4, 1e-9), 2.2)
        _label_curves(axes, bins.edges[keep], beyond[keep])
        axes.set_xlabel("importance weight of at least")
        axes.set_ylabel("share")
        logarithmic(axes.xaxis)
        logarithmic(axes.yaxis, 5, shares=True)
        quiet(axes, grid="y")
    return drawing.svg


def _label_curves(axes: Axes, x: F64, y: F64) -> None:
    """The sum of weights above its curve, which starts near all of it; the rounds below theirs where they lie apart."""
    apart = int(np.argmax(np.log(np.maximum(y[:, 1], 1e-12)) - np.log(y[:, 0])))
    axes.annotate(
        "of the sum of weights", (x[0], y[0, 1]), xytext=(4, 3), textcoords="offset points", color=SECOND, va="bottom"
    )
    axes.annotate(
        "of rounds",
        (x[apart], y[apart, 0]),
        xytext=(-6, -6),
        textcoords="offset points",
        color=ACCENT,
        ha="right",
        va="top",
    )


def overlap_plot(name: str, categories: Sequence[Overlap]) -> str:
    """Per category the effective sample as a share of its rounds, and its mean weight, which is 1 in a sound log."""
    rows = ordered(categories)[:MOST_ROWS][::-1]
    if not rows:
        return ""
    y = np.arange(len(rows))
    with figure(f"overlap by {plain(name)}", 62 + 20 * len(rows)) as drawing:
        drawing.widen_gaps()
        left, right = drawing.figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        left.barh(y, [one.ess / one.n for one in rows], height=0.62, color=ACCENT, linewidth=0)
        left.set_xlim(0, 1)
        left.set_xlabel("effective share of rounds")
        left.set_yticks(y, [f"{short(one.name, 16)}  ({rounded(one.n)})" for one in rows], color=INK)
        linear(left.xaxis, 2, shares=True)
        means = np.array([one.mean_weight for one in rows])
        errors = np.array([Z * one.standard_error for one in rows])
        right.axvline(1.0, color=BAND, linewidth=1.2, dashes=(3, 3))
        right.hlines(y, np.maximum(means - errors, 0), means + errors, color=ACCENT, linewidth=2)
        right.plot(means, y, "o", markersize=5.5, color=ACCENT)
        right.set_xlim(0, max(2.0, min(float((means + errors).max()) * 1.05, 2 * float(means.max()))))
        right.set_xlabel("mean weight")
        linear(right.xaxis, 3)
        for axes in (left, right):
            quiet(axes, grid="x")
            axes.set_ylim(-0.6, len(rows) - 0.4)
    return drawing.svg


def ordered(categories: Sequence[Overlap]) -> list[Overlap]:
    """By number where all names are numbers (hours, positions), else as they come: the largest first."""
    named = [one for one in categories if one.name.lstrip("-").isdecimal()]
    if len(named) < len(categories) or len(named) > MOST_ROWS * 2:
        return list(categories)
    return sorted(named, key=lambda one: int(one.name))
