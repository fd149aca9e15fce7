"""Pareto fronts as a plot, a table and a page."""

from __future__ import annotations

import re

import pytest

from offline_eval.report.pareto import FrontPoint, Span, front_page, pareto_svg, pareto_table

NAN = float("nan")


@pytest.fixture
def points() -> list[FrontPoint]:
    return [
        FrontPoint("β = 0.3", 0.3, Span(0.50, 0.48, 0.52), Span(0.90, 0.85, 0.95)),
        FrontPoint("β = 0.7 <b>", 0.7, Span(0.60, 0.58, 0.62), Span(0.66, 0.60, 0.72), chosen=True),
        FrontPoint("β = 1", 1.0, Span(0.65, 0.63, 0.67), Span(0.30, NAN, NAN)),
    ]


LOGGING = FrontPoint("logging", None, Span(0.50, 0.49, 0.51), Span(0.60, 0.58, 0.62))


def test_the_plot_names_the_ends_the_chosen_and_the_logging_policy(points):
    svg = pareto_svg(points, LOGGING)
    for text in ("β = 0.3", "β = 0.7 &lt;b&gt;", "β = 1", "logging", "satisfaction, mean per fetch"):
        assert f">{text}</text>" in svg
    assert "<b>" not in svg
    assert "http" not in svg
    assert "nan" not in svg.lower()
    assert pareto_svg([]) == ""


def test_the_table_has_both_intervals_and_the_change_from_logging(points):
    """0.60 is +20 % of 0.50, 0.66 is +10 % of 0.60."""
    table = pareto_table(points, LOGGING)
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", table) if "chosen" in row)
    text = re.sub(r"<[^>]*>", "|", row)
    for shown in ("◆ β = 0.7 &lt;b&gt; (chosen)", "0.600", "0.580", "0.620", "0.660", "+20.0 %", "+10.0 %"):
        assert shown in text
    assert "undefined" in table
    assert "to logging" not in pareto_table(points)


def test_the_page_says_what_was_chosen_and_stands_alone(points):
    page = front_page("Ad load", points, LOGGING, about=[("rounds", 2000)], command="banditd learn ad-load L")
    assert "Chosen: β = 0.7 &lt;b&gt;." in page
    assert "2,000" in page
    assert "banditd learn ad-load L" in page
    assert not re.search(r"https?:|<script|url\((?!#)", page)
    doubtful = front_page("Ad load", points, LOGGING, reasons=["ESS is low"])
    assert "Learned, with reservations" in doubtful
    assert "ESS is low" in doubtful
    kept = front_page("Ad load", [points[0]], LOGGING)
    assert "Logging policy kept" in kept
