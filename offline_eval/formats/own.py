"""The service's own log, version 1, as Parquet or lines of JSON: see bandits.own_log."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline_eval.errors import BadLog
from offline_eval.formats import own_lines, parquet, text
from offline_eval.formats.chunk import Chunk, Place, ReadOptions, Shard
from offline_eval.formats.own_order import LONGEST, Batches, Source, gather, order
from offline_eval.formats.own_rows import OPTIONAL, REQUIRED, SLOTS, chunks, read

BATCH = 16_384
"""Rows of Parquet read at a time."""

Piece = tuple[pa.RecordBatch, Place, int]
"""Rows, where they stand, and how many of the first are only context of the others."""


class OwnLog:
    """A row per decision and served position.

    Rows of a decision may stand anywhere in the file: where they are not sorted as exported, and a decision's rows do
    not follow each other either, the columns that join them are held in memory, up to own_order.LARGEST_GATHERED.
    """

    NAME = "own"
    SUFFIXES: tuple[str, ...] = (".parquet", ".jsonl", ".json")
    FIXED_ACTIONS = False

    def recognises(self, path: Path) -> bool:
        if text.suffix(path) == ".parquet":
            return {"decision_id", "item", "propensity"} <= set(parquet.names(path))
        line = text.first_line(path)
        return b'"decision_id"' in line and b'"propensity"' in line

    def shards(self, path: Path, first: int) -> list[Shard]:
        whole = [Shard(self.NAME, path, first)]
        if text.suffix(path) != ".parquet":
            return whole
        parts = parquet.shards(self.NAME, path, first)
        if len(parts) == 1:
            return whole
        there = _columns(path, ReadOptions())
        return parts if order(_source(path, None), there).exported else whole

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        there, source = _columns(shard.path, options), _source(shard.path, shard.part)
        joined = None
        if shard.part is None and not order(source, there).together:
            joined = gather(source, there, str(shard.path), options.graphs)
        pieces = _pieces(source(there), [] if shard.part is None else _before(shard, there))
        index = None
        for batch, place, context in pieces:
            if index is None:
                index = int(place.number[context]) if place.kind == "row" else 0
            numbers = np.arange(index - context, index - context + batch.num_rows)
            found = read(batch, place, numbers, joined, index - context, options.graphs)
            yield from chunks(found, context, rows, options)
            index += batch.num_rows - context


def _columns(path: Path, options: ReadOptions) -> list[str]:
    slots = SLOTS if options.slots else SLOTS[:1] if options.graphs else ()
    wanted = [*REQUIRED, *OPTIONAL, *slots]
    if text.suffix(path) != ".parquet":
        return wanted
    there = parquet.names(path)
    parquet.require(path, there, REQUIRED)
    if options.graphs and "graph" in there:
        parquet.require(path, there, SLOTS[:1], ", by which graphs give candidates")
    return [name for name in wanted if name in there]


def _source(path: Path, part: tuple[int, int] | None) -> Source:
    if text.suffix(path) == ".parquet":
        return partial(parquet.batches, path, part, BATCH)
    return partial(own_lines.batches, path)


def _pieces(batches: Batches, before: list[tuple[pa.RecordBatch, Place]]) -> Iterator[Piece]:
    """Batches cut between decisions. Raises BadLog, after the rows before the fault."""
    held = before
    context = sum(batch.num_rows for batch, _ in before)
    fault: BadLog | None = None
    while fault is None:
        try:
            batch, place = next(batches)
        except StopIteration:
            break
        except BadLog as found:
            fault = found
            break
        cut = _last_run(batch)
        if cut or not held:
            whole = [*held, (batch.slice(0, cut), _slice(place, 0, cut))] if cut else held
            if sum(one.num_rows for one, _ in whole) > context:
                yield *_join(whole), context
                context = 0
            held = [(batch.slice(cut), _slice(place, cut, batch.num_rows))]
        elif _continues(held[-1][0], batch):
            held.append((batch, place))
        else:
            if sum(one.num_rows for one, _ in held) > context:
                yield *_join(held), context
            held, context = [(batch, place)], 0
        if sum(one.num_rows for one, _ in held) > LONGEST:
            fault = _too_long(held)
            break
    if sum(one.num_rows for one, _ in held) > context:
        yield *_join(held), context
    if fault is not None:
        raise fault


def _too_long(held: list[tuple[pa.RecordBatch, Place]]) -> BadLog:
    batch, place = held[0]
    rule = f"must have at most {LONGEST:,} rows that follow each other"
    return BadLog("decision_id", batch["decision_id"][0].as_py(), rule, place=place.of(0))


def _last_run(batch: pa.RecordBatch) -> int:
    """Where the last decision's rows start."""
    ids = batch["decision_id"]
    unlike = pc.fill_null(pc.not_equal(ids, ids[-1]), True).to_numpy(zero_copy_only=False)
    return int(np.flatnonzero(unlike)[-1]) + 1 if unlike.any() and ids[-1].is_valid else 0


def _continues(one: pa.RecordBatch, other: pa.RecordBatch) -> bool:
    return bool(one["decision_id"][-1].as_py() == other["decision_id"][0].as_py())


def _slice(place: Place, start: int, stop: int) -> Place:
    return Place(place.file, place.kind, place.number[start:stop])


def _join(held: list[tuple[pa.RecordBatch, Place]]) -> tuple[pa.RecordBatch, Place]:
    if len(held) == 1:
        return held[0]
    numbers = np.concatenate([place.number for _, place in held])
    return pa.concat_batches([batch for batch, _ in held]), Place(held[0][1].file, held[0][1].kind, numbers)


def _before(shard: Shard, there: list[str]) -> list[tuple[pa.RecordBatch, Place]]:
    """Rows before a part that belong to its first row's decision."""
    part = shard.part
    assert part is not None
    head = next(parquet.batches(shard.path, part, 1, ["decision_id"]), None)
    found: list[tuple[pa.RecordBatch, Place]] = []
    group = part[0] - 1
    while head is not None and group >= 0:
        batches = list(parquet.batches(shard.path, (group, group + 1), BATCH, there))
        mine = [(batch, place) for batch, place in batches if _continues(batch, head[0])]
        if batches and not mine:
            break
        for batch, place in reversed(mine):
            same = pc.fill_null(pc.equal(batch["decision_id"], head[0]["decision_id"][0]), False)
            start = batch.num_rows - int(same.to_numpy(zero_copy_only=False)[::-1].cumprod().sum())
            found.insert(0, (batch.slice(start), _slice(place, start, batch.num_rows)))
            if start:
                return found
        group -= 1
    return found
