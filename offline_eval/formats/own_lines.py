"""The own log's lines of JSON as Arrow batches."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from bandits.own_log import SCHEMA
from offline_eval.errors import BadLog
from offline_eval.formats import text
from offline_eval.formats.chunk import Place

T = TypeVar("T")
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Line(msgspec.Struct, kw_only=True):
    """What evaluation reads of bandits.own_log.Row."""

    version: _Int64
    decision_id: str
    timestamp: _Time
    mode: str
    position: _Int64
    item: str
    propensity: float | None
    reward: float | None
    user: str | None = None
    policy: str | None = None
    rewards: dict[str, float] = {}
    candidates: list[str] | None = None
    graph: str | None = None
    exclude: list[str] | None = None
    distribution: list[float] | None = None
    features: dict[str, float] | None = None
    slots: list[_Int64] | None = None
    weights: list[float] | None = None


_TYPES = {name: SCHEMA.field(name).type for name in Line.__struct_fields__}


def batches(path: Path, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """Some columns of a file's lines and where they stand. Raises BadLog, after the lines before the fault."""
    for lines, numbers, fault in decoded(path, _part(columns)):
        place = Place(str(path), "line", np.array(numbers, np.int64))
        if lines:
            yield pa.record_batch([_column(lines, name) for name in columns], columns), place
        if fault is not None:
            raise fault


def _part(columns: list[str]) -> type[Any]:
    """Of Line some fields: decoding passes over the others."""
    if len(columns) == len(Line.__struct_fields__):
        return Line
    fields = [one for one in msgspec.structs.fields(Line) if one.name in columns]
    given = [(one.name, one.type) for one in fields if one.required]
    return msgspec.defstruct("Part", [*given, *((one.name, one.type, None) for one in fields if not one.required)])


def decoded(path: Path, kind: type[T]) -> Iterator[tuple[list[T], list[int], BadLog | None]]:
    """A block's lines as structs, their 1-based numbers, and what is wrong with the line after them."""
    decode = msgspec.json.Decoder(kind).decode
    for block in text.blocks(path):
        found: list[T] = []
        numbers: list[int] = []
        for i, line in enumerate(block.lines):
            try:
                found.append(decode(line))
                numbers.append(block.first + i)
            except msgspec.MsgspecError as fault:
                if line.strip():
                    yield found, numbers, _fault(line, str(fault)).at(f"{path}: line {block.first + i}")
                    return
        yield found, numbers, None


def _fault(line: bytes, message: str) -> BadLog:
    """What is wrong with a line, by msgspec's message: "rule - at `$.path`"."""
    rule, _, where = message.partition(" - at ")
    if rule.startswith("Object missing required field "):
        missing = rule.removeprefix("Object missing required field ").strip("`")
        path = where.strip("`").removeprefix("$").removeprefix(".")
        return BadLog(f"{path}.{missing}" if path else missing, None, "must not be missing")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    if not where or not path:
        return BadLog("line", line[:40].decode(errors="replace"), f"must be a JSON object: {_lower(rule)}")
    return BadLog(path, _value(line, path), _lower(rule))


def _lower(rule: str) -> str:
    """As part of a sentence."""
    start = rule[0] if rule.startswith("JSON") else rule[0].lower()
    return f"{start}{rule[1:]}".replace("`", "")


def _value(line: bytes, path: str) -> Any:
    """What stands at a path such as `p[2]`; a dictionary of which any value may be meant is given whole."""
    try:
        value = msgspec.json.decode(line)
    except msgspec.MsgspecError:
        return line[:40].decode(errors="replace")
    for part in path.replace("[", ".[").split("."):
        if part == "[...]" or not isinstance(value, dict | list):
            return value
        try:
            value = value[int(part[1:-1])] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError):
            return value
    return value


def _column(lines: list[Line], name: str) -> pa.Array:
    values = [getattr(line, name) for line in lines]
    if pa.types.is_map(_TYPES[name]):
        values = [None if value is None else list(value.items()) for value in values]
    return pa.array(values, _TYPES[name])
