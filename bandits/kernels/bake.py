"""From folded cells to what scoring reads: edges of a graph, or explicit candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from bandits.kernels.chunks import BLOCK, MASK, find_cell, lowest, popcount
from bandits.kernels.graph import find_edge
from bandits.kernels.index import find
from bandits.kernels.score import SQUARE_UNIT, SUM_UNIT


@njit(cache=True, nogil=True)
def bake_cell(sums: Any, cell: Any, prior: Any, centre: Any, pull: Any, out: Any, at: Any) -> None:
    precision = prior + sums[cell, 0] * SQUARE_UNIT
    out[at, 0] = (sums[cell, 2] * SQUARE_UNIT - centre * (sums[cell, 1] * SUM_UNIT) + pull) / precision
    out[at, 1] = 1.0 / precision


@njit(cache=True, nogil=True)
def bake_changed(
    chunks: Any,
    rows: Any,
    table: Any,
    arms: Any,
    row_start: Any,
    row_item: Any,
    prior_mean: Any,
    prior: Any,
    centre: Any,
    edge: Any,
) -> int:
    """Bake the edges of the cells in chunk rows of one table; returns how many cells have no edge.

    arms        Index of the graph's arms; its row is the item
    prior_mean  float32 (E,), or empty: the centre
    """
    without = 0
    for r in range(rows.size):
        row = rows[r]
        if chunks.keys.rows[row, 0] != table:
            continue
        mask = chunks.keys.rows[row, MASK]
        item = find(arms, chunks.keys.rows[row, 1], np.uint64(0), np.uint64(0))
        if item < 0:
            without += popcount(mask)
            continue
        cell = np.int64(chunks.keys.rows[row, BLOCK])
        base = np.int64(chunks.keys.rows[row, 2]) * 64
        while mask:
            slot = base + lowest(mask)
            mask &= mask - np.uint64(1)
            edge_at = find_edge(row_start, row_item, slot, item) if slot < row_start.size - 1 else -1
            if edge_at >= 0:
                pull = prior * (prior_mean[edge_at] - centre) if prior_mean.size else 0.0
                bake_cell(chunks.arena, cell, prior, centre, pull, edge, edge_at)
            else:
                without += 1
            cell += 1
    return without


@njit(cache=True, nogil=True)
def bake_unseen(prior_mean: Any, prior: Any, centre: Any, edge: Any) -> None:
    """Bake every edge as if nothing had been learned."""
    for e in range(edge.shape[0]):
        edge[e, 0] = prior_mean[e] - centre if prior_mean.size else 0.0
        edge[e, 1] = 1.0 / prior


@njit(cache=True, nogil=True)
def gather_cells(
    chunks: Any, table: Any, arm: Any, slot: Any, prior: Any, centre: Any, theta: Any, inverse: Any
) -> None:
    """Write theta and 1 / precision (A, K) of explicit candidates; a cell that is not there counts as unseen."""
    pair = np.empty((1, 2), np.float32)
    for a in range(arm.size):
        for k in range(slot.size):
            cell = find_cell(chunks, table, arm[a], slot[k])
            if cell < 0:
                theta[a, k] = 0.0
                inverse[a, k] = 1.0 / prior
            else:
                bake_cell(chunks.arena, cell, prior, centre, 0.0, pair, 0)
                theta[a, k] = pair[0, 0]
                inverse[a, k] = pair[0, 1]
