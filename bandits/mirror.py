"""State of one partition as a function of its log: the mirror that the fold owns, and its store keys.

Keys, all but `m` made here: c cells of a chunk, t totals of a table, d dedupe bits, b ordinals of a boot, n id text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bandits.cells import CellTable, decode, longer, split
from bandits.kernels import fold as kernel
from bandits.kernels.chunks import N_CHANGED
from bandits.kernels.index import Index, grown, insert, make_index, rehash
from bandits.records import FOLD_VERSION, FRAME, frame_append_us, frame_checksum

TOTAL_KEY = np.dtype([("prefix", "S1"), ("table", "<u8")])
DEDUPE_KEY = np.dtype([("prefix", "S1"), ("boot", "<u8"), ("hour_chunk", "<u8")])
DEDUPE_VALUE = np.dtype([("expiry", "<i8"), ("bits", "<u8", 4)])


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
            clock=np.zeros(3, np.int64),
            counts=np.zeros(len(kernel.COUNTERS), np.int64),
            contexts=np.zeros(kernel.MAX_CONTEXTS, np.int64),
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
        """Memory of the cells and of the dedupe bits, bytes."""
        s = self._state
        return int(self._cells.nbytes + s.bits.nbytes + s.expiry.nbytes + sum(a.nbytes for a in s.dedupe))

    def fold(self, frame: bytes, append_us: int) -> int:
        """Fold one frame and return its checksum; RecordError, changing nothing, where its bytes are damaged."""
        checksum = frame_checksum(frame)
        clock = self._state.clock
        clock[0] = max(int(clock[0]), frame_append_us(frame, append_us))
        data, at = np.frombuffer(frame, np.uint8), FRAME.size
        while True:
            at = kernel.fold_entries(self._state, data, at, self._need)
            if at == kernel.DONE:
                return checksum
            self._grow(int(self._need[0]), int(self._need[1]))

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
        return int(self._cells.arrays.state[N_CHANGED]) + int(s.clock[2]) + names + int(few)

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
        return values | self._take_names()

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
        """Forget dedupe bits and boots that no entry can need at this watermark; returns their keys."""
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
        return keys

    def load(self, values: Iterable[tuple[bytes, bytes]], watermark: int) -> None:
        """Fill an empty mirror from a store's keys; keys of other kinds are passed over."""
        self._state.clock[0] = watermark
        by_kind: dict[int, dict[bytes, bytes]] = {}
        for key, value in values:
            by_kind.setdefault(key[0], {})[key] = value
        self._cells.replace(decode(by_kind.get(ord("c"), {})), CellTable())
        self._cells.mark_clean()
        self._grow(0, 0)
        self._load_rows("totals", by_kind.get(ord("t"), {}), TOTAL_KEY, ("total", "total_changed"))
        self._load_rows("dedupe", by_kind.get(ord("d"), {}), DEDUPE_KEY, ("bits", "expiry", "dedupe_changed"))
        self._load_rows("boots", by_kind.get(ord("b"), {}), TOTAL_KEY, ("boot", "boot_changed"))
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
