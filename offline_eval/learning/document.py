"""What was learned, as one JSON document, and as points of a Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offline_eval.learning.judge import Estimated, Judged
from offline_eval.learning.learn import Learned, Options
from offline_eval.learning.reading import AdLoadRows
from offline_eval.learning.reward import COMPONENTS
from offline_eval.report.pareto import FrontPoint, Span

METHOD = "normal, users as clusters, Bonferroni over all comparisons"


def document(learned: Learned, rows: AdLoadRows, options: Options, output: Path) -> dict[str, Any]:
    """What --json prints; of a refused log neither policies nor their estimates."""
    policy = learned.policy
    points, _ = front(learned, options)
    return {
        "policy": None if policy is None else str(output),
        "version": None if policy is None else policy.version,
        "verdict": verdict(learned),
        "reasons": list(learned.reasons),
        "n": len(rows.log),
        "left_out": dict(rows.left_out),
        "loads": list(rows.log.loads),
        "features": [one.name for one in rows.log.used],
        "beta": None if options.constraint is not None else options.beta,
        "most_satisfaction_lost": options.constraint,
        "reward": None if learned.study is None else learned.study.scale.words(options.beta),
        "split": _split(learned),
        "interval_method": None if learned.judge is None else METHOD,
        "logging": None if learned.logging is None else _policy(learned, learned.logging, options),
        "chosen": None if learned.chosen is None else _policy(learned, learned.everyone[learned.chosen], options),
        "candidates": [_policy(learned, one, options) for one in learned.everyone],
        "front": [
            {
                "beta": one.beta,
                "policy": one.label,
                "satisfaction": _span(one.satisfaction),
                "revenue": _span(one.revenue),
            }
            for one in points
        ],
    }


def verdict(learned: Learned) -> str:
    """In words."""
    if learned.chosen is None:
        return "no policy: keep the logging policy"
    return "the policy surely beats the logging policy on users it was not learned from"


def about(learned: Learned, rows: AdLoadRows) -> list[tuple[str, object]]:
    """What was learned from what, by name."""
    found: list[tuple[str, object]] = [("rows", len(rows.log)), ("window", " to ".join(rows.log.window))]
    found += [(f"left out, {reason}", count) for reason, count in rows.left_out.items()]
    found += list((_split(learned) or {}).items())
    return [*found, ("intervals", METHOD)]


def front(learned: Learned, options: Options) -> tuple[list[FrontPoint], FrontPoint | None]:
    """The sweep's policies and the logging policy; where it is the best for a beta there is no point of it."""
    if learned.logging is None:
        return [], None
    points = []
    for beta, at in learned.front.items():
        if at is not None:
            one = learned.everyone[at]
            points.append(_point(learned, one, f"β = {beta:g}", at == learned.chosen))
    at = learned.chosen
    if at is not None and learned.front and at not in learned.front.values():
        one = learned.everyone[at]
        points.append(
            _point(learned, one, "constrained" if options.constraint is not None else f"β = {one.beta:g}", True)
        )
    return points, _point(learned, learned.logging, "logging policy", False)


def _point(learned: Learned, one: Judged, label: str, chosen: bool) -> FrontPoint:
    assert learned.judge is not None
    spans = [Span(*learned.judge.raw(one.terms, component)) for component in range(2)]
    return FrontPoint(label, one.beta, spans[0], spans[1], chosen)


def _policy(learned: Learned, one: Judged, options: Options) -> dict[str, Any]:
    assert learned.judge is not None
    judge = learned.judge
    beta = options.beta if one.beta is None else one.beta
    found: dict[str, Any] = {
        "name": one.name,
        "beta": one.beta,
        "value": _span(judge.reward(one.terms, beta)),
        "gain": _span(judge.reward(one.gain, beta)),
    }
    for component, name in enumerate(COMPONENTS):
        found[name] = _span(judge.raw(one.terms, component))
        found[f"{name}_gain"] = _span(judge.raw(one.gain, component, change=True))
    return {**found, "ess": one.ess, "max_weight_share": one.largest_share}


def _span(span: Estimated | Span) -> dict[str, Any]:
    value, low, high = span
    return {"value": value, "interval": [low, high]}


def _split(learned: Learned) -> dict[str, Any] | None:
    if learned.study is None:
        return None
    parts = {"learning": learned.study.learning, "judging": learned.study.judging}
    rows = {f"{name}_rows": len(part) for name, part in parts.items()}
    return rows | {f"{name}_users": len(set(part.user.tolist())) for name, part in parts.items()}
