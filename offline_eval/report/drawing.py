"""Figures of the page: one restrained style, drawn by matplotlib as SVG that takes its colours from the page.

Nothing of matplotlib's state is touched: no pyplot, settings only within `figure`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

INK, MUTED, RULE, ACCENT, SECOND, BAND = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
"""Stand-ins that become the page's colours; the text, quiet text, thin lines, data, other data, the logged policy."""

_PAGE_COLOURS = {
    INK: "currentColor",
    MUTED: "var(--muted, #666)",
    RULE: "var(--rule, #ccc)",
    ACCENT: "var(--accent, #2463b0)",
    SECOND: "var(--second, #b5541c)",
    BAND: "var(--band, #888)",
}

WIDTH = 400
"""Of every figure, in units that are pixels where there is room: text of 12 stays readable on a phone."""

Z = 1.96
"""Of a standard error, for the thin intervals of plots."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.labelsize": 11.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
}


@dataclass
class Drawing:
    """A figure while it is drawn, and as SVG once `figure` is left."""

    figure: Figure
    svg: str = field(default="", init=False)

    def axes(self) -> Axes:
        """The only axes of it."""
        return self.figure.add_subplot()

    def widen_gaps(self) -> None:
        """Keep the last tick of one of several axes apart from the first of the next."""
        self.figure.set_layout_engine("constrained", wspace=0.1)


@contextmanager
def figure(title: str, height: float) -> Iterator[Drawing]:
    """A drawing WIDTH wide and `height` high; the title is its text for those who cannot see it."""
    # Ids are hashes; salted by the title, they differ between the figures of a page.
    with rc_context(_SETTINGS | {"svg.hashsalt": title}), warnings.catch_warnings():
        # Ids may be in any script: the reader's browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = Drawing(Figure(figsize=(WIDTH / 72, height / 72), layout="constrained"))
        FigureCanvasSVG(drawing.figure)
        yield drawing
        buffer = io.StringIO()
        drawing.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        drawing.svg = _inline(buffer.getvalue(), title)


_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def _inline(document: str, title: str) -> str:
    """SVG to stand inside a page: no prologue, metadata, fonts, fixed size or ids that nothing refers to."""
    root = ElementTree.fromstring(document)
    used = set(re.findall(r"(?:url\(#|href=\")#?([\w.-]+)", document))
    for element in list(root.iter()):
        for child in list(element):
            if child.tag == f"{_SVG}metadata":
                element.remove(child)
        _clean(element, used)
    drawn = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    drawn = re.sub(r"\s*\n\s*", " ", drawn)
    for stand_in, colour in _PAGE_COLOURS.items():
        drawn = drawn.replace(stand_in, colour)
    box = root.get("viewBox")
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(title)}">{drawn}</svg>'


def _clean(element: ElementTree.Element, used: set[str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    if element.get("id") not in used:
        element.attrib.pop("id", None)
    if (link := element.attrib.pop(_LINK, None)) is not None:
        element.set("href", link)
    if (style := element.get("style")) is not None:
        element.set("style", re.sub(r"\s*font-family:[^;]*;?", "", style))
    if element.tag == "path" and (path := element.get("d")) is not None:
        element.set("d", re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path))
    for margin in ("text", "tail"):
        if not (getattr(element, margin) or "").strip():
            setattr(element, margin, None)


def quiet(axes: Axes, *, grid: str = "", ticks: bool = True) -> None:
    """Take away what is not read: all spines but the lower one, the marks of the ticks."""
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=4 if ticks else 0)
    for which in grid:
        (axes.xaxis if which == "x" else axes.yaxis).grid(True)


def linear(axis: Axis, most: int = 5, *, shares: bool = False) -> None:
    """At most so many ticks, in plain digits or as percentages."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    if shares:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def logarithmic(axis: Axis, most: int = 6, *, shares: bool = False) -> None:
    """Powers of ten in plain digits, steps between them where there are few; call it once the limits are set."""
    low, high = axis.get_view_interval()
    steps = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 30 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(100 * value) + " %" if shares else power(value)))


def power(value: float) -> str:
    """A power of ten in as few characters as are clear.

    >>> [power(one) for one in (0.001, 1.0, 1000.0, 1e6, 1e-7)]
    ['0.001', '1', '1,000', '10⁶', '10⁻⁷']
    """
    if 1e-4 <= value < 1e5:
        return f"{value:,.0f}" if value >= 1 else f"{value:.4f}".rstrip("0")
    exponent = f"{value:.0e}".split("e")[1]
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}"
