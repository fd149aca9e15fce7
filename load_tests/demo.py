"""banditd demo: a server of its own, simulated traffic over HTTP, and what it learns while it does."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.live import Live

from bandits.errors import UsageError
from bandits.simulation import WORLDS
from load_tests.client import Client
from load_tests.demo_meter import EXPLORED_BELOW, Meter
from load_tests.demo_view import ABOUT, WINDOW, panel, plain_line, summary
from load_tests.server import ServerFailed, serve
from load_tests.traffic import RequestFailed, Traffic

HELP = "watch a server learn: simulated traffic over HTTP with a live display"
EXAMPLE = f"""The figures are of the last {WINDOW:,} requests. p99: of the recommendations, as the client sees them.
exploration: share of requests whose item had a propensity below {EXPLORED_BELOW}; every request that was not served
its likeliest item is among them.

example:
  banditd demo
  banditd demo --world shop --seconds 30"""

DEFAULT_REQUESTS = 20_000
DEFAULT_SECONDS = 60.0
REDRAW_S = 0.2
LINE_S = 3.0
CURVE_POINTS = 60

Show = Callable[[str, Meter, float, float], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument(
        "--world", default="digits", metavar="WORLD", help=f"{' | '.join(ABOUT)} (default: %(default)s)"
    )
    limit = f"(without either limit: {DEFAULT_REQUESTS:,} requests or {DEFAULT_SECONDS:.0f} s)"
    parser.add_argument("--requests", type=int, metavar="N", help=f"end after so many requests {limit}")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after so many seconds")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="of the demo's server (default: a free one)")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")


def run(args: argparse.Namespace) -> int:
    """Serve, play, show and sum up; Ctrl-C and SIGTERM end it early and well. Raises UsageError."""
    if args.world not in ABOUT:
        raise UsageError(f"--world must be one of {', '.join(ABOUT)}, got {args.world!r}")
    requests, seconds = _limits(args.requests, args.seconds)
    if not 0 <= args.port <= 65_535:
        raise UsageError(f"--port must be 0 to 65535, got {args.port}")
    meter = Meter()
    ended = "interrupted"
    try:
        with _stoppable(), _display(args.world) as show:
            ended = _play(args.world, args.port, requests, seconds, meter, show)
    except KeyboardInterrupt:
        pass
    except (ServerFailed, RequestFailed, ConnectionError, TimeoutError) as fault:
        raise UsageError(str(fault)) from fault
    spent_s = meter.end_s[-1] - meter.start_s[0] if len(meter) else 0.0
    if args.json:
        print(json.dumps(_report(args.world, meter, spent_s, ended)))
    else:
        print(summary(args.world, meter, spent_s, ended))
    return 0


def _limits(requests: int | None, seconds: float | None) -> tuple[float, float]:
    """Numbers of requests and seconds at which to end; infinite where only the other one is given."""
    if requests is not None and requests < 1:
        raise UsageError(f"--requests must be >= 1, got {requests}")
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--seconds must be > 0, got {seconds}")
    if requests is None and seconds is None:
        return DEFAULT_REQUESTS, DEFAULT_SECONDS
    return (float("inf") if requests is None else requests, float("inf") if seconds is None else seconds)


def _play(world_name: str, port: int, requests: float, seconds: float, meter: Meter, show: Show) -> str:
    """Ask and post, one request after the other, until a limit is reached; returns which."""
    show("", meter, 0.0, 0.0)
    world = WORLDS[world_name](0)
    with serve(args=("--port", str(port))) as server, Client(server.url) as client:
        traffic = Traffic(client, world, seed=0)
        began = time.perf_counter()
        while True:
            spent = time.perf_counter() - began
            done = max(len(meter) / requests, spent / seconds)
            show(server.url, meter, min(done, 1.0), spent)
            if done >= 1.0:
                return "requests" if len(meter) >= requests else "seconds"
            start = time.perf_counter()
            outcomes = traffic.ask()
            answered = time.perf_counter()
            traffic.post(outcomes)
            meter.note(start, answered, time.perf_counter(), outcomes[0])


@contextmanager
def _display(world: str) -> Iterator[Show]:
    """Something that shows the figures on stderr, often called and seldom drawing."""
    console = Console(stderr=True)
    if not _can_draw(console):
        yield _lines(world)
        return
    with Live(console=console, auto_refresh=False) as live:
        drawn = -1.0

        def draw(url: str, meter: Meter, done: float, spent: float) -> None:
            nonlocal drawn
            if done < 1.0 and 0.0 <= spent - drawn < REDRAW_S:
                return
            drawn = spent
            live.update(panel(world, url or "starting the server", meter, done, spent, console.width), refresh=True)

        yield draw


def _can_draw(console: Console) -> bool:
    # FORCE_COLOR makes rich take anything for a terminal: the stream itself is asked.
    plain = bool(os.environ.get("NO_COLOR")) or console.is_dumb_terminal
    return sys.stderr.isatty() and not plain and console.encoding.startswith("utf")


def _lines(world: str) -> Show:
    shown = 0.0

    def line(url: str, meter: Meter, done: float, spent: float) -> None:
        nonlocal shown
        if not url:
            print(f"{world}: starting the server", file=sys.stderr, flush=True)
        elif not len(meter):
            print(f"{world}: {ABOUT[world]}; the server is {url}", file=sys.stderr, flush=True)
        elif done >= 1.0 or spent - shown >= LINE_S:
            shown = spent
            print(plain_line(world, meter, spent), file=sys.stderr, flush=True)

    return line


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise KeyboardInterrupt inside, even where a shell has started this with SIGINT ignored."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _report(world: str, meter: Meter, spent_s: float, ended: str) -> dict[str, object]:
    """What --json prints; without a request only the first four members."""
    report: dict[str, object] = {"world": world, "ended": ended, "requests": len(meter), "seconds": spent_s}
    if not len(meter):
        return report
    size, means = meter.curve(CURVE_POINTS)
    return report | {
        **asdict(meter.figures(0, len(meter))),
        "first_1000": asdict(meter.figures(0, min(WINDOW, len(meter)))),
        "last_1000": asdict(meter.last(WINDOW)),
        "random_reward": meter.random_reward,
        "upper_bound": meter.upper_bound,
        "curve": [{"requests": (i + 1) * size, "mean_reward": mean} for i, mean in enumerate(means)],
    }
