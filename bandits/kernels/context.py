"""The sparse context of an embedding: inner products, top-K and softmax in one pass."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from bandits.arrays import F32, F64, I32, U32

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@njit(cache=True)
def top_clusters(embedding: F64, centroids: F32, tau: float, score: F64, best: F64, slots: U32, quanta: I32) -> int:
    """Write the quantised softmax over the clusters nearest to one embedding; return how many were written.

    embedding  float64 (d,)    user
    centroids  float32 (d, C)  transposed, so that the inner loop runs over clusters
    score      float64 (C,)    scratch: inner products
    best       float64 (K,)    scratch: the K largest, descending
    slots      uint32  (K,)    out: clusters, ascending
    quanta     int32   (K,)    out: rint(weight * 2**15), zeros left out

    Every cluster adds its products in the same order, in float64: equal centroids tie exactly and the lowest cluster
    wins, on any machine (a BLAS product may break such ties). Returns -1 - i if component i is not a finite float32.
    """
    d, n_clusters = centroids.shape
    top_k = best.shape[0]
    for i in range(d):
        if not abs(embedding[i]) <= LARGEST_FLOAT32:
            return -1 - i
    for c in range(n_clusters):
        score[c] = 0.0
    whole = d - d % 4
    for i in range(0, whole, 4):
        x0, x1, x2, x3 = embedding[i], embedding[i + 1], embedding[i + 2], embedding[i + 3]
        for c in range(n_clusters):
            score[c] = (
                score[c]
                + x0 * centroids[i, c]
                + x1 * centroids[i + 1, c]
                + x2 * centroids[i + 2, c]
                + x3 * centroids[i + 3, c]
            )
    for i in range(whole, d):
        x0 = embedding[i]
        for c in range(n_clusters):
            score[c] += x0 * centroids[i, c]

    found = 0
    for c in range(n_clusters):
        value = score[c]
        if found == top_k and value <= best[top_k - 1]:
            continue
        at = found if found < top_k else top_k - 1
        while at > 0 and best[at - 1] < value:
            best[at] = best[at - 1]
            slots[at] = slots[at - 1]
            at -= 1
        best[at] = value
        slots[at] = c
        if found < top_k:
            found += 1

    largest = best[0]
    total = 0.0
    for k in range(found):
        best[k] = math.exp((best[k] - largest) / tau)
        total += best[k]
    count = 0
    for k in range(found):
        q = np.int32(np.rint(best[k] / total * 32768.0))
        if q == 0:
            continue
        slot = slots[k]
        at = count
        while at > 0 and slots[at - 1] > slot:
            slots[at] = slots[at - 1]
            quanta[at] = quanta[at - 1]
            at -= 1
        slots[at] = slot
        quanta[at] = q
        count += 1
    return count
