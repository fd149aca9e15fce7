"""State of one partition as a function of its log: the mirror that the fold owns, and its store keys.

Keys, all but `m` made here: c cells of a chunk, t totals of a table, d dedupe bits, b ordinals of a boot, n id text,
x tombstone of a retired table or arm (see tombstones).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bandits.cells import CellTable, decode, longer, split
from bandits.kernels import fold as kernel
from bandits.kernels import retire
from bandits.kernels.chunks import N_CHANGED
from bandits.kernels.index import Index, find, grown, insert, make_index, rehash
from bandits.kernels.parse import MAX_CONTEXTS
from bandits.records import FOLD_VERSION, FRAME, Retire, decode_retire, frame_append_us, frame_checksum
from bandits.tombstones import (
    TOMBSTONE_KEY,
    TOTAL_KEY,
    is_covered,
    keys_of,
    tombstone_index,
    tombstones_of,
    values_of,
)
from bandits.tombstones import stale_keys as stale_keys

DEDUPE_KEY = np.dtype([("prefix", "S1"), ("boot", "<u8"), ("hour_chunk", "<u8")])
DEDUPE_VALUE = np.dtype([("expiry", "<i8"), ("bits", "<u8", 4)])
_TOMBSTONES = 64


class Meta(msgspec.Struct, array_like=True, kw_only=True):
    """Value of key `m`: where a partition stands.

    next, checksum and watermark are f(log prefix), as is topic; token, group, halt and ring are not.
    checksum   of frame next - 1; 0 before the first
    watermark  largest append time folded, UTC microseconds
    ring       number of the newest entry of the ring of changed keys
    """

    next: int = 0
    checksum: int = 0
    token: bytes = b""
    group: str = ""
    halt: str = ""
    topic: bytes = b""
    fold_version: int = FOLD_VERSION
    watermark: int = 0
    ring: int = 0


encode_meta = msgspec.msgpack.Encoder().encode
decode_meta = msgspec.msgpack.Decoder(Meta).decode


class Mirror:
    """All that one partition has learned, and the dedupe state that makes each event count once."""

    def __init__(self) -> None:
        rows = 256
        self._cells = CellTable()
        self._need = np.zeros(2, np.int64)
        self._names_sent = 0
        self._lost_expired = 0
        self._dropped: dict[bytes, None] = {}
        self._state = kernel.State(
            cells=self._cells.arrays,
            totals=make_index(64),
            total=np.zeros((64, 2), np.int64),
            total_changed=np.zeros(64, np.uint8),
            dedupe=make_index(rows),
            bits=np.zeros((rows, 4), np.uint64),
            expiry=np.zeros(rows, np.int64),
            dedupe_changed=np.zeros(rows, np.uint8),
            boots=make_index(64),
            boot=np.zeros((64, 3), np.int64),
            boot_changed=np.zeros(64, np.uint8),
            names=make_index(1024),
            name=np.zeros((1024, 2), np.int64),
            text=np.zeros(1 << 16, np.uint8),
            retired=make_index(_TOMBSTONES, retire.TOMBSTONE_COLUMNS),
            clock=np.zeros(3, np.int64),
            counts=np.zeros(len(kernel.COUNTERS), np.int64),
            contexts=np.zeros(MAX_CONTEXTS, np.int64),
        )

    @property
    def watermark(self) -> int:
        """Largest append time folded, UTC microseconds."""
        return int(self._state.clock[0])

    @property
    def counts(self) -> dict[str, int]:
        """What the fold has met since this mirror was made; see kernels.fold.COUNTERS."""
        counts = dict(zip(kernel.COUNTERS, self._state.counts.tolist(), strict=True))
        counts["saturated"] += self._cells.saturated
        return counts

    @property
    def lost(self) -> int:
        """Decisions below each boot's highest logged ordinal of which nothing has arrived, expired boots included."""
        return self._lost_expired + self._lost(slice(int(self._state.boots.used[0])))

    def _lost(self, rows: slice | npt.NDArray[np.int64]) -> int:
        return int((self._state.boot[rows, 1] + 1 - self._state.boot[rows, 0]).sum())

    @property
    def nbytes(self) -> int:
        """Memory of the cells, bytes."""
        return self._cells.nbytes

    @property
    def dedupe_chunks(self) -> int:
        """Chunks of dedupe bits, of 32 bytes each."""
        return int(self._state.dedupe.used[0])

    @property
    def dedupe_nbytes(self) -> int:
        """Memory of the dedupe bits with what finds them, bytes; what is reserved beyond it has not been touched."""
        s = self._state
        row = sum(a.itemsize * a[0].size for a in (s.dedupe.rows, s.bits)) + s.expiry.itemsize + 1
        return int(row * self.dedupe_chunks + s.dedupe.slots.nbytes)

    def fold(self, frame: bytes, append_us: int, stop: int | None = None) -> int:
        """Fold one frame and return its checksum; RecordError, changing nothing, where its bytes are damaged.

        stop   offset after the frame, which a retire frame needs
        """
        checksum = frame_checksum(frame)
        entry = decode_retire(frame)
        if entry is not None and stop is None:
            raise ValueError("a retire frame needs the offset after it")
        clock = self._state.clock
        clock[0] = max(int(clock[0]), frame_append_us(frame, append_us))
        if entry is not None and stop is not None:
            self._retire(entry, stop)
            return checksum
        data, at = np.frombuffer(frame, np.uint8), FRAME.size
        while True:
            at = kernel.fold_entries(self._state, data, at, self._need)
            if at == kernel.DONE:
                return checksum
            self._grow(int(self._need[0]), int(self._need[1]))

    def _retire(self, entry: Retire, stop: int) -> None:
        """Put up tombstones, and drop the chunks and totals that they cover and the names that no chunk needs."""
        keys = np.zeros(len(entry.rows), TOMBSTONE_KEY)
        keys["table"] = [row.table for row in entry.rows]
        keys["arm"], keys["all"] = [row.arm or 0 for row in entry.rows], [row.arm is None for row in entry.rows]
        keys = np.unique(keys)
        self._entomb(keys, stop, entry.until_us)
        now = tombstone_index(keys)
        chunks = self._cells.keys(np.arange(self._cells.n_chunks, dtype=np.int32))
        gone = is_covered(now, chunks["table"], chunks["arm"])
        self._drop(split(chunks[gone]))
        self._cells = self._cells.kept(np.flatnonzero(~gone).astype(np.int32))
        self._state = s = self._state._replace(cells=self._cells.arrays)
        tables = s.totals.rows[: s.totals.used[0], 0]
        gone = is_covered(now, tables, np.zeros(tables.size, np.uint64))
        self._drop(split(_keys(TOTAL_KEY, b"t", s.totals, np.flatnonzero(gone))))
        _keep(s.totals, np.flatnonzero(~gone), (s.total, s.total_changed))
        self._drop_names()

    def _entomb(self, keys: npt.NDArray[np.void], stop: int, until_us: int) -> None:
        s = self._state
        if len(s.retired.rows) < int(s.retired.used[0]) + keys.size:
            self._state = s = s._replace(retired=grown(s.retired, 2 * len(s.retired.rows) + keys.size))
        for _, *key in keys.tolist():
            parts = [np.uint64(part) for part in key]
            row = find(s.retired, *parts)
            if row < 0:
                row = insert(s.retired, *parts)
            # An earlier retirement may have been of receipts that live longer.
            last_us = max(until_us, int(s.retired.rows[row, retire.UNTIL_US]))
            s.retired.rows[row, retire.RETIRED_US :] = self.watermark, stop, last_us, 1

    def _drop_names(self) -> None:
        s = self._state
        used = int(s.names.used[0])
        kept = np.isin(s.names.rows[:used, 0], s.cells.keys.rows[: self._cells.n_chunks, 1])
        self._drop(split(_keys(TOTAL_KEY, b"n", s.names, np.flatnonzero(~kept))))
        spans = s.name[:used][kept]
        text = [s.text[start:stop].tobytes() for start, stop in spans.tolist()]
        self._names_sent = int(np.count_nonzero(kept[: self._names_sent]))
        _keep(s.names, np.flatnonzero(kept), (s.name,))
        stops = np.cumsum(spans[:, 1] - spans[:, 0])
        s.name[: len(text), 0], s.name[: len(text), 1] = stops - (spans[:, 1] - spans[:, 0]), stops
        joined = np.frombuffer(b"".join(text), np.uint8)
        s.text[: joined.size] = joined
        s.clock[1] = joined.size

    def _drop(self, keys: Iterable[bytes]) -> None:
        self._dropped |= dict.fromkeys(keys)

    def take_dropped(self) -> list[bytes]:
        """Keys that retire entries dropped since the last call and that take_changes has not brought since."""
        dropped, self._dropped = list(self._dropped), {}
        return dropped

    @property
    def tombstones(self) -> int:
        """Retired tables and arms whose receipts may still be out."""
        return int(self._state.retired.used[0])

    def _grow(self, cells: int, text: int) -> None:
        s = self._state
        updates: dict[str, Any] = {"cells": self._cells.reserve(cells)}
        for index, extra, columns in (
            ("totals", 1, ("total", "total_changed")),
            ("dedupe", 4, ("bits", "expiry", "dedupe_changed")),
            ("boots", 1, ("boot", "boot_changed")),
            ("names", cells + 101, ("name",)),
        ):
            old: Index = getattr(s, index)
            if len(old.rows) - int(old.used[0]) < extra:
                rows = max(2 * len(old.rows), int(old.used[0]) + extra)
                updates[index] = grown(old, rows)
                updates |= {column: longer(getattr(s, column), rows) for column in columns}
        if s.text.size - int(s.clock[1]) < text:
            updates["text"] = longer(s.text, max(2 * s.text.size, int(s.clock[1]) + text))
        self._state = s._replace(**updates)

    @property
    def n_changed(self) -> int:
        """Keys that changed since the last take_changes."""
        s = self._state
        names = int(s.names.used[0]) - self._names_sent
        few = np.count_nonzero(s.total_changed[: s.totals.used[0]]) + np.count_nonzero(
            s.boot_changed[: s.boots.used[0]]
        )
        tombstones = np.count_nonzero(s.retired.rows[: s.retired.used[0], retire.CHANGED])
        return int(self._cells.arrays.state[N_CHANGED]) + int(s.clock[2]) + names + int(few) + int(tombstones)

    def take_changes(self) -> dict[bytes, bytes]:
        """Absolute values of all keys that changed since the last call; cells first."""
        s = self._state
        values = self._cells.values(self._cells.take_changed())
        rows = np.flatnonzero(s.total_changed[: s.totals.used[0]])
        s.total_changed[rows] = 0
        values |= zip(split(_keys(TOTAL_KEY, b"t", s.totals, rows)), _split_rows(s.total[rows]), strict=True)
        rows = np.flatnonzero(s.dedupe_changed[: s.dedupe.used[0]])
        s.dedupe_changed[rows] = 0
        s.clock[2] = 0
        values |= zip(split(_keys(DEDUPE_KEY, b"d", s.dedupe, rows)), self._dedupe_values(rows), strict=True)
        rows = np.flatnonzero(s.boot_changed[: s.boots.used[0]])
        s.boot_changed[rows] = 0
        values |= zip(split(_keys(TOTAL_KEY, b"b", s.boots, rows)), _split_rows(s.boot[rows]), strict=True)
        values |= self._take_names() | self._take_tombstones()
        if self._dropped:
            self._dropped = {key: None for key in self._dropped if key not in values}
        return values

    def _take_tombstones(self) -> dict[bytes, bytes]:
        index = self._state.retired
        rows = np.flatnonzero(index.rows[: index.used[0], retire.CHANGED])
        index.rows[rows, retire.CHANGED] = 0
        return dict(zip(split(keys_of(index, rows)), split(values_of(index, rows)), strict=True))

    def _take_names(self) -> dict[bytes, bytes]:
        """Names that came since the last call; rows only ever follow each other, and so do their texts."""
        s, first = self._state, self._names_sent
        self._names_sent = int(s.names.used[0])
        rows = np.arange(first, self._names_sent)
        if not rows.size:
            return {}
        spans = s.name[first : self._names_sent]
        base = int(spans[0, 0])
        text = s.text[base : int(spans[-1, 1])].tobytes()
        texts = [text[start:stop] for start, stop in (spans - base).tolist()]
        return dict(zip(split(_keys(TOTAL_KEY, b"n", s.names, rows)), texts, strict=True))

    def _dedupe_values(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        values = np.empty(rows.size, DEDUPE_VALUE)
        values["expiry"], values["bits"] = self._state.expiry[rows], self._state.bits[rows]
        return split(values)

    def take_expired(self, watermark: int) -> list[bytes]:
        """Forget dedupe bits, boots and tombstones that no entry can need at this watermark; returns their keys."""
        s = self._state
        limit = watermark - kernel.HOUR_US
        n = int(s.dedupe.used[0])
        old = np.flatnonzero(s.expiry[:n] < limit)
        keys = split(_keys(DEDUPE_KEY, b"d", s.dedupe, old))
        _keep(s.dedupe, np.flatnonzero(s.expiry[:n] >= limit), (s.bits, s.expiry, s.dedupe_changed))
        n = int(s.boots.used[0])
        old = np.flatnonzero(s.boot[:n, 2] < limit)
        self._lost_expired += self._lost(old)
        keys += split(_keys(TOTAL_KEY, b"b", s.boots, old))
        _keep(s.boots, np.flatnonzero(s.boot[:n, 2] >= limit), (s.boot, s.boot_changed))
        old = s.retired.rows[: s.retired.used[0], retire.UNTIL_US].astype(np.int64) < limit
        keys += split(keys_of(s.retired, np.flatnonzero(old)))
        _keep(s.retired, np.flatnonzero(~old), ())
        return keys

    def expiries(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """When each row of dedupe bits, and of boots, expires; folds append rows and only ever raise what is there."""
        s = self._state
        return s.expiry[: s.dedupe.used[0]], s.boot[: s.boots.used[0], 2]

    def expiring_keys(self, kind: int, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """Store keys of some rows of expiries()[kind]."""
        s = self._state
        return split(_keys(TOTAL_KEY, b"b", s.boots, rows) if kind else _keys(DEDUPE_KEY, b"d", s.dedupe, rows))

    def load(self, values: Iterable[tuple[bytes, bytes]], watermark: int) -> None:
        """Fill an empty mirror from a store's keys; others are passed over. ValueError where one is cut."""
        self._state.clock[0] = watermark
        by_kind: dict[int, dict[bytes, bytes]] = {}
        for key, value in values:
            by_kind.setdefault(key[0], {})[key] = value
        chunks = decode(by_kind.get(ord("c"), {}))
        chunks.check()
        self._cells.replace(chunks, CellTable())
        self._cells.mark_clean()
        self._grow(0, 0)
        self._load_rows("totals", by_kind.get(ord("t"), {}), TOTAL_KEY, ("total", "total_changed"))
        self._load_rows("dedupe", by_kind.get(ord("d"), {}), DEDUPE_KEY, ("bits", "expiry", "dedupe_changed"))
        self._load_rows("boots", by_kind.get(ord("b"), {}), TOTAL_KEY, ("boot", "boot_changed"))
        self._state = self._state._replace(retired=tombstones_of(by_kind.get(ord("x"), {})))
        names = by_kind.get(ord("n"), {})
        self._grow(len(names), sum(map(len, names.values())))
        s = self._state
        for key, text in names.items():
            row = insert(s.names, np.uint64(int.from_bytes(key[1:], "little")), np.uint64(0), np.uint64(0))
            start = int(s.clock[1])
            s.name[row] = start, start + len(text)
            s.text[start : start + len(text)] = np.frombuffer(text, np.uint8)
            s.clock[1] = start + len(text)
        self._names_sent = len(names)

    def _load_rows(
        self, index: str, values: Mapping[bytes, bytes], key: np.dtype[Any], columns: tuple[str, ...]
    ) -> None:
        keys = np.frombuffer(b"".join(values), key)
        rows = max(256, 2 * keys.size)
        table = make_index(rows)
        table.rows[: keys.size, 0] = keys[key.names[1]] if key.names else 0
        if key is DEDUPE_KEY:
            table.rows[: keys.size, 1] = keys["hour_chunk"]
        table.used[0] = keys.size
        rehash(table)
        updates: dict[str, Any] = {column: longer(getattr(self._state, column)[:0], rows) for column in columns}
        joined = b"".join(values.values())
        if key is DEDUPE_KEY:
            loaded = np.frombuffer(joined, DEDUPE_VALUE)
            updates["bits"][: keys.size], updates["expiry"][: keys.size] = loaded["bits"], loaded["expiry"]
        elif keys.size:
            updates[columns[0]][: keys.size] = np.frombuffer(joined, np.int64).reshape(keys.size, -1)
        updates[index] = table
        self._state = self._state._replace(**updates)


def _keys(dtype: np.dtype[Any], prefix: bytes, index: Index, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    keys = np.empty(rows.size, dtype)
    keys["prefix"] = prefix
    keys[(dtype.names or ())[1]] = index.rows[rows, 0]
    if dtype is DEDUPE_KEY:
        keys["hour_chunk"] = index.rows[rows, 1]
    return keys


def _split_rows(rows: npt.NDArray[np.int64]) -> list[bytes]:
    size, data = 8 * rows.shape[1], rows.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


def _keep(index: Index, rows: npt.NDArray[np.int64], columns: tuple[npt.NDArray[Any], ...]) -> None:
    if rows.size == int(index.used[0]):
        return
    for array in (index.rows, *columns):
        array[: rows.size] = array[rows]
    index.used[0] = rows.size
    rehash(index)
