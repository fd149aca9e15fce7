"""The own log, version 1: a row per decision and served position, as Arrow columns or lines of JSON.

What is written by `banditd export` and read by evaluation. Rows are sorted by (timestamp, decision_id, position).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

VERSION = 1

_NAMED = pa.map_(pa.string(), pa.float64())
_TEXTS, _NUMBERS = pa.list_(pa.string()), pa.list_(pa.float64())

SCHEMA = pa.schema(
    [
        pa.field("version", pa.int64(), nullable=False),
        pa.field("decision_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("surface", pa.string(), nullable=False),
        pa.field("user", pa.string()),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("item", pa.string(), nullable=False),
        pa.field("propensity", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("reward", pa.float64()),
        pa.field("rewards", _NAMED, nullable=False),
        pa.field("candidates", _TEXTS),
        pa.field("graph", pa.string()),
        pa.field("exclude", _TEXTS),
        pa.field("distribution", _NUMBERS),
        pa.field("features", _NAMED),
        pa.field("item_features", pa.list_(_NAMED)),
        pa.field("slots", pa.list_(pa.int64()), nullable=False),
        pa.field("weights", _NUMBERS, nullable=False),
    ]
)
"""Columns of the Parquet form, in order; what they mean stands at Row."""


class Row(msgspec.Struct, kw_only=True):
    """One served position. Its fields are the columns.

    version        of this format
    decision_id    the same for all positions of a decision
    timestamp      when it was decided, UTC microseconds; in JSON text such as 2023-11-14T22:13:20.000000Z
    surface        name of the surface
    user           keyed hash of the user id as hex, or None without a user
    policy, mode   what chose; explore, exploit or holdout
    position       place in the slate, from 0
    item           id of the item
    propensity     probability of the item here given those at earlier positions; None where it is not computable
    score          what the policy drew by, in reward units
    reward         weighted sum of `rewards`, in reward units; without any None, after the wait window the default
    rewards        raw value by the reward's name, of those that came

    The decision's candidates at position 0 stand once, on its first row; beyond it these five are None:

    candidates     ids, or None where graph, slots and exclude give them: graph.candidates(slots) without the excluded
    graph          version of the graph whose edges were scored, or None
    exclude        ids that the request ruled out
    distribution   probability of each candidate at position 0, aligned with `candidates`; None beyond 64 of them
    item_features  features of each candidate by name, aligned with `candidates`, or None

    features       of the context by name, as the request gave them, or None
    slots, weights of the context, aligned: clusters of the graph, or hashed features; multiples of 2**-15
    """

    version: int
    decision_id: str
    timestamp: int
    surface: str
    user: str | None
    policy: str
    mode: str
    position: int
    item: str
    propensity: float | None
    score: float | None
    reward: float | None
    rewards: dict[str, float]
    candidates: list[str] | None
    graph: str | None
    exclude: list[str] | None
    distribution: list[float] | None
    features: dict[str, float] | None
    item_features: list[dict[str, float] | None] | None
    slots: list[int]
    weights: list[float]


_encode = msgspec.json.Encoder().encode


def to_arrow(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as one batch of SCHEMA."""
    return pa.record_batch(
        [_column([getattr(row, field.name) for row in rows], field.type) for field in SCHEMA], SCHEMA
    )


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_map(kind):
        values = [_pairs(value) for value in values]
    elif pa.types.is_list(kind) and pa.types.is_map(kind.value_type):
        values = [None if value is None else list(map(_pairs, value)) for value in values]
    return pa.array(values, kind)


def _pairs(value: dict[str, float] | None) -> list[tuple[str, float]] | None:
    """A map as pyarrow takes it."""
    return None if value is None else list(value.items())


def to_json_lines(rows: Sequence[Row]) -> bytes:
    """A line of JSON for each row, maps as objects."""
    times = np.array([row.timestamp for row in rows], "datetime64[us]")
    texts = np.datetime_as_string(times, timezone="UTC").tolist() if rows else []
    lines = [
        _encode(msgspec.structs.asdict(row) | {"timestamp": text}) + b"\n"
        for row, text in zip(rows, texts, strict=True)
    ]
    return b"".join(lines)
