"""Numbers, names and thresholds as people read them; shared by the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np

from offline_eval.diagnostics.finding import Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.result import Estimate, Report

LEVELS = {Level.OK: "ok", Level.NOTE: "note", Level.WARN: "warning", Level.REFUSE: "refusal"}
UNDEFINED = "undefined"
LARGEST_CHANGE = 10.0
"""Times the logged mean; beyond, a percentage says nothing."""


class Diagnostic(NamedTuple):
    """A number that the estimates rest on, and where it turns into a warning or a refusal ("" where nowhere)."""

    name: str
    label: str
    value: str
    limit: str
    crossed: bool


def plain(text: object) -> str:
    """A text without characters that would steer a terminal or a page: each becomes U+FFFD.

    >>> plain("a" + chr(27) + "[2J")
    'a\\ufffd[2J'
    """
    return "".join(one if one.isprintable() else "\ufffd" for one in str(text))


def short(text: object, most: int = 24) -> str:
    """A plain text of at most `most` characters.

    >>> short("abcdefgh", 5)
    'abcd…'
    """
    shown = plain(text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def number(value: float, decimals: int | None = None) -> str:
    """With so many decimals, or else with four digits that count.

    >>> number(1234567.0), number(0.0123456), number(0.5, 3), number(float("nan")), number(12.0)
    ('1,234,567', '0.01235', '0.500', 'undefined', '12')
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if decimals is not None:
        shown = f"{value:,.{decimals}f}"
        return shown.removeprefix("-") if not shown.strip("-0.,") else shown
    whole = abs(value) >= 1000 or float(value).is_integer()
    return f"{value:,.0f}" if whole else f"{value:#.4g}"


def percent(share: float) -> str:
    """A share with three digits that count.

    >>> percent(0.5), percent(0.012345), percent(1.0), percent(0.0000234), percent(0.0)
    ('50 %', '1.23 %', '100 %', '0.00234 %', '0 %')
    """
    return UNDEFINED if not math.isfinite(share) else f"{_fixed(share * 100)} %"


def _fixed(value: float) -> str:
    """Three digits that count, never with an exponent."""
    if value == 0:
        return "0"
    decimals = max(2 - math.floor(math.log10(abs(value))), 0)
    shown = f"{value:.{decimals}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def rounded(n: int) -> str:
    """Rounds in few characters."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= size:
            return f"{n / size:.3g}{unit}"
    return str(n)


def decimals_for(estimates: Iterable[Estimate]) -> int:
    """So many that the narrowest interval keeps two digits of its half-width."""
    return decimals_between(one.interval for one in estimates)


def decimals_between(intervals: Iterable[tuple[float, float]]) -> int:
    """So many that the narrowest of (low, high) keeps two digits of its half-width.

    >>> decimals_between([(0.0038, 0.0062), (0.0, 1.0)])
    4
    """
    widths = [high - low for low, high in intervals]
    narrow = [width / 2 for width in widths if math.isfinite(width) and width > 0]
    return min(max(1 - math.floor(math.log10(min(narrow))), 0), 9) if narrow else 4


def interval(estimate: Estimate, decimals: int) -> str:
    """[low, high]."""
    low, high = estimate.interval
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def difference(estimate: Estimate, baseline: Estimate, decimals: int) -> str:
    """To the logged mean, and in percent of it unless it is next to nothing."""
    change = estimate.value - baseline.value
    if not math.isfinite(change):
        return "-"
    shown = f"{change:+,.{decimals}f}"
    if abs(change) > LARGEST_CHANGE * abs(baseline.value):
        return shown
    return f"{shown} ({change / abs(baseline.value):+.0%})".replace("%", " %") if baseline.value else shown


def against(report: Report) -> str:
    """What the policy was compared with."""
    name = report.about.get("against")
    return "the other policy" if name is None else plain(name)


def verdict_word(report: Report) -> str:
    """Of the banner: the verdict before any colour."""
    if not report.supported:
        return "Refused"
    return "Supported, with reservations" if report.reasons else "Supported"


def coverage(report: Report) -> str:
    """Of the intervals, such as "95 % interval"."""
    alpha = report.about.get("alpha")
    return "interval" if alpha is None else f"{percent(1 - float(alpha))} interval"


def subject(report: Report) -> str:
    """What was evaluated on what, as far as it is known."""
    policy, log = report.about.get("policy"), report.about.get("log")
    text = "a policy" if policy is None else plain(policy)
    return text if log is None else f"{text} on {plain(log)}"


def flat(value: Any) -> str:
    """A value of `about` or of an estimate's parameters, on one line.

    >>> flat({"exploit mode": 12, "no reward yet": 3}), flat(["a", 1.5]), flat(True)
    ('exploit mode: 12, no reward yet: 3', 'a, 1.5', 'yes')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{label(key)}: {flat(one)}" for key, one in value.items()) or "none"
    if is_dataclass(value) and not isinstance(value, type):
        return flat({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, (list, tuple)):
        return ", ".join(flat(one) for one in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else plain(value)


def label(name: str) -> str:
    """A key in words."""
    return plain(name).replace("_", " ")


def about(report: Report) -> list[tuple[str, str]]:
    """What was evaluated, row by row; the thresholds stand beside the diagnostics instead."""
    return [(label(name), flat(value)) for name, value in report.about.items() if name != "thresholds"]


def diagnostics(report: Report) -> list[Diagnostic]:
    """In the order of the report, each with its threshold where about["thresholds"] has them."""
    limits = thresholds(report)
    return [_diagnostic(name, float(value), report.n, limits) for name, value in report.diagnostics.items()]


def thresholds(report: Report) -> dict[str, float]:
    """By the names of Thresholds' fields; those that the report does not carry are absent."""
    given = report.about.get("thresholds", {})
    if isinstance(given, Thresholds):
        given = {one.name: getattr(given, one.name) for one in fields(given)}
    return {str(name): float(value) for name, value in given.items()}


_LABELS = {
    "n": "rounds",
    "ess": "effective sample size",
    "max_weight": "largest weight",
    "max_weight_share": "largest weight's share",
    "mean_weight": "mean weight (1 if sound)",
    "unsupported_mass": "unsupported target mass",
    "pareto_k": "tail shape k of the weights",
    "aa_difference": "A/A difference (0 if sound)",
}
_SHARES = ("max_weight_share", "unsupported_mass")
_LIMITS = {
    "ess": ("min_ess", "refused below"),
    "max_weight_share": ("max_weight_share", "refused above"),
    "unsupported_mass": ("max_unsupported", "refused above"),
    "pareto_k": ("pareto_warn", "warned above"),
}


def _diagnostic(name: str, value: float, n: int, limits: Mapping[str, float]) -> Diagnostic:
    shown = percent(value) if name in _SHARES else number(value)
    if math.isnan(value):
        shown = "not known"
    elif name == "ess" and n:
        shown = f"{number(value, 0)} ({percent(value / n)})"
    threshold, rule = _LIMITS.get(name, ("", ""))
    if threshold not in limits:
        return Diagnostic(name, _LABELS.get(name, label(name)), shown, "", False)
    limit = limits[threshold]
    crossed = value < limit if rule.endswith("below") else value > limit
    where = f"{rule} {percent(limit) if name in _SHARES else f'{limit:g}'}"
    return Diagnostic(name, _LABELS[name], shown, where, crossed)


def notes(report: Report) -> list[tuple[str, str]]:
    """What to know of the estimates, each thing once: (estimators it holds for, text)."""
    found: dict[str, list[str]] = {}
    for one in [report.baseline, *report.estimates.values()]:
        name = "logged mean" if one is report.baseline else one.estimator
        single = {key: value for key, value in one.parameters.items() if np.isscalar(value)}
        chosen = [flat(single)] if single else []
        for text in [*one.flags, *chosen]:
            found.setdefault(text, []).append(name)
    everyone = list(report.estimates)
    return [
        ("all" if names == everyone and len(names) > 1 else ", ".join(names), text) for text, names in found.items()
    ]
