"""Vowpal Wabbit's dsjson: contextual bandits (CB), and with slots (CCB)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandits.arrays import I64
from offline_eval.errors import BadLog
from offline_eval.formats import columns as checked
from offline_eval.formats import csv_text, hashing, text
from offline_eval.formats.chunk import Chunk, Place, Ragged, ReadOptions, Shard
from offline_eval.formats.columns import Faults
from offline_eval.formats.dsjson_line import Line, Row, features, rows_of
from offline_eval.formats.lists import dense
from offline_eval.formats.obd import pieces
from offline_eval.formats.own_lines import decoded


class DsJson:
    """A row per line, or per slot of a line with slots; actions by `_tag`, else by their 1-based number.

    A line weighs 1 / (1 - pdrop); one without `_label_cost` has no outcome and counts the default reward; lines with
    `_skipLearn` are left out. Context: features of all actions together, `namespace.name` or `namespace.name=text`.
    """

    NAME = "dsjson"
    SUFFIXES: tuple[str, ...] = (".dsjson", ".json", ".jsonl")
    FIXED_ACTIONS = False

    def recognises(self, path: Path) -> bool:
        line = text.first_line(path)
        return text.suffix(path) == ".dsjson" or (b'"c"' in line and b'"_multi"' in line)

    def shards(self, path: Path, first: int) -> list[Shard]:
        return [Shard(self.NAME, path, first)]

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        first = 0
        for lines, numbers, fault in decoded(shard.path, Line):
            found: list[Row] = []
            left_out = 0
            try:
                for line, number in zip(lines, numbers, strict=True):
                    if line.skip_learn:
                        left_out += 1 if line.outcomes is None else len(line.outcomes)
                    else:
                        found += rows_of(line, number, first + left_out + len(found), options.default_reward)
            except BadLog as bad:
                fault = bad.at(f"{shard.path}: line {numbers[lines.index(line)]}")
            if found or left_out:
                chunk = _chunk(str(shard.path), found, options)
                yield from pieces(replace(chunk, left_out={"_skipLearn": left_out} if left_out else {}), rows)
            if fault is not None:
                raise fault
            first += left_out + len(found)


def _chunk(path: str, rows: list[Row], options: ReadOptions) -> Chunk:
    place = Place(path, "line", np.array([row.line for row in rows], np.int64))
    action = checked.ids(pa.array([row.action for row in rows], pa.string()))
    position = np.array([row.position for row in rows], np.int64)
    timestamp = _timestamps(rows, place)
    width = [len(row.candidates) for row in rows]
    flat = checked.ids(pa.array([one for row in rows for one in row.candidates], pa.string()))
    named = [(i, name, value) for i, row in enumerate(rows) for name, value in features(row)] if options.context else []
    names = checked.ids(pa.array([name for _, name, _ in named], pa.string()))
    numbers = np.array([value for _, _, value in named], np.float64)
    context = dense(np.array([i for i, _, _ in named], np.int64), names.code, numbers, len(rows), len(names.names))
    segments = {"position": checked.number_ids(position)}
    if timestamp is not None:
        segments["hour"] = checked.hours(timestamp)
    return Chunk(
        place=place,
        action=action,
        reward=np.array([row.reward for row in rows], np.float64),
        propensity=np.array([row.propensity for row in rows], np.float64),
        count=np.array([row.count for row in rows], np.float64),
        timestamp=timestamp,
        fingerprint=_fingerprint(rows, position),
        position=position,
        candidates=Ragged(
            np.concatenate([[0], np.cumsum(width)]).astype(np.int64),
            flat.code,
            flat.names,
            np.ones(len(rows), bool),
            np.array([value for row in rows for value in row.law], np.float64),
        ),
        context=context,
        names=[str(name) for name in names.names],
        segments=segments,
        index=np.array([row.index for row in rows], np.int64),
    )


def _timestamps(rows: list[Row], place: Place) -> I64 | None:
    given = pa.array([row.of.timestamp for row in rows], pa.string())
    if given.null_count:
        return None
    faults = Faults(place)
    ticks = pc.replace_substring_regex(given, r"(\.\d{6})\d+", r"\1")
    found = csv_text.times(ticks, "Timestamp", faults)
    faults.settle()
    values: I64 = found.to_numpy(zero_copy_only=False)
    return values


def _fingerprint(rows: list[Row], position: I64) -> hashing.U64 | None:
    """Of the event's id and the slot, or of the whole line where it has a time; None where a line has neither."""
    if any(row.of.event_id is None and row.of.timestamp is None for row in rows):
        return None
    keys = pa.array([row.of.key for row in rows], pa.binary())
    return hashing.combine([hashing.column(keys), position.astype(np.uint64)])
