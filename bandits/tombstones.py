"""Tombstones: store keys that say until when a retired table or arm no longer counts, and what they have dropped.

Key `x` table arm all (1: the whole table, arm 0); value: the watermark at the retire entry, which its frame's own
append time has moved, and the offset after that frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bandits.cells import CHUNK_KEY, split
from bandits.kernels import retire
from bandits.kernels.fold import HOUR_US
from bandits.kernels.index import Index, make_index, rehash

TOTAL_KEY = np.dtype([("prefix", "S1"), ("table", "<u8")])
TOMBSTONE_KEY = np.dtype([("prefix", "S1"), ("table", "<u8"), ("arm", "<u8"), ("all", "u1")])
TOMBSTONE_VALUE = np.dtype([("retired_us", "<i8"), ("stop", "<i8")])
TOMBSTONE_US = 30 * 24 * HOUR_US + HOUR_US
"""No receipt issued before the retirement can count once the watermark is so far beyond it."""


def stale_keys(values: Mapping[bytes, bytes], next: int) -> list[bytes]:
    """Keys of a store standing at next that a retire entry has dropped, but a crash has left: no part of f(prefix).

    A retire entry's keys go before anything later is folded, so only those of frame next - 1 can be left.
    """
    tombstones = [key for key, value in values.items() if key[0] == ord("x") and _stop(value) == next]
    if not tombstones:
        return []
    retired = tombstone_index(np.frombuffer(b"".join(tombstones), TOMBSTONE_KEY))
    by_kind: dict[int, list[bytes]] = {kind: [] for kind in b"ctn"}
    for key in values:
        if key[0] in by_kind:
            by_kind[key[0]].append(key)
    chunks = np.frombuffer(b"".join(by_kind[ord("c")]), CHUNK_KEY)
    totals = np.frombuffer(b"".join(by_kind[ord("t")]), TOTAL_KEY)
    names = np.frombuffer(b"".join(by_kind[ord("n")]), TOTAL_KEY)
    gone = is_covered(retired, chunks["table"], chunks["arm"])
    left = np.unique(chunks["arm"][~gone])
    return [
        *split(chunks[gone]),
        *split(totals[is_covered(retired, totals["table"], np.zeros(totals.size, np.uint64))]),
        *split(names[~np.isin(names["table"], left)]),
    ]


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
    values["retired_us"], values["stop"] = index.rows[rows, retire.RETIRED_US], index.rows[rows, retire.STOP]
    return values


def tombstones_of(values: Mapping[bytes, bytes]) -> Index:
    """Index of the tombstones in store keys and values."""
    index = tombstone_index(np.frombuffer(b"".join(values), TOMBSTONE_KEY))
    found = np.frombuffer(b"".join(values.values()), TOMBSTONE_VALUE)
    index.rows[: found.size, retire.RETIRED_US] = found["retired_us"]
    index.rows[: found.size, retire.STOP] = found["stop"]
    return index
