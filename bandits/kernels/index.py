"""An open-addressing index from a three-part key to a row number: linear probing, rows never move."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit


class Index(NamedTuple):
    """Rows of R keys and the hash slots that find them.

    slots  int32   (2**b,)  row number, or -1
    rows   uint64  (R, W)   a key in the first three columns; the others are their owner's
    used   int64   (1,)     rows in use
    """

    slots: Any
    rows: Any
    used: Any


KEY_COLUMNS = 3


def make_index(capacity: int, columns: int = 4) -> Index:
    """An empty index for capacity rows, at most half of its slots used."""
    size = 1 << max(3, (2 * capacity - 1).bit_length())
    return Index(np.full(size, -1, np.int32), np.zeros((capacity, columns), np.uint64), np.zeros(1, np.int64))


def grown(index: Index, capacity: int) -> Index:
    """The same rows in an index with room for capacity rows."""
    n = int(index.used[0])
    larger = make_index(capacity, index.rows.shape[1])
    larger.rows[:n] = index.rows[:n]
    larger.used[0] = n
    rehash(larger)
    return larger


@njit(cache=True, nogil=True)
def hash3(a: Any, b: Any, c: Any) -> Any:
    """A 64-bit mix of a key whose parts a and b are mostly hashes already (ours, after murmur3's finaliser)."""
    h = a ^ (b * np.uint64(0x9E3779B97F4A7C15)) ^ (c * np.uint64(0xC2B2AE3D27D4EB4F))
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    return h


@njit(cache=True, nogil=True)
def find(index: Any, a: Any, b: Any, c: Any) -> Any:
    """Row of a key, or -1."""
    last = np.uint64(index.slots.size - 1)
    at = hash3(a, b, c) & last
    while True:
        row = index.slots[at]
        if row < 0:
            return -1
        if index.rows[row, 0] == a and index.rows[row, 1] == b and index.rows[row, 2] == c:
            return row
        at = (at + np.uint64(1)) & last


@njit(cache=True, nogil=True)
def insert(index: Any, a: Any, b: Any, c: Any) -> Any:
    """Row of a key that is not there yet, its other columns 0; the caller keeps room for it."""
    last = np.uint64(index.slots.size - 1)
    at = hash3(a, b, c) & last
    while index.slots[at] >= 0:
        at = (at + np.uint64(1)) & last
    row = index.used[0]
    index.slots[at] = row
    index.rows[row, :] = 0
    index.rows[row, 0] = a
    index.rows[row, 1] = b
    index.rows[row, 2] = c
    index.used[0] = row + 1
    return row


@njit(cache=True, nogil=True)
def rehash(index: Any) -> None:
    """Fill the hash slots from the rows."""
    last = np.uint64(index.slots.size - 1)
    index.slots[:] = -1
    for row in range(index.used[0]):
        at = hash3(index.rows[row, 0], index.rows[row, 1], index.rows[row, 2]) & last
        while index.slots[at] >= 0:
            at = (at + np.uint64(1)) & last
        index.slots[at] = row
