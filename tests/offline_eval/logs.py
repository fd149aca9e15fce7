"""Logs written for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bandits.own_log import SCHEMA, VERSION, Row, to_arrow, to_json_lines
from offline_eval.formats import FORMATS, find
from offline_eval.formats.chunk import Chunk, ReadOptions

NOON_US = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z."""


def row(**values: Any) -> Row:
    """A row of an own log; by default the first of its decision, a of a and b with probability 1/2."""
    position = values.get("position", 0)
    first = {"candidates": ["a", "b"], "exclude": [], "distribution": [0.5, 0.5]} if position == 0 else {}
    blank = dict.fromkeys(Row.__struct_fields__)
    known = {
        "version": VERSION,
        "decision_id": "d0",
        "timestamp": NOON_US,
        "surface": "home",
        "policy": "diag_linucb",
        "mode": "explore",
        "position": 0,
        "item": "a",
        "propensity": 0.5,
        "reward": 1.0,
        "rewards": {},
        "slots": [],
        "weights": [],
    }
    return Row(**{**blank, **known, **first, **values})


def slates(n: int, length: int, candidates: int, seed: int = 0) -> list[Row]:
    """n decisions of `length` positions over the first `candidates` of the letters, in the order of time."""
    rng = np.random.default_rng(seed)
    ids = [f"i{k}" for k in range(candidates)]
    rows = []
    for d in range(n):
        order = rng.permutation(candidates)[:length]
        law = rng.dirichlet(np.ones(candidates)).tolist()
        for p, k in enumerate(order):
            first = {"candidates": ids, "distribution": law} if p == 0 else {"candidates": None, "distribution": None}
            given = {"features": {"age": float(rng.integers(90))}, "user": f"{d % 7:032x}", "exclude": None}
            one = row(decision_id=f"d{d:04}", timestamp=NOON_US + d // 2, position=p, item=ids[k], **first, **given)
            rows.append(
                msgspec.structs.replace(one, reward=float(rng.integers(2)), propensity=float(rng.uniform(0.1, 1)))
            )
    return rows


def write(path: Path, rows: Sequence[Row], group_rows: int = 1 << 20) -> Path:
    """An own log, as the suffix says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_batches([to_arrow(rows)], SCHEMA), path, row_group_size=group_rows)
    else:
        path.write_bytes(to_json_lines(rows))
    return path


def chunks(path: Path, name: str | None = None, rows: int = 1000, **options: Any) -> list[Chunk]:
    """All of a log."""
    shards = find(path, name)
    return [chunk for one in shards for chunk in FORMATS[one.format].read(one, rows, ReadOptions(**options))]


def records(found: Sequence[Chunk]) -> list[dict[str, Any]]:
    """Rows with ids in place of codes; what a chunk has none of is not there."""
    return [record for chunk in found for record in _of(chunk)]


def only(path: Path, name: str | None = None, **options: Any) -> list[dict[str, Any]]:
    """Rows of a log."""
    return records(chunks(path, name, **options))


def left_out(found: Sequence[Chunk]) -> dict[str, int]:
    """Rows left out by reason."""
    total: dict[str, int] = {}
    for chunk in found:
        for reason, n in chunk.left_out.items():
            total[reason] = total.get(reason, 0) + n
    return total


def without_place(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without where they stand."""
    return [{name: value for name, value in one.items() if name not in ("place", "index")} for one in found]


def _of(chunk: Chunk) -> list[dict[str, Any]]:
    columns: dict[str, list[Any]] = {"place": [chunk.place.of(i).rpartition(": ")[2] for i in range(len(chunk))]}
    columns["action"] = [chunk.action.names[code] for code in chunk.action.code]
    for name in ("reward", "propensity", "count", "user", "timestamp", "fingerprint", "position", "index"):
        values = getattr(chunk, name)
        if values is not None:
            columns[name] = values.tolist()
    for name, raw in chunk.rewards.items():
        columns[f"reward {name}"] = [None if np.isnan(value) else value for value in raw.tolist()]
    for name, ids in chunk.segments.items():
        columns[f"segment {name}"] = [None if code < 0 else ids.names[code] for code in ids.code]
    if chunk.candidates is not None:
        columns["candidates"] = [_list(chunk.candidates, i) for i in range(len(chunk))]
    columns["context"] = [
        {name: value for name, value in zip(chunk.names, line, strict=True) if not np.isnan(value)}
        for line in chunk.context.tolist()
    ]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _list(ragged: Any, i: int) -> Any:
    if not ragged.known[i]:
        return None
    span = slice(ragged.start[i], ragged.start[i + 1])
    values = [None] * (span.stop - span.start) if ragged.value is None else ragged.value[span].tolist()
    names = [ragged.names[code] for code in ragged.code[span]]
    return [
        (name, None if value is None or np.isnan(value) else value) for name, value in zip(names, values, strict=True)
    ]
