"""One line of dsjson: its rows and features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from offline_eval.errors import BadLog

SUM_TOLERANCE = 1e-3
"""Vowpal Wabbit computes and prints probabilities as float32."""


class Outcome(msgspec.Struct, rename={"cost": "_label_cost", "actions": "_a", "law": "_p"}):
    """Of one slot; actions are 0-based."""

    actions: list[int]
    law: list[float]
    cost: float | None = None


class Line(
    msgspec.Struct,
    rename={
        "context": "c",
        "cost": "_label_cost",
        "probability": "_label_probability",
        "action": "_label_Action",
        "chosen": "_labelIndex",
        "actions": "a",
        "law": "p",
        "skip_learn": "_skipLearn",
        "timestamp": "Timestamp",
        "event_id": "EventId",
        "outcomes": "_outcomes",
    },
):
    """A decision; `actions` and `action` are 1-based, `chosen` is 0-based."""

    context: dict[str, Any]
    cost: float | None = None
    probability: float | None = None
    action: int | None = None
    chosen: int | None = None
    actions: list[int] | None = None
    law: list[float] | None = None
    pdrop: float = 0.0
    skip_learn: bool = False
    timestamp: str | None = None
    event_id: str | None = None
    outcomes: list[Outcome] | None = None

    @property
    def key(self) -> bytes:
        """Equal for duplicates."""
        if self.event_id is not None:
            return b"e" + self.event_id.encode()
        return b"l" + msgspec.json.encode(self, order="sorted")


@dataclass(frozen=True, slots=True)
class Row:
    """One choice of a line.

    index       0-based number of the row
    position    slot
    candidates  ids of what could have been chosen
    law         their logging probabilities, NaN where not logged
    count       decisions that it stands for
    """

    of: Line
    line: int
    index: int
    position: int
    action: str
    reward: float
    propensity: float
    candidates: list[str]
    law: list[float]
    count: float


def rows_of(line: Line, number: int, index: int, default_reward: float) -> list[Row]:
    """Of a line. Raises BadLog."""
    names = _names(line)
    if not 0.0 <= line.pdrop < 1.0:
        raise BadLog("pdrop", line.pdrop, "must lie in [0, 1)")
    count = 1.0 / (1.0 - line.pdrop)
    if line.outcomes is None:
        found = [_single(line, names)]
    else:
        found = [_slot(outcome, names, f"_outcomes[{j}]") for j, outcome in enumerate(line.outcomes)]
    rows = []
    for j, (chosen, probability, cost, actions, law) in enumerate(found):
        where = "" if line.outcomes is None else f"_outcomes[{j}]."
        field = "_label_probability" if line.outcomes is None and line.probability is not None else f"{where}p"
        if not 0.0 < probability <= 1.0:
            raise BadLog(field, probability, "must lie in (0, 1]")
        reward = default_reward if cost is None else 0.0 - cost
        ids = [names[k] for k in actions]
        rows.append(Row(line, number, index + j, j, names[chosen], reward, probability, ids, law, count))
    return rows


def _names(line: Line) -> list[str]:
    """Of all actions."""
    multi = line.context.get("_multi")
    if not isinstance(multi, list) or not multi:
        raise BadLog("c._multi", multi, "must be the list of actions")
    names: list[str] = []
    for k, action in enumerate(multi):
        tag = action.get("_tag", str(k + 1)) if isinstance(action, dict) else None
        if not isinstance(tag, str):
            raise BadLog(f"c._multi[{k}]._tag", tag, "must be text, of an action that is an object")
        names.append(tag)
    if len(set(names)) != len(names):
        k = next(k for k, name in enumerate(names) if name in names[:k])
        raise BadLog(f"c._multi[{k}]._tag", names[k], "must differ from the other actions'")
    return names


_Choice = tuple[int, float, float | None, list[int], list[float]]
"""Chosen action, its probability, cost, and all actions with their probabilities; actions 0-based."""


def _single(line: Line, names: list[str]) -> _Choice:
    n = len(names)
    actions, law = line.actions, line.law
    if actions is not None:
        actions = [one - 1 for one in actions]
        _check(actions, law, n, "a", 1)
    chosen = line.chosen if line.chosen is not None else None if line.action is None else line.action - 1
    if chosen is None:
        if not actions:
            raise BadLog("_label_Action", None, "must not be missing where `a` is")
        chosen = actions[0]
    elif not 0 <= chosen < n:
        value, name = (line.chosen, "_labelIndex") if line.chosen is not None else (line.action, "_label_Action")
        raise BadLog(name, value, f"must be one of the {n} actions")
    if line.action is not None and line.action - 1 != chosen:
        raise BadLog("_label_Action", line.action, f"must be _labelIndex + 1, {chosen + 1}")
    logged = dict(zip(actions or [], law or [], strict=True)) if actions and law else {}
    probability = logged.get(chosen) if line.probability is None else line.probability
    if probability is None:
        raise BadLog("p", line.law, "must have the probability of the chosen action")
    whole = math.isclose(sum(logged.values()), 1.0, abs_tol=SUM_TOLERANCE)
    return (
        chosen,
        probability,
        line.cost,
        list(range(n)),
        [logged.get(k, 0.0) if whole else math.nan for k in range(n)],
    )


def _slot(outcome: Outcome, names: list[str], where: str) -> _Choice:
    _check(outcome.actions, outcome.law, len(names), f"{where}._a", 0)
    if not outcome.actions:
        raise BadLog(f"{where}._a", outcome.actions, "must hold the chosen action first")
    whole = math.isclose(sum(outcome.law), 1.0, abs_tol=SUM_TOLERANCE)
    law = outcome.law if whole else [math.nan] * len(outcome.law)
    return outcome.actions[0], outcome.law[0], outcome.cost, outcome.actions, law


def _check(actions: list[int], law: list[float] | None, n: int, where: str, base: int) -> None:
    """Actions are distinct and exist; the law, where there is one, is aligned and sums to 1 over all n actions."""
    for k, one in enumerate(actions):
        if not 0 <= one < n:
            raise BadLog(f"{where}[{k}]", one + base, f"must lie in [{base}, {n + base})")
    if len(set(actions)) != len(actions):
        raise BadLog(where, [one + base for one in actions], "must not repeat an action")
    if law is None:
        return
    law_at = where[:-1] + "p"
    if len(law) != len(actions):
        raise BadLog(law_at, law, f"must have {len(actions)} numbers, as {where}")
    for k, value in enumerate(law):
        if not 0.0 <= value <= 1.0 + SUM_TOLERANCE:
            raise BadLog(f"{law_at}[{k}]", value, "must be a probability")
    total = sum(law)
    if total > 1.0 + SUM_TOLERANCE or (len(law) == n and total < 1.0 - SUM_TOLERANCE):
        raise BadLog(f"sum of {law_at}", total, "must be 1" if len(law) == n else "must be at most 1")


def features(row: Row) -> Iterator[tuple[str, float]]:
    """Of what all actions share, flat: `namespace.name`, text as `namespace.name=text` with value 1."""
    for name, value in row.of.context.items():
        if not name.startswith("_"):
            yield from _flat(name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, str):
        yield f"{name}={value}", 1.0
    elif isinstance(value, int | float):
        yield name, float(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not key.startswith("_"):
                yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield from _flat(name if isinstance(inner, dict | str) else f"{name}[{k}]", inner)
