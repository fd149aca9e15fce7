"""What a demo shows: a live panel on a terminal, plain lines elsewhere, and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from load_tests.demo_meter import Figures, Meter

WINDOW = 1_000
MAX_WIDTH = 84
CHART_ROWS = 6
_CHROME = 6
_LABEL = 5
_EIGHTHS = " ▁▂▃▄▅▆▇█"
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "digits": "1,797 scanned digits, each shown one of ten classes; reward 1 when it is right",
        "shop": "4,096 shoppers, each shown one of up to 240 items; reward 1 when it is clicked",
    }
)


def panel(world: str, url: str, meter: Meter, done: float, seconds: float, width: int) -> RenderableType:
    """The whole display.

    done   share of the demo that is over, 0..1
    width  columns of the terminal
    """
    width = min(width, MAX_WIDTH)
    inner = max(width - _CHROME, 20)
    parts: list[RenderableType] = [Text(ABOUT[world], style="dim"), Text()]
    if len(meter):
        last = meter.last(WINDOW)
        parts += [
            _figures(last),
            Text(f"of the last {last.requests:,}", style="dim"),
            Text(),
            *_chart(meter, inner - _LABEL),
            Text(),
        ]
    else:
        parts += [Text("waiting for the first answer"), Text()]
    spent = f"{len(meter):,} requests, {seconds:.0f} s"
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        ProgressBar(total=1.0, completed=done, width=max(inner - len(spent) - 2, 8), complete_style="cyan"), spent
    )
    return Panel(
        Group(*parts, bar),
        title=f"[bold]banditd demo[/] · {world}",
        subtitle=f"[dim]{url} · Ctrl-C ends it[/]",
        box=box.ROUNDED,
        padding=(1, 2),
        width=width,
        title_align="left",
        subtitle_align="left",
    )


def plain_line(world: str, meter: Meter, seconds: float) -> str:
    """The same figures on one line without control characters."""
    found = meter.last(WINDOW)
    return (
        f"{world}: {seconds:3.0f} s, {len(meter):,} requests; last {found.requests:,}: "
        f"{found.requests_per_s:.0f} requests/s, p99 {found.p99_ms:.1f} ms, "
        f"mean reward {found.mean_reward:.3f}, exploration {found.exploration:.0%}"
    )


def summary(world: str, meter: Meter, seconds: float, ended: str) -> str:
    """What is printed at the end, in plain ASCII."""
    if not len(meter):
        return f"{world}: stopped before the first request"
    whole, first, last = meter.figures(0, len(meter)), meter.figures(0, min(WINDOW, len(meter))), meter.last(WINDOW)
    why = " (stopped)" if ended == "interrupted" else ""
    return "\n".join(
        (
            f"{world}: {len(meter):,} requests in {seconds:.1f} s{why}, {whole.requests_per_s:.0f}/s; "
            f"recommend p50 {whole.p50_ms:.1f} ms, p99 {whole.p99_ms:.1f} ms",
            f"  mean reward   first {first.requests:<6,} {first.mean_reward:.3f}   "
            f"last {last.requests:<6,} {last.mean_reward:.3f}",
            f"                random choice {meter.random_reward:.3f}   best possible {meter.upper_bound:.3f}",
            f"  exploration   first {first.requests:<6,} {first.exploration:5.0%}   "
            f"last {last.requests:<6,} {last.exploration:5.0%}",
            "",
            "Next: a server of your own, and a first request from another terminal",
            "  banditd serve",
            "  curl -s http://127.0.0.1:8080/v1/recommend -H 'content-type: application/json' \\",
            '    -d \'{"features": {"country=IN": 1}, "items": ["a", "b", "c"], "n": 1}\'',
        )
    )


def _figures(last: Figures) -> Table:
    table = Table.grid(expand=True)
    shown = (
        (f"{last.requests_per_s:,.0f}", "requests/s"),
        (f"{last.p99_ms:.1f} ms", "p99"),
        (f"{last.mean_reward:.3f}", "mean reward"),
        (f"{last.exploration:.0%}", "exploration"),
    )
    for _ in shown:
        table.add_column(ratio=1)
    table.add_row(*(Text(value, style="bold") for value, _ in shown))
    table.add_row(*(Text(name, style="dim") for _, name in shown))
    return table


def _chart(meter: Meter, columns: int) -> list[Text]:
    """Mean reward of consecutive stretches as columns from 0 to 1, the level of a random choice dotted behind them."""
    size, means = meter.curve(columns)
    random_row = min(int(meter.random_reward * CHART_ROWS), CHART_ROWS - 1)
    lines = []
    for row in range(CHART_ROWS - 1, -1, -1):
        label = {CHART_ROWS - 1: "1.0 ", 0: "0.0 "}.get(row, "")
        line = Text(f"{label:>{_LABEL}}", style="dim")
        line.append(bars(means, row), style="cyan")
        if row == random_row:
            line.append("·" * (columns - len(means)), style="dim")
        lines.append(line)
    caption = f"mean reward of each {size:,} requests; dotted: a random choice, {meter.random_reward:.2f}"
    return [*lines, Text(" " * _LABEL + caption, style="dim")]


def bars(means: Sequence[float], row: int) -> str:
    """One row of a column chart of values from 0 to 1, row 0 at the bottom.

    >>> bars([0.0, 0.25, 1.0], 0), bars([0.0, 0.25, 1.0], 5)
    (' ██', '  █')
    """
    eighths = (round(mean * CHART_ROWS * 8) - row * 8 for mean in means)
    return "".join(_EIGHTHS[min(max(eighth, 0), 8)] for eighth in eighths)
