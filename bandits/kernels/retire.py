"""What retirement and reading anew leave of chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bandits.kernels.chunks import (
    BLOCK,
    DIRTY,
    GONE,
    HOLDERS,
    MASK,
    N_GONE,
    SIZE,
    cell_in,
    chunk_row,
    let_go,
    lowest,
    mark,
    popcount,
    replace,
    saturating,
    take_block,
)
from bandits.kernels.index import find, insert

RETIRED_US, STOP, UNTIL_US, CHANGED = 3, 4, 5, 6
"""Columns of the Index of tombstones, whose key is (table, arm, whether the whole table)."""
TOMBSTONE_COLUMNS = 7


@njit(cache=True, nogil=True)
def is_retired(retired: Any, table: Any, arm: Any, issued: Any) -> Any:
    """Whether what a receipt issued then says of an arm, or its table, no longer counts."""
    row = find(retired, table, np.uint64(0), np.uint64(1))
    if row >= 0 and issued <= np.int64(retired.rows[row, RETIRED_US]):
        return True
    row = find(retired, table, arm, np.uint64(0))
    return row >= 0 and issued <= np.int64(retired.rows[row, RETIRED_US])


@njit(cache=True, nogil=True)
def covered(retired: Any, table: Any, arm: Any, out: Any) -> None:
    """Write for each (table, arm) whether any tombstone covers it, whatever its time."""
    for i in range(table.size):
        whole = find(retired, table[i], np.uint64(0), np.uint64(1)) >= 0
        out[i] = whole or find(retired, table[i], arm[i], np.uint64(0)) >= 0


@njit(cache=True, nogil=True)
def copy_chunks(chunks: Any, rows: Any, out: Any) -> None:
    """Copy chunk rows, which of them changed and who holds them, into an empty table, in the smallest blocks."""
    for row in rows:
        mask = chunks.keys.rows[row, MASK]
        n = popcount(mask)
        size = np.int64(0)
        while (1 << size) < n:
            size += 1
        new = insert(out.keys, chunks.keys.rows[row, 0], chunks.keys.rows[row, 1], chunks.keys.rows[row, 2])
        cell, to = np.int64(chunks.keys.rows[row, BLOCK]), take_block(out, size)
        out.keys.rows[new, MASK] = mask
        out.keys.rows[new, BLOCK] = to
        out.keys.rows[new, SIZE] = size
        out.keys.rows[new, HOLDERS] = chunks.keys.rows[row, HOLDERS]
        if chunks.keys.rows[row, HOLDERS] == GONE:
            out.state[N_GONE] += 1
        for i in range(n):
            for k in range(3):
                out.arena[to + i, k] = chunks.arena[cell + i, k]
        if chunks.keys.rows[row, DIRTY]:
            mark(out, new)


@njit(cache=True, nogil=True)
def clear(own: Any, total: Any, row: Any, sum_row: Any, mask: Any) -> None:
    """Make the cells of a mask 0 in one chunk of `own`, and take them out of `total`."""
    left = own.keys.rows[row, MASK] & mask
    while left:
        slot = np.uint32(lowest(left))
        left &= left - np.uint64(1)
        cell, sum_cell = cell_in(own, row, slot), cell_in(total, sum_row, slot)
        for k in range(3):
            total.arena[sum_cell, k] = saturating(total.arena[sum_cell, k], -own.arena[cell, k], total.state, 2)
            own.arena[cell, k] = 0


@njit(cache=True, nogil=True)
def renew(own: Any, total: Any, table: Any, arm: Any, chunk: Any, words: Any, start: Any) -> None:
    """As chunks.replace, where a partition is read anew: cells that the values lack go, and own's chunks are marked."""
    for i in range(table.size):
        row = chunk_row(own, table[i], arm[i], chunk[i])
        clear(own, total, row, chunk_row(total, table[i], arm[i], chunk[i]), ~np.uint64(words[start[i] + 1]))
        mark(own, row)
    replace(own, total, table, arm, chunk, words, start)


@njit(cache=True, nogil=True)
def clear_unmarked(own: Any, total: Any, arm: Any) -> Any:
    """Take what `own` holds and is not marked out of `total`; writes the chunks' arms and returns how many they are."""
    n = 0
    for row in range(own.keys.used[0]):
        if own.keys.rows[row, DIRTY] or own.keys.rows[row, HOLDERS] == GONE:
            continue
        sum_row = chunk_row(total, own.keys.rows[row, 0], own.keys.rows[row, 1], own.keys.rows[row, 2])
        clear(own, total, row, sum_row, ~np.uint64(0))
        let_go(own, row)
        let_go(total, sum_row)
        mark(total, sum_row)
        arm[n] = own.keys.rows[row, 1]
        n += 1
    return n


@njit(cache=True, nogil=True)
def held_by(chunks: Any, arms: Any, out: Any) -> Any:
    """Write (table, arm) of the chunks that arms of an Index have; returns how many they are."""
    n = 0
    for row in range(chunks.keys.used[0]):
        if chunks.keys.rows[row, HOLDERS] == GONE:
            continue
        if find(arms, chunks.keys.rows[row, 1], np.uint64(0), np.uint64(0)) >= 0:
            out[n, 0], out[n, 1] = chunks.keys.rows[row, 0], chunks.keys.rows[row, 1]
            n += 1
    return n
