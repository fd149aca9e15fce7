"""banditd demo: what it prints, on a terminal and off it, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from load_tests.demo_meter import Meter
from load_tests.demo_view import bars, plain_line, summary
from load_tests.traffic import Outcome
from service.cli import main

DEMO = [sys.executable, "-m", "service.cli", "demo"]


def has_control_characters(text: str) -> bool:
    return any(not one.isprintable() and one != "\n" for one in text)


def test_json_is_one_document_and_progress_is_plain_lines_elsewhere():
    done = subprocess.run([*DEMO, "--requests", "1200", "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["world"], report["ended"], report["requests"]) == ("digits", "requests", 1200)
    assert report["last_1000"]["requests"] == 1000
    assert report["last_1000"]["mean_reward"] > 0.7 > report["curve"][0]["mean_reward"]
    assert report["random_reward"] == pytest.approx(0.1)
    assert report["upper_bound"] == 1.0
    assert 0.0 < report["last_1000"]["exploration"] < 0.6
    assert 0.0 < report["p50_ms"] <= report["p99_ms"]
    assert "digits: starting the server\n" in done.stderr
    assert "1,200 requests; last 1,000: " in done.stderr
    assert not has_control_characters(done.stderr)


@pytest.mark.parametrize("no_color", [True, False])
def test_a_terminal_gets_the_live_panel_unless_no_color_is_set(no_color):
    environ = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"}
    status, screen = run_on_terminal(
        [*DEMO, "--world", "shop", "--requests", "60"], environ | ({"NO_COLOR": "1"} if no_color else {})
    )
    assert status == 0, screen
    assert "60 requests" in screen
    assert has_control_characters(screen.replace("\r\n", "\n")) is not no_color
    assert ("╭─" in screen) is not no_color


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well_and_the_figures_so_far_are_printed(number):
    process = subprocess.Popen([*DEMO, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = iter(process.stderr.readline, "")
    assert any("the server is http://" in line for line in lines)
    assert "mean reward" in next(lines)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["ended"] == "interrupted"
    assert 0 < report["requests"] < 20_000


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--world", "moon"], "--world must be one of digits, shop, got 'moon'"),
        (["--requests", "0"], "--requests must be >= 1, got 0"),
        (["--seconds", "nan"], "--seconds must be > 0, got nan"),
        (["--port", "65536"], "--port must be 0 to 65535, got 65536"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(arguments, fault, capsys):
    assert main(["demo", *arguments]) == 2
    assert capsys.readouterr().err == f"banditd demo: {fault}\n"


def test_a_port_that_is_taken_is_named_and_status_2(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("banditd demo: ")
    assert f"cannot listen on 127.0.0.1:{port}" in last


def test_a_server_that_goes_away_is_one_line_and_status_2(monkeypatch, capsys):
    @contextmanager
    def gone(args):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}")

    monkeypatch.setattr("load_tests.demo.serve", gone)
    assert main(["demo", "--requests", "5"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("banditd demo: PUT http://127.0.0.1:")
    assert "Connection refused" in last


def filled(rewards: list[float], propensities: list[float]) -> Meter:
    """Requests that begin every 10 ms, are answered after 1 ms and end after 10 ms."""
    meter = Meter()
    for i, (reward, propensity) in enumerate(zip(rewards, propensities, strict=True)):
        outcome = Outcome("a", "receipt", propensity, reward, chosen=0.5, best=0.75, random=0.25)
        meter.note(i * 0.01, i * 0.01 + 0.001, (i + 1) * 0.01, outcome)
    return meter


def test_figures_of_four_requests_by_hand():
    """Four requests in 40 ms: 100 a second; rewards 1, 0, 1, 1; propensities .4 and .1 count as exploration, .5 not."""
    meter = filled([1.0, 0.0, 1.0, 1.0], [0.4, 0.5, 0.1, 0.9])
    found = meter.last(1000)
    assert (found.requests, found.mean_reward, found.exploration) == (4, 0.75, 0.5)
    assert found.requests_per_s == pytest.approx(100.0)
    assert (found.p50_ms, found.p99_ms) == (pytest.approx(1.0), pytest.approx(1.0))
    last_two = meter.last(2)
    assert (last_two.requests, last_two.mean_reward) == (2, 1.0)
    assert last_two.requests_per_s == pytest.approx(100.0)
    assert (meter.random_reward, meter.upper_bound) == (0.25, 0.75)


def test_curve_doubles_its_stretches_to_fit_and_leaves_out_what_is_not_whole():
    """Nine requests in at most two points: stretches of 2 would be 4 points, of 4 are 2; the ninth is left out."""
    rewards = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    assert filled(rewards, [1.0] * 9).curve(2, smallest=2) == (4, [0.75, 0.25])
    assert Meter().curve(2, smallest=2) == (2, [])


def test_bars_stack_to_the_value():
    """A value of .5 over six rows of eight eighths is 24 eighths: three whole rows, and nothing above."""
    assert [bars([0.5], row) for row in range(6)] == ["█", "█", "█", " ", " ", " "]
    assert [bars([0.25 + 1 / 48], row) for row in range(3)] == ["█", "▅", " "]


def test_lines_and_summary_are_plain():
    meter = filled([1.0, 0.0], [0.4, 0.9])
    assert plain_line("shop", meter, 0.02) == (
        "shop:   0 s, 2 requests; last 2: 100 requests/s, p99 1.0 ms, mean reward 0.500, exploration 50%"
    )
    text = summary("shop", meter, 0.02, "interrupted")
    assert text.isascii()
    assert text.splitlines()[0] == "shop: 2 requests in 0.0 s (stopped), 100/s; recommend p50 1.0 ms, p99 1.0 ms"
    assert text.splitlines()[1].split() == ["mean", "reward", "first", "2", "0.500", "last", "2", "0.500"]
    assert max(map(len, text.splitlines())) <= 84
    assert summary("shop", Meter(), 0.0, "interrupted") == "shop: stopped before the first request"


def run_on_terminal(command: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """Exit status and everything that a command writes to a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environ)
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65_536)
        except OSError:  # Linux answers EIO once the last writer has closed its end.
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return process.wait(timeout=60), b"".join(parts).decode()
