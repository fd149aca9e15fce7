"""A report as one page that needs no other file."""

from __future__ import annotations

from offline_eval.diagnostics.finding import Level
from offline_eval.report import plots, weight_plots, words
from offline_eval.report.markup import (
    Markup,
    banner,
    beside,
    bullets,
    code,
    coloured,
    data,
    figure,
    folded,
    grid,
    html,
    key,
    page,
    paragraph,
    section,
    table,
)
from offline_eval.report.pictures import Overlap, Pictures
from offline_eval.result import Estimate, Report

_COLOURS = {Level.OK: "good", Level.NOTE: "", Level.WARN: "warn", Level.REFUSE: "bad"}


def report_page(report: Report, command: str = "") -> str:
    """HTML of a report; `command` is the command line that makes it again.

    A log that cannot support the question has no estimates here, whatever the report holds.
    """
    pictures = report.pictures if isinstance(report.pictures, Pictures) else Pictures()
    return page(
        f"Off-policy evaluation of {words.subject(report)}",
        f"{report.n:,} logged rounds",
        _banner(report),
        _estimates(report) if report.supported else _refusal(report),
        _comparison(report) if report.supported else Markup(),
        _diagnostics(report),
        section("Importance weights", grid(*_weights(pictures))),
        section("Overlap by segment", grid(*_segments(pictures))),
        section("Calibration", grid(*_calibration(pictures)), _unknown(pictures)),
        _timeline(report, pictures) if report.supported else Markup(),
        _findings(report),
        section("What was evaluated", table(("", ""), [(name, value) for name, value in words.about(report)])),
        section("How to make this page again", code(command)) if command else Markup(),
    )


def _banner(report: Report) -> Markup:
    colour = "bad" if not report.supported else "warn" if report.reasons else "good"
    sentence = report.verdict.partition(": ")[2]
    return banner(colour, words.verdict_word(report), sentence or report.verdict, report.reasons[1:])


def _refusal(report: Report) -> Markup:
    text = (
        "None is shown. A number from this log would be decided by a few rounds, or by rounds that the log does not "
        "hold; the diagnostics below show where it falls short."
    )
    decimals = words.decimals_for([report.baseline])
    mean = f"The logged mean reward is {words.number(report.baseline.value, decimals)}, "
    around = f"{words.coverage(report)} {words.interval(report.baseline, decimals)}."
    return section("Estimates", paragraph(text), paragraph(mean + around, quiet=True))


def _estimates(report: Report) -> Markup:
    rows = [report.baseline, *report.estimates.values()]
    decimals = words.decimals_for(rows)
    head = ("estimator", "value", words.coverage(report), "to logged", "interval by")
    body = [_estimate(one, report, decimals) for one in rows]
    caption = f"Dot: estimate. Line: {words.coverage(report)}. Band: the logged mean's."
    if any(one.narrow for one in report.estimates.values()):
        caption += " Intervals in the second colour may be too narrow."
    return section(
        "Estimates",
        beside(
            figure("Mean reward of a round under the policy", caption, plots.estimates_plot(report)),
            Markup(
                table(head, body, numbers=(1, 2, 3))
                + bullets(f"{names}: {text}" for names, text in words.notes(report))
            ),
        ),
    )


def _estimate(one: Estimate, report: Report, decimals: int) -> tuple[object, ...]:
    low, high = (data(end, words.number(end, decimals)) for end in one.interval)
    logged = one is report.baseline
    return (
        key("logged mean" if logged else one.estimator),
        data(one.value, words.number(one.value, decimals)),
        Markup(f"[{low}, {high}]"),
        "" if logged else words.difference(one, report.baseline, decimals),
        key(one.interval_method),
    )


def _comparison(report: Report) -> Markup:
    differences = list((report.comparison or {}).values())
    if not differences:
        return Markup()
    decimals = words.decimals_for(differences)
    body = []
    for one in differences:
        low, high = (data(end, words.number(end, decimals)) for end in one.interval)
        value = data(one.value, words.number(one.value, decimals))
        body.append((key(one.estimator), value, Markup(f"[{low}, {high}]"), key(one.interval_method)))
    head = ("estimator", "ahead by", words.coverage(report), "interval by")
    notes = bullets(f"{one.estimator}: {flag}" for one in differences for flag in one.flags)
    return section(f"Against {words.against(report)}", Markup(table(head, body, numbers=(1, 2)) + notes))


def _diagnostics(report: Report) -> Markup:
    rows = [
        (
            one.label,
            data(report.diagnostics[one.name], one.value),
            coloured(one.limit, "bad") if one.crossed else one.limit,
            coloured("crossed", "bad") if one.crossed else "",
        )
        for one in words.diagnostics(report)
    ]
    return section("Diagnostics", table(("", "value", "threshold", ""), rows, numbers=(1,)))


def _weights(pictures: Pictures) -> list[Markup]:
    return [
        figure(
            "Histogram",
            "How often the policy would have taken the logged action, relative to how often it was taken. "
            f"Largest: {words.number(pictures.largest)}.",
            weight_plots.weights_plot(pictures),
        ),
        figure(
            "Tail",
            "Rounds of at least a weight, and what they carry of the sum: far apart, few rounds decide.",
            weight_plots.tail_plot(pictures),
        ),
    ]


def _segments(pictures: Pictures) -> list[Markup]:
    made = []
    for name, segment in pictures.segments.items():
        rows = segment.overlap()
        caption = "Effective share: small where few rounds decide. Mean weight: 1 where propensities are right."
        if segment.overflowed:
            made.append(Markup(f"<p>{html(words.label(name))}: too many categories to be shown.</p>"))
            continue
        if len(rows) > weight_plots.MOST_ROWS:
            caption += f" The first {weight_plots.MOST_ROWS} of {len(rows)}."
        plot = weight_plots.overlap_plot(name, rows)
        made.append(figure(words.label(name), caption, plot, folded("as a table", _overlap(rows))))
    return made


def _overlap(rows: list[Overlap]) -> Markup:
    head = ("", "rounds", "effective", "mean weight", "± s.e.", "largest")
    body = [
        (
            one.name,
            data(one.n, f"{one.n:,}"),
            data(one.ess, words.number(one.ess, 0)),
            *(data(value) for value in (one.mean_weight, one.standard_error, one.max_weight)),
        )
        for one in weight_plots.ordered(rows)
    ]
    return table(head, body, numbers=range(1, 6))


def _calibration(pictures: Pictures) -> list[Markup]:
    return [
        figure(
            "Reward model",
            "On the diagonal: as predicted. Larger dots hold more rounds; faint ones fewer than "
            f"{plots.LEAST_ROUNDS}. Lines: 95 % intervals.",
            plots.calibration_plot(pictures),
        ),
        figure(
            "Propensities",
            "On the diagonal: actions were chosen as often as logged. Shaded: where 95 % of sound bins lie; "
            "dots far outside have the second colour.",
            plots.propensities_plot(pictures),
        ),
    ]


def _unknown(pictures: Pictures) -> Markup:
    if not pictures.unknown:
        return Markup()
    which = "any" if pictures.unknown == pictures.rounds else f"{pictures.unknown:,} of {pictures.rounds:,}"
    text = f"Propensities of actions that were not chosen are not known in {which} rounds"
    return paragraph(f"{text}; those rounds say nothing of their reliability.", quiet=True)


def _timeline(report: Report, pictures: Pictures) -> Markup:
    plot = plots.timeline_plot(pictures.timeline, report.baseline)
    caption = "From all rounds up to each time; the band holds at all times at once."
    return section("Value over time", figure(pictures.timeline_of or "estimate", caption, plot)) if plot else Markup()


def _findings(report: Report) -> Markup:
    ordered = sorted(report.findings, key=lambda one: -one.level)
    rows = [(coloured(words.LEVELS[one.level], _COLOURS[one.level]), one.name, one.detail) for one in ordered]
    return section("Every check", table(("", "check", "finding"), rows))
