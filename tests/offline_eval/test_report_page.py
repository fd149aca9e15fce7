"""Reports as a page: everything of the report and nothing from elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest

from offline_eval.dataset import BanditLog
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.formats.chunk import Ids
from offline_eval.report.html import report_page
from offline_eval.report.pictures import Moment, Pictures
from offline_eval.result import Estimate, Report
from offline_eval.rounds import Rounds

N, K = 2000, 5
EVIL = "<script>alert('$x^2$ & \"1\"')</script>"
VOID = {"meta", "path", "use", "rect", "br", "link", "img"}


class Page(HTMLParser):
    """Collects what a browser would load or run, numbers, ids and text; checks that tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.numbers: list[float] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta"}:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data"}:
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if tag == "data" and name == "value":
                self.numbers.append(float(value or "nan"))
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.remove(tag) if tag in self.open else None

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report() -> Report:
    generator = np.random.default_rng(3)
    logging, target = generator.dirichlet(np.ones(K), N), generator.dirichlet(np.ones(K), N)
    row, action = np.arange(N), (logging.cumsum(1) > generator.random((N, 1))).argmax(1)
    model = generator.random((N, K))
    reward = (generator.random(N) < model[row, action]).astype(float)
    log = BanditLog(None, action, reward, logging[row, action], K, logging=logging)
    pictures = Pictures()
    segments = {EVIL: Ids(generator.integers(0, 3, N), [EVIL, "日本", "x" * 128]), "hour": Ids(row % 24, range(24))}
    pictures.add(Rounds(log, target[row, action], target, {"plain": model}), segments)
    pictures.timeline = [Moment(i * 3_600_000_000, 100 * i, 0.5 + 0.01 / i, 0.3, 0.7) for i in range(1, 20)]
    estimates = [
        Estimate("ips", 0.5123456789, (0.4123, 0.6123), "cressie-read", 0.05, ("w_max assumed",)),
        Estimate("dr", 0.5345678912, (0.4789, 0.5912), "normal", 0.03),
        Estimate("snips", float("nan"), (float("-inf"), 9e9), "normal", 0.03),
    ]
    return Report(
        N,
        Estimate("logged", 0.4678912345, (0.4431, 0.4926), "normal", 0.012),
        {one.estimator: one for one in estimates},
        {"ess": 812.5, "max_weight": 41.5, "max_weight_share": 0.0213},
        [Finding("users", Level.NOTE, f"none of {EVIL}"), Finding("propensities", Level.OK, "mean(w) covers 1")],
        pictures,
        {"policy": EVIL, "log": "log.parquet", "alpha": 0.05, "thresholds": Thresholds()},
    )


@pytest.fixture(scope="module")
def page(report) -> str:
    return report_page(report, f"banditd evaluate log.parquet --policy '{EVIL}'")


def refused(report: Report) -> Report:
    return replace(report, findings=[Finding("largest weight", Level.REFUSE, "one has 60 % of the sum")])


def test_the_page_is_well_formed_small_and_has_all_plots(page):
    read = Page(page)
    assert len(page) < 1_000_000
    assert read.tags.count("svg") == 8
    assert len(read.ids) == len(set(read.ids))


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing(page):
    read = Page(page)
    assert all(link.startswith("#") for link in read.links)
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert not re.search(r"https?:|@import|url\((?!#)|javascript:", page)


def test_a_malicious_name_is_text_wherever_it_stands(page):
    assert "<script" not in page
    assert EVIL in Page(page).text


def test_numbers_on_the_page_are_those_of_the_report(page, report):
    numbers = Page(page).numbers
    for one in [report.baseline, *report.estimates.values()]:
        for value in (one.value, *one.interval):
            assert np.isnan(value) or value in numbers
    for value in report.diagnostics.values():
        assert value in numbers
    text = Page(page).text
    for shown in ("0.512", "[0.412, 0.612]", "0.468", "+0.044 (+10 %)", "undefined", "refused below 100"):
        assert shown in text


def test_the_verdict_stands_first_in_words(page, report):
    doubted = replace(report, findings=[Finding("propensities", Level.WARN, "off")])
    for one, word in ((report, "Supported"), (doubted, "Supported, with reservations"), (refused(report), "Refused")):
        text = Page(report_page(one)).text
        assert word in text
        assert text.index(word) < text.index("Estimates")


def test_a_refused_page_has_no_estimate_but_its_diagnosis(report):
    text = report_page(refused(report), "banditd evaluate")
    read = Page(text)
    for one in report.estimates.values():
        for value in (one.value, *one.interval):
            assert value not in read.numbers
    for shown in ("0.512", "0.535", "0.412", "snips", "Value over time"):
        assert shown not in read.text
    assert "one has 60 % of the sum" in read.text
    assert read.tags.count("svg") == 6
    assert 812.5 in read.numbers


def test_a_page_without_pictures_has_words_and_numbers(report):
    read = Page(report_page(replace(report, pictures=None)))
    assert read.tags.count("svg") == 1
    assert "Importance weights" not in read.text


def test_a_page_of_no_rounds_can_be_drawn(report):
    nan = float("nan")
    nothing = Estimate("logged", nan, (nan, nan), "normal", nan)
    empty = replace(report, n=0, baseline=nothing, estimates={"ips": nothing}, pictures=Pictures())
    assert "undefined" in Page(report_page(empty)).text


def test_matplotlib_is_left_as_it_was_and_the_page_is_the_same_again(page, report):
    before = dict(mpl.rcParams)
    again = report_page(report, f"banditd evaluate log.parquet --policy '{EVIL}'")
    assert dict(mpl.rcParams) == before
    assert again == page


def test_all_weights_zero_are_drawn_apart(report):
    pictures = Pictures()
    log = BanditLog(None, [0, 1], [0.0, 1.0], [0.5, 0.5], 2)
    pictures.add(Rounds(log, np.zeros(2)), {})
    read = Page(report_page(replace(refused(report), pictures=pictures)))
    assert "100 % at 0" in read.text
    assert read.tags.count("svg") == 1
