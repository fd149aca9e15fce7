"""Tables: CSV with a map of columns, or Parquet; also the log of ad loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandits.arrays import F64, I64
from offline_eval.errors import BadLog
from offline_eval.formats import columns, csv_text, hashing, parquet, text
from offline_eval.formats.chunk import Chunk, Ids, Place, Ragged, ReadOptions, Shard
from offline_eval.formats.columns import Faults
from offline_eval.formats.lists import entries, lists
from offline_eval.formats.obd import pieces

CANONICAL = ("action", "reward", "propensity", "user", "timestamp", "position", "decision_id", "allowed")
RAW = ("satisfaction", "revenue")
"""Rewards of an ad-load table, which may have them in place of `reward`: its reward is then the first there is."""
_BATCH = 65_536
_allowed = msgspec.json.Decoder(list[int]).decode


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column of a file is what.

    at       canonical name -> column
    context  further columns, those of numbers become the context
    """

    at: Mapping[str, str]
    context: tuple[str, ...]


class Table:
    """A row per action, named by its text; further numeric columns are the context by name."""

    NAME = "csv"
    SUFFIXES: tuple[str, ...] = (".csv", ".parquet")
    FIXED_ACTIONS = False

    def recognises(self, path: Path) -> bool:
        """Any table: a column map may give its columns their meaning."""
        return True

    def shards(self, path: Path, first: int) -> list[Shard]:
        if text.suffix(path) == ".parquet":
            return parquet.shards(self.NAME, path, first)
        return [Shard(self.NAME, path, first)]

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        packed = text.suffix(shard.path) == ".parquet"
        there = parquet.names(shard.path) if packed else csv_text.header(shard.path)
        layout = _layout(shard.path, there, options.columns)
        if packed:
            wanted = [name for name in there if name in layout.context or name in layout.at.values()]
            for batch, place in parquet.batches(shard.path, shard.part, min(rows, _BATCH), wanted):
                yield from _chunks(batch, place, place.number, rows, options, layout, Faults(place))
            return
        yield from _lines(shard.path, rows, options, layout)


def _layout(path: Path, there: list[str], given: Mapping[str, str]) -> Layout:
    for name, column in given.items():
        if name not in (*CANONICAL, *RAW):
            rule = f"--map names one of {', '.join((*CANONICAL, *RAW))}"
            raise BadLog("--map", name, rule, place=str(path))
        parquet.require(path, there, [column], f", --map {name}={column}")
    at = {name: name for name in (*CANONICAL, *RAW) if name in there and name not in given.values()}
    at |= given
    needed = ["action", "propensity"] if any(name in at for name in RAW) else ["action", "reward", "propensity"]
    for name in needed:
        if name not in at:
            parquet.require(path, there, [name], f", or --map {name}=COLUMN")
    taken = set(at.values())
    extra = (name for name in there if name and name not in taken and not name.startswith("__index_level_"))
    return Layout(at, tuple(extra))


def _lines(path: Path, rows: int, options: ReadOptions, layout: Layout) -> Iterator[Chunk]:
    first = 0
    numeric: list[str] | None = None
    for batch, place in csv_text.batches(path):
        if numeric is None:
            # Decided on the first 4 MiB of lines, for all.
            numeric = [name for name in layout.context if csv_text.is_numeric(batch[name])]
        faults = Faults(place)
        arrays = {name: csv_text.numbers(batch[name], name, faults) for name in numeric}
        for canonical, name in layout.at.items():
            if canonical == "timestamp":
                arrays[name] = csv_text.times(batch[name], name, faults)
            elif canonical in ("reward", "propensity", "position", *RAW):
                arrays[name] = csv_text.numbers(batch[name], name, faults)
            elif canonical == "allowed":
                arrays[name] = _parsed_allowed(batch[name], name, faults)
            else:
                arrays[name] = batch[name]
        typed = pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
        index = np.arange(first, first + batch.num_rows)
        yield from _chunks(typed, place, index, rows, options, layout, faults)
        first += batch.num_rows


def _parsed_allowed(array: pa.Array, column: str, faults: Faults) -> pa.Array:
    """Lists of integers out of text such as [0, 1, 2]."""
    coded = array.dictionary_encode()
    found: list[list[int] | None] = []
    for value in coded.dictionary.to_pylist():
        try:
            found.append(_allowed(value))
        except msgspec.MsgspecError:
            found.append(None)
    parsed = pa.array(found, pa.list_(pa.int64())).take(coded.indices)
    bad = columns.nulls(parsed) & ~columns.nulls(array)
    faults.refuse(bad, column, array, "must be a list of integers such as [0, 1, 2]")
    return parsed


def _chunks(
    batch: pa.RecordBatch,
    place: Place,
    index: I64,
    rows: int,
    options: ReadOptions,
    layout: Layout,
    faults: Faults,
) -> Iterator[Chunk]:
    def held(canonical: str) -> pa.Array | None:
        return batch[layout.at[canonical]] if canonical in layout.at else None

    def named(canonical: str) -> str:
        return layout.at[canonical]

    action = _texts(batch[named("action")], named("action"), faults)
    propensity = columns.propensities(batch[named("propensity")], named("propensity"), faults)
    rewards = {}
    for name in RAW:
        array = held(name)
        if array is not None:
            rewards[name] = columns.numbers(array, named(name), faults)
    array = held("reward")
    reward = next(iter(rewards.values()), None) if array is None else columns.numbers(array, named("reward"), faults)
    if reward is None:
        raise ValueError("a layout has a reward")
    array = held("timestamp")
    timestamp = None if array is None else columns.times(array, named("timestamp"), faults)
    array = held("position")
    position = None if array is None else columns.integers(array, named("position"), faults, 0)
    decision = held("decision_id")
    if decision is not None:
        decision = _texts(decision, named("decision_id"), faults)
    array = held("user")
    user = None if array is None else hashing.users(_texts(array, named("user"), faults, optional=True))
    ids, candidates = _candidates(action, held("allowed"), layout, faults)
    context, names = _context(batch, layout, faults)
    faults.settle()
    chunk = Chunk(
        place=place,
        action=ids,
        reward=reward,
        propensity=propensity,
        user=user,
        timestamp=timestamp,
        fingerprint=_fingerprint(batch, decision, position, timestamp, layout),
        position=position,
        candidates=candidates,
        context=context if options.context else np.empty((len(reward), 0)),
        names=names if options.context else [],
        rewards=rewards,
        reward_name="reward" if held("reward") is not None else next(iter(rewards)),
        segments=_segments(position, timestamp),
        index=index,
        unread=[name for name in layout.context if name not in names],
    )
    yield from pieces(chunk, rows)


def _texts(array: pa.Array, column: str, faults: Faults, *, optional: bool = False) -> pa.Array:
    """Ids as text; integers become theirs."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        if not optional:
            faults.refuse(columns.nulls(array), column, array, columns.MISSING)
        plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        coded = plain.dictionary_encode()
        return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))
    return columns.texts(array, column, faults, optional=optional)


def _candidates(
    action: pa.Array, allowed: pa.Array | None, layout: Layout, faults: Faults
) -> tuple[Ids, Ragged | None]:
    ids = columns.ids(action)
    if allowed is None:
        return ids, None
    column = layout.at["allowed"]
    found = lists(allowed, column, faults)
    flat = columns.integers(found.flat, column, entries(found, faults), 0)
    numbers, inverse = np.unique(flat, return_inverse=True)
    names = {name: k for k, name in enumerate(ids.names)}
    code = np.array([names.setdefault(str(number), len(names)) for number in numbers.tolist()], np.intp)[inverse]
    same = code == ids.code[found.rows]
    chosen = np.bincount(found.rows[same], minlength=len(ids.code)) > 0
    faults.refuse(found.known & ~chosen, layout.at["action"], action, f"must be in {column}")
    return Ids(ids.code, list(names)), Ragged(found.start, code, list(names), found.known)


def _context(batch: pa.RecordBatch, layout: Layout, faults: Faults) -> tuple[F64, list[str]]:
    names = [name for name in layout.context if name in batch.schema.names and _numeric(batch[name].type)]
    context: F64 = np.empty((batch.num_rows, len(names)))
    for k, name in enumerate(names):
        context[:, k] = columns.numbers(batch[name], name, faults, optional=True, nan=True)
    return context, names


def _numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def _fingerprint(
    batch: pa.RecordBatch, decision: pa.Array | None, position: I64 | None, timestamp: I64 | None, layout: Layout
) -> NDArray[np.uint64] | None:
    if decision is not None:
        places = np.zeros(len(decision), np.int64) if position is None else position
        return hashing.combine([hashing.column(decision), places.astype(np.uint64)])
    if timestamp is None:
        return None
    return hashing.combine(hashing.column(batch[name]) for name in sorted(batch.schema.names))


def _segments(position: I64 | None, timestamp: I64 | None) -> dict[str, Ids]:
    found = {}
    if position is not None:
        found["position"] = columns.number_ids(position)
    if timestamp is not None:
        found["hour"] = columns.hours(timestamp)
    return found
