"""Tombstones: store keys that say until when a retired table or arm no longer counts, and what they have dropped.

Key `x` table arm all (1: the whole table, arm 0); value: the watermark at the retire entry, which its frame's own
append time has moved, the offset after that frame, and when the last receipt issued until then has expired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bandits.cells import CHUNK_KEY, split
from bandits.kernels import retire
from bandits.kernels.fold import HOUR_US
from bandits.kernels.index import Index, make_index, rehash

TOTAL_KEY = np.dtype([("prefix", "S1"), ("table", "<u8")])
TOMBSTONE_KEY = np.dtype([("prefix", "S1"), ("table", "<u8"), ("arm", "<u8"), ("all", "u1")])
TOMBSTONE_VALUE = np.dtype([("retired_us", "<i8"), ("stop", "<i8"), ("until_us", "<i8")])
_COLUMNS = (("retired_us", retire.RETIRED_US), ("stop", retire.STOP), ("until_us", retire.UNTIL_US))


def stale_keys(values: Mapping[bytes, bytes], next: int) -> list[bytes]:
    """Keys of a store standing at next that a retire entry has dropped, but a crash has left: no part of f(prefix).

    A retire entry's keys go before anything later is folded, so only those of frame next - 1 can be left.
    """
    size, tombstone = TOMBSTONE_VALUE.itemsize, TOMBSTONE_KEY.itemsize
    tombstones = [
        key
        for key, value in values.items()
        if key[:1] == b"x" and len(key) == tombstone and len(value) == size and _stop(value) == next
    ]
    if not tombstones:
        return []
    retired = tombstone_index(np.frombuffer(b"".join(tombstones), TOMBSTONE_KEY))
    chunks = _of_kind(values, b"c", CHUNK_KEY)
    totals, names = _of_kind(values, b"t", TOTAL_KEY), _of_kind(values, b"n", TOTAL_KEY)
    gone = is_covered(retired, chunks["table"], chunks["arm"])
    left = np.unique(chunks["arm"][~gone])
    return [
        *split(chunks[gone]),
        *split(totals[is_covered(retired, totals["table"], np.zeros(totals.size, np.uint64))]),
        *split(names[~np.isin(names["table"], left)]),
    ]


def tombstone_expired(value: bytes, watermark: int) -> bool:
    """Whether a tombstone may go at this watermark: whatever it keeps from counting has expired by an hour."""
    return int.from_bytes(value[16:24], "little", signed=True) < watermark - HOUR_US


def stands_after_retirement(values: Mapping[bytes, bytes], next: int) -> bool:
    """Whether the last frame folded into a store that stands at next was a retire frame."""
    return any(key[:1] == b"x" and _stop(value) == next for key, value in values.items())


def _of_kind(keys: Iterable[bytes], prefix: bytes, kind: np.dtype[Any]) -> npt.NDArray[np.void]:
    """Those keys that are of a kind; damaged ones, of another length, are of none."""
    found = [key for key in keys if key[:1] == prefix and len(key) == kind.itemsize]
    return np.frombuffer(b"".join(found), kind)


def _stop(value: bytes) -> int:
    return int.from_bytes(value[8:16], "little", signed=True)


def tombstone_index(keys: npt.NDArray[np.void]) -> Index:
    """Index of tombstones, keys of TOMBSTONE_KEY, each once."""
    index = make_index(max(1, keys.size), retire.TOMBSTONE_COLUMNS)
    index.rows[: keys.size, 0], index.rows[: keys.size, 1] = keys["table"], keys["arm"]
    index.rows[: keys.size, 2] = keys["all"]
    index.used[0] = keys.size
    rehash(index)
    return index


def is_covered(retired: Index, table: npt.NDArray[Any], arm: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether any tombstone covers each (table, arm), whatever its time."""
    out = np.zeros(table.size, np.bool_)
    retire.covered(retired, table.astype(np.uint64), arm.astype(np.uint64), out)
    return out


def keys_of(index: Index, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Store keys of rows of an index of tombstones."""
    keys = np.empty(rows.size, TOMBSTONE_KEY)
    keys["prefix"] = b"x"
    keys["table"], keys["arm"], keys["all"] = index.rows[rows, 0], index.rows[rows, 1], index.rows[rows, 2]
    return keys


def values_of(index: Index, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Store values of rows of an index of tombstones."""
    values = np.empty(rows.size, TOMBSTONE_VALUE)
    for name, column in _COLUMNS:
        values[name] = index.rows[rows, column]
    return values


def tombstones_of(values: Mapping[bytes, bytes]) -> Index:
    """Index of the tombstones in store keys and values."""
    index = tombstone_index(np.frombuffer(b"".join(values), TOMBSTONE_KEY))
    found = np.frombuffer(b"".join(values.values()), TOMBSTONE_VALUE)
    if found.size != len(values):
        raise ValueError(f"{len(values)} tombstones have values for {found.size}")
    for name, column in _COLUMNS:
        index.rows[: found.size, column] = found[name]
    return index
