"""Reports on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from bandits.terminal import Terminal
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.report.terminal import show
from offline_eval.result import Estimate, Report


@pytest.fixture
def report() -> Report:
    estimates = [
        Estimate("ips", 0.51234, (0.4, 0.6), "cressie-read", 0.05, ("w_max assumed",)),
        Estimate("snips", 0.52345, (0.45, 0.61), "cressie-read", 0.05, ("w_max assumed",)),
        Estimate("dr", 0.53456, (0.47, 0.59), "normal", 0.04, (), {"lam": 5.3, "considered": [1.0, 2.0]}),
    ]
    return Report(
        20_000,
        Estimate("logged", 0.25678, (0.2, 0.3), "normal", 0.025),
        {one.estimator: one for one in estimates},
        {"ess": 9000.0, "max_weight_share": 0.02, "pareto_k": float("nan")},
        [Finding("propensities", Level.WARN, "mean(w) = 1.08"), Finding("users", Level.NOTE, "none in the log")],
        about={"policy": "new.json", "log": "log.parquet", "alpha": 0.05, "thresholds": Thresholds()},
    )


def shown(report: Report, width: int = 80, *, terminal: bool = False, colour: bool = False) -> str:
    file = io.StringIO()
    system = "standard" if colour else None
    show(report, Terminal(file=file, width=width, force_terminal=terminal, color_system=system, highlight=False))
    return file.getvalue()


def refused(report: Report) -> Report:
    return replace(report, findings=[Finding("largest weight", Level.REFUSE, "one has 60 % of the sum")])


@pytest.mark.parametrize("width", [40, 80, 120])
def test_everything_fits_the_width(report, width):
    for one in (report, refused(report)):
        assert max(len(line) for line in shown(one, width).splitlines()) <= width


def test_every_estimate_stands_with_interval_difference_method_and_diagnosis(report):
    """The narrowest half-width, 0.05, asks for three decimals."""
    text = shown(report, 120)
    assert "new.json on log.parquet" in text
    assert "20,000 rounds" in text
    line = next(line for line in text.splitlines() if line.startswith("ips"))
    for part in ("0.512", "[0.400, 0.600]", "+0.256 (+100 %)", "cressie-read", "●"):
        assert part in line
    assert "ips, snips: w_max assumed" in text
    assert "dr: lam: 5.3\n" in "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    assert "9,000 (45 %) refused below 100" in " ".join(text.split())
    assert "not known" in text
    assert "1 note, 1 warning" in text
    assert "verdict: supported, with reservations: propensities: mean(w) = 1.08" in text
    assert "note  users: none in the log" in text


def test_at_eighty_columns_the_methods_stand_below_and_the_picture_remains(report):
    text = shown(report, 80)
    assert "ips, snips: interval by cressie-read" in text
    assert "logged mean, dr: interval by normal" in text
    assert "●" in text


def test_a_refused_report_shows_its_reason_and_no_estimate(report):
    text = shown(refused(report))
    for value in ("0.512", "0.523", "0.535", "snips", "0.400"):
        assert value not in text
    assert "No estimate is shown" in text
    assert "verdict: refused" in " ".join(text.split())
    assert "one has 60 % of the sum" in " ".join(text.split())


def test_there_are_no_control_characters_off_a_terminal_or_without_colour(report):
    evil = replace(report, about=report.about | {"policy": "\x1b[2Jx\x07\u202e"})
    for text in (shown(evil), shown(evil, terminal=True)):
        assert all(one.isprintable() or one == "\n" for one in text)
    assert "\x1b[" in shown(report, terminal=True, colour=True)
    assert "\x1b[2J" not in shown(evil, terminal=True, colour=True)


def test_on_stdout_without_colour_there_are_no_control_characters(report, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(report)
    text = capsys.readouterr().out
    assert "verdict" in text
    assert "\x1b" not in text


def test_numbers_that_are_not_there_are_undefined(report):
    nan = float("nan")
    text = shown(replace(report, estimates={"snips": Estimate("snips", nan, (nan, nan), "normal", nan)}), 120)
    assert "undefined" in next(line for line in text.splitlines() if line.startswith("snips"))


def test_markup_in_names_is_text(report):
    assert "[bold]x[/bold]" in shown(replace(report, about={"policy": "[bold]x[/bold]"}))
