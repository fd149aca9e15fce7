"""Cells packed in chunks of 64 neighbouring slots: find, add, encode and decode."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bandits.kernels.index import Index, find, insert

N_CLASSES = 7
"""Blocks hold 1, 2, 4 .. 64 cells."""


class Chunks(NamedTuple):
    """Cells of R chunks. A chunk's row is one cache line: a cell costs three misses, where one array a field cost nine.

    keys      Index with 8 columns: table, arm, slot // 64; then
              MASK   which of the 64 slots have a cell
              BLOCK  first arena row of the chunk's cells, which lie there sorted by slot
              SIZE   log2 of the block's cells
              DIRTY  1 where the chunk changed since the list was taken
              HOLDERS  of a sum: how many partitions have the chunk, or GONE; of a partition: 1 or GONE
    changed   int32  (R,)    rows of the changed chunks
    arena     int64  (A, 3)  weight_sq_sum, weight_sum, reward_sum; units 2**-30, 2**-15, 2**-30
    free      int64  (7,)    first free block of each size, or -1; the next one stands in its first cell
    state     int64  (4,)    arena rows in use, changed chunks, saturated additions, chunks that are GONE
    """

    keys: Index
    changed: Any
    arena: Any
    free: Any
    state: Any


MASK, BLOCK, SIZE, DIRTY, HOLDERS = 3, 4, 5, 6, 7
ROW_COLUMNS = 8
TOP, N_CHANGED, SATURATED, N_GONE = 0, 1, 2, 3
GONE = np.uint64(2**64 - 1)
"""Holders of a chunk that had some and has none: its cells are zeros, which nothing shows or retires any more."""


@njit(cache=True, nogil=True)
def popcount(bits: Any) -> Any:
    bits = bits - ((bits >> np.uint64(1)) & np.uint64(0x5555555555555555))
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, nogil=True)
def lowest(bits: Any) -> Any:
    """Number of the lowest set bit."""
    return popcount((bits & (~bits + np.uint64(1))) - np.uint64(1))


@njit(cache=True, nogil=True)
def take_block(chunks: Any, size: Any) -> Any:
    """A block of 2**size cells; the caller keeps room for it."""
    block = chunks.free[size]
    if block >= 0:
        chunks.free[size] = chunks.arena[block, 0]
    else:
        block = chunks.state[0]
        chunks.state[0] = block + (1 << size)
    return block


@njit(cache=True, nogil=True)
def chunk_row(chunks: Any, table: Any, arm: Any, chunk: Any) -> Any:
    """Row of a chunk, made empty where it is new."""
    row = find(chunks.keys, table, arm, chunk)
    if row < 0:
        row = insert(chunks.keys, table, arm, chunk)
        chunks.keys.rows[row, BLOCK] = take_block(chunks, 0)
    return row


@njit(cache=True, nogil=True)
def cell_in(chunks: Any, row: Any, slot: Any) -> Any:
    """Arena row of a slot's cell in its chunk, made zero where it is new."""
    bit = np.uint64(1) << np.uint64(slot & np.uint32(63))
    mask = chunks.keys.rows[row, MASK]
    rank = popcount(mask & (bit - np.uint64(1)))
    block = np.int64(chunks.keys.rows[row, BLOCK])
    if mask & bit:
        return block + rank
    n = popcount(mask)
    size = np.int64(chunks.keys.rows[row, SIZE])
    if n == (1 << size):
        larger = take_block(chunks, size + 1)
        for i in range(n):
            for k in range(3):
                chunks.arena[larger + i, k] = chunks.arena[block + i, k]
        chunks.arena[block, 0] = chunks.free[size]
        chunks.free[size] = block
        chunks.keys.rows[row, SIZE] = size + 1
        chunks.keys.rows[row, BLOCK] = larger
        block = larger
    for i in range(n, rank, -1):
        for k in range(3):
            chunks.arena[block + i, k] = chunks.arena[block + i - 1, k]
    for k in range(3):
        chunks.arena[block + rank, k] = 0
    chunks.keys.rows[row, MASK] = mask | bit
    return block + rank


@njit(cache=True, nogil=True)
def find_cell(chunks: Any, table: Any, arm: Any, slot: Any) -> Any:
    """Arena row of a cell, or -1."""
    row = find(chunks.keys, table, arm, np.uint64(slot >> np.uint32(6)))
    if row < 0:
        return np.int64(-1)
    bit = np.uint64(1) << np.uint64(slot & np.uint32(63))
    mask = chunks.keys.rows[row, MASK]
    if not mask & bit:
        return np.int64(-1)
    return np.int64(chunks.keys.rows[row, BLOCK]) + popcount(mask & (bit - np.uint64(1)))


@njit(cache=True, nogil=True)
def saturating(total: Any, increment: Any, state: Any, counter: Any) -> Any:
    """total + increment, kept within int64; state[counter] counts what did not fit."""
    result = total + increment
    if ((total ^ result) & (increment ^ result)) < 0:
        state[counter] += 1
        return np.int64(9223372036854775807) if increment > 0 else np.int64(-9223372036854775807)
    return result


@njit(cache=True, nogil=True)
def mark(chunks: Any, row: Any) -> None:
    if not chunks.keys.rows[row, DIRTY]:
        chunks.keys.rows[row, DIRTY] = 1
        chunks.changed[chunks.state[1]] = row
        chunks.state[1] += 1


@njit(cache=True, nogil=True)
def hold(chunks: Any, row: Any) -> None:
    """Count one more holder of a chunk."""
    if chunks.keys.rows[row, HOLDERS] == GONE:
        chunks.keys.rows[row, HOLDERS] = 0
        chunks.state[N_GONE] -= 1
    chunks.keys.rows[row, HOLDERS] += np.uint64(1)


@njit(cache=True, nogil=True)
def let_go(chunks: Any, row: Any) -> None:
    """Count one holder less."""
    chunks.keys.rows[row, HOLDERS] -= np.uint64(1)
    if not chunks.keys.rows[row, HOLDERS]:
        chunks.keys.rows[row, HOLDERS] = GONE
        chunks.state[N_GONE] += 1


@njit(cache=True, nogil=True)
def add(chunks: Any, table: Any, arm: Any, slot: Any, weight_sq: Any, weight: Any, reward: Any) -> None:
    """Add increments to one cell."""
    row = chunk_row(chunks, table, arm, np.uint64(slot >> np.uint32(6)))
    cell = cell_in(chunks, row, slot)
    chunks.arena[cell, 0] = saturating(chunks.arena[cell, 0], weight_sq, chunks.state, 2)
    chunks.arena[cell, 1] = saturating(chunks.arena[cell, 1], weight, chunks.state, 2)
    chunks.arena[cell, 2] = saturating(chunks.arena[cell, 2], reward, chunks.state, 2)
    mark(chunks, row)


@njit(cache=True, nogil=True)
def encoded_words(chunks: Any, rows: Any, start: Any) -> Any:
    """Fill start (n + 1,) with where each chunk's value begins, in int64 words; the total is its last."""
    at = 0
    for i in range(rows.size):
        start[i] = at
        at += 2 + 3 * popcount(chunks.keys.rows[rows[i], MASK])
    start[rows.size] = at


@njit(cache=True, nogil=True)
def encode(chunks: Any, rows: Any, start: Any, words: Any) -> None:
    """Write each chunk's value: epoch, mask, three sums for every set bit."""
    for i in range(rows.size):
        row = rows[i]
        at = start[i]
        words[at] = 0
        words[at + 1] = np.int64(chunks.keys.rows[row, MASK])
        block = np.int64(chunks.keys.rows[row, BLOCK])
        at += 2
        for cell in range(popcount(chunks.keys.rows[row, MASK])):
            for k in range(3):
                words[at] = chunks.arena[block + cell, k]
                at += 1


@njit(cache=True, nogil=True)
def replace(own: Any, total: Any, table: Any, arm: Any, chunk: Any, words: Any, start: Any) -> None:
    """Put the values of chunks in place of those in `own`, and move `total` by the difference.

    table, arm, chunk  (n,)     keys
    words, start       values as encode writes them, and where each begins
    """
    for i in range(table.size):
        row = chunk_row(own, table[i], arm[i], chunk[i])
        sum_row = chunk_row(total, table[i], arm[i], chunk[i])
        if own.keys.rows[row, HOLDERS] != 1:
            hold(own, row)
            hold(total, sum_row)
        left = np.uint64(words[start[i] + 1])
        at = start[i] + 2
        while left:
            slot = np.uint32(lowest(left))
            left &= left - np.uint64(1)
            cell = cell_in(own, row, slot)
            sum_cell = cell_in(total, sum_row, slot)
            for k in range(3):
                moved = words[at + k] - own.arena[cell, k]
                total.arena[sum_cell, k] = saturating(total.arena[sum_cell, k], moved, total.state, 2)
                own.arena[cell, k] = words[at + k]
            at += 3
        mark(total, sum_row)
