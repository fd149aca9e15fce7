"""An open-addressing index from a three-part key to a row number: linear probing, rows never move."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit


class Index(NamedTuple):
    """Keys of R rows and the hash slots that find them.

    slots  int32   (2**b,)  row number, or -1
    a, b   uint64  (R,)     first parts of each row's key
    c      uint32  (R,)     last part
    used   int64   (1,)     rows in use
    """

    slots: Any
    a: Any
    b: Any
    c: Any
    used: Any


def make_index(capacity: int) -> Index:
    """An empty index for capacity rows, at most half of its slots used."""
    size = 1 << max(3, (2 * capacity - 1).bit_length())
    return Index(
        np.full(size, -1, np.int32),
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.uint64),
        np.zeros(capacity, np.uint32),
        np.zeros(1, np.int64),
    )


def grown(index: Index, capacity: int) -> Index:
    """The same rows in an index with room for capacity rows."""
    n = int(index.used[0])
    larger = make_index(capacity)
    for old, new in ((index.a, larger.a), (index.b, larger.b), (index.c, larger.c)):
        new[:n] = old[:n]
    larger.used[0] = n
    rehash(larger)
    return larger


@njit(cache=True, nogil=True)
def hash3(a: Any, b: Any, c: Any) -> Any:
    """A 64-bit mix of a key whose parts a and b are mostly hashes already (ours, after murmur3's finaliser)."""
    h = a ^ (b * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(c) * np.uint64(0xC2B2AE3D27D4EB4F))
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
        if index.a[row] == a and index.b[row] == b and index.c[row] == c:
            return row
        at = (at + np.uint64(1)) & last


@njit(cache=True, nogil=True)
def insert(index: Any, a: Any, b: Any, c: Any) -> Any:
    """Row of a key that is not there yet; the caller keeps room for it."""
    last = np.uint64(index.slots.size - 1)
    at = hash3(a, b, c) & last
    while index.slots[at] >= 0:
        at = (at + np.uint64(1)) & last
    row = index.used[0]
    index.slots[at] = row
    index.a[row] = a
    index.b[row] = b
    index.c[row] = c
    index.used[0] = row + 1
    return row


@njit(cache=True, nogil=True)
def rehash(index: Any) -> None:
    """Fill the hash slots from the rows."""
    last = np.uint64(index.slots.size - 1)
    index.slots[:] = -1
    for row in range(index.used[0]):
        at = hash3(index.a[row], index.b[row], index.c[row]) & last
        while index.slots[at] >= 0:
            at = (at + np.uint64(1)) & last
        index.slots[at] = row
