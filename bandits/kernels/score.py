"""Scoring kernels: sums to edges, edges to each candidate's mean, variance and upper bound.

An edge is a float32 pair (theta, 1 / precision). Scores are those of Diag-LinUCB, Yi et al., RecSys 2023,
arXiv 2307.15893; centring and the division by the weights are ours.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit

from bandits.arrays import F32, I32, I64, U32, Bool

WINDOW = 1 << 15
SQUARE_UNIT = 2.0**-30
SUM_UNIT = 2.0**-15
TOO_MANY_EDGES = -1
NO_SUCH_ROW = -2

# Keeps the variance of an item reached only through weights of 0 above 0: it is a candidate all the same.
_LEAST_SQUARE = np.float32(1e-20)
_ZERO = np.float32(0.0)


@njit(cache=True, nogil=True)
def bake_edges(sums: I64, prior: float, centre: float, prior_mean: F32, out: F32) -> None:
    """Write (theta, 1 / precision) of each edge; an empty prior_mean stands for the centre everywhere."""
    given = prior_mean.size > 0
    for e in range(sums.shape[0]):
        precision = prior + sums[e, 0] * SQUARE_UNIT
        pull = prior * (prior_mean[e] - centre) if given else 0.0
        theta = (sums[e, 2] * SQUARE_UNIT - centre * (sums[e, 1] * SUM_UNIT) + pull) / precision
        out[e, 0] = theta
        out[e, 1] = 1.0 / precision


@njit(cache=True)
def score_rows(
    slots: U32,
    weights: F32,
    excluded: I32,
    row_start: I64,
    row_item: I32,
    edge: F32,
    n_items: int,
    centre: float,
    alpha: float,
    normalise: bool,
    cursor: I64,
    window: F32,
    weight_sum: F32,
    item: I32,
    value: F32,
) -> int:
    """Score the union of the rows in slots; returns the number of items, or TOO_MANY_EDGES or NO_SUCH_ROW.

    Items are walked in windows of 2**15, so that the sums of one window stay in L2 while the edges stream by; a second
    walk over the window's edges emits each touched item once and clears it. Dense scatter over all items took 2 to 3
    times as long, a merge of the rows 5 times.

    row_item    ascending within a row, below n_items
    cursor      (>= 2K,) scratch, where each row's window starts and stops
    window      (2**15, 2) and weight_sum (2**15,) all 0 before and after
    item        (capacity + 1,), value (3, capacity + 1): mean, variance, mean + alpha * sqrt(variance)
    """
    n_slots = slots.size
    n_edges = 0
    for k in range(n_slots):
        slot = np.int64(slots[k])
        if slot >= row_start.size - 1:
            return NO_SUCH_ROW
        cursor[2 * k + 1] = row_start[slot]
        n_edges += row_start[slot + 1] - row_start[slot]
    if n_edges >= item.size:
        return TOO_MANY_EDGES
    n = 0
    x = 0
    for base in range(0, n_items, WINDOW):
        limit = base + WINDOW
        for k in range(n_slots):
            weight = weights[k]
            square = max(weight * weight, _LEAST_SQUARE)
            start = cursor[2 * k + 1]
            end = row_start[np.int64(slots[k]) + 1]
            e = start
            while e < end and row_item[e] < limit:
                at = row_item[e] - base
                window[at, 0] += weight * edge[e, 0]
                window[at, 1] += square * edge[e, 1]
                e += 1
            cursor[2 * k] = start
            cursor[2 * k + 1] = e
            if normalise:
                for e in range(start, cursor[2 * k + 1]):
                    weight_sum[row_item[e] - base] += weight
        while x < excluded.size and excluded[x] < limit:
            if excluded[x] >= base:
                window[excluded[x] - base, 1] = _ZERO
            x += 1
        first = n
        for k in range(n_slots):
            for e in range(cursor[2 * k], cursor[2 * k + 1]):
                at = row_item[e] - base
                item[n] = row_item[e]
                value[0, n] = window[at, 0]
                value[1, n] = window[at, 1]
                n += window[at, 1] != _ZERO
                window[at, 0] = _ZERO
                window[at, 1] = _ZERO
        if normalise:
            for a in range(first, n):
                total = weight_sum[item[a] - base]
                if total != _ZERO:
                    value[0, a] /= total
                    value[1, a] /= total * total
            for k in range(n_slots):
                for e in range(cursor[2 * k], cursor[2 * k + 1]):
                    weight_sum[row_item[e] - base] = _ZERO
    shift = np.float32(centre)
    scale = np.float32(alpha)
    for a in range(n):
        value[0, a] += shift
        value[2, a] = value[0, a] + scale * np.float32(sqrt(value[1, a]))
    return n


@njit(cache=True)
def score_dense_cells(
    weights: F32,
    theta: F32,
    inverse_precision: F32,
    mask: Bool,
    unseen: float,
    centre: float,
    alpha: float,
    normalise: bool,
    mean: F32,
    variance: F32,
    score: F32,
) -> None:
    """Score each row of an (A, K) table over its active cells; without any, as if every cell were unseen."""
    total = 0.0
    square = 0.0
    for k in range(weights.size):
        total += weights[k]
        square += weights[k] * weights[k]
    for a in range(theta.shape[0]):
        active = 0
        sums = 0.0
        weighted = 0.0
        spread = 0.0
        for k in range(weights.size):
            if mask[a, k]:
                active += 1
                sums += weights[k]
                weighted += weights[k] * theta[a, k]
                spread += weights[k] * weights[k] * inverse_precision[a, k]
        if active == 0:
            sums = total
            spread = square * unseen
        if normalise and sums != 0.0:
            weighted /= sums
            spread /= sums * sums
        mean[a] = centre + weighted
        variance[a] = spread
        score[a] = mean[a] + alpha * sqrt(variance[a])
