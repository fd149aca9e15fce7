"""Passes over the rows of a bipartite graph in CSR form."""

from __future__ import annotations

import numpy as np
from numba import njit

from bandits.arrays import I32, I64, U8, U32


@njit(cache=True)
def first_descent(row_start: I64, row_item: I32) -> int:
    """The first edge whose item does not exceed the item before it in the same row, or -1.

    row_start int64 (C+1,), row_item int32 (E,).
    """
    for row in range(row_start.shape[0] - 1):
        for edge in range(row_start[row] + 1, row_start[row + 1]):
            if row_item[edge] <= row_item[edge - 1]:
                return edge
    return -1


@njit(cache=True)
def find_edge(row_start: I64, row_item: I32, row: np.int64, item: np.int32) -> int:
    """The edge that joins a row below the number of rows and an item, or -1."""
    low = row_start[row]
    high = row_start[row + 1]
    stop = high
    while low < high:
        middle = (low + high) >> 1
        if row_item[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and row_item[low] == item else -1


@njit(cache=True)
def find_edges(row_start: I64, row_item: I32, item: I32, slots: U32, edge: I64) -> None:
    """Write for each item and slot the edge that joins them, or -1, by binary search in the slot's row.

    item int32 (A,), slots uint32 (K,), edge int64 (A, K) out. A slot beyond the rows has no edge.
    """
    n_rows = row_start.shape[0] - 1
    for k in range(slots.shape[0]):
        row = np.int64(slots[k])
        for a in range(item.shape[0]):
            edge[a, k] = -1
        if row >= n_rows:
            continue
        for a in range(item.shape[0]):
            edge[a, k] = find_edge(row_start, row_item, row, item[a])


@njit(cache=True)
def edge_masks(row_start: I64, row_item: I32, item: I32, slots: U32, mask: U8) -> None:
    """Set bit k of each item's mask, little-endian uint8 (A, ceil(K / 8)) of zeros, where slot k has an edge to it."""
    n_rows = row_start.shape[0] - 1
    for k in range(slots.shape[0]):
        row = np.int64(slots[k])
        if row >= n_rows:
            continue
        for a in range(item.shape[0]):
            if find_edge(row_start, row_item, row, item[a]) >= 0:
                mask[a, k >> 3] |= np.uint8(1 << (k & 7))
