"""Kernels that check a log's propensities: one pass over weights, and one over all (row, action) pairs."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bandits.arrays import F64, I64, Bool

N_BINS = 28
"""Two to each halving of the propensity from 1 down to 2**-13, the lowest also holding all below; the last holds 1."""

_TOP = 1023 * 2
"""Exponent and first bit of the mantissa of 1.0."""


@njit(cache=True, nogil=True)
def add_means(cell: NDArray[np.intp], value: F64, count: F64, out: F64) -> None:
    """Add (1, c, c^2, c v, c^2 v, c^2 v^2) of each row to out[cell]; cell -1 is left out, an empty count is all 1."""
    counted = count.size > 0
    for i in range(cell.shape[0]):
        at = cell[i]
        if at < 0:
            continue
        c = count[i] if counted else 1.0
        cv = c * value[i]
        out[at, 0] += 1.0
        out[at, 1] += c
        out[at, 2] += c * c
        out[at, 3] += cv
        out[at, 4] += c * cv
        out[at, 5] += cv * cv


@njit(cache=True, nogil=True)
def add_allowed(code: NDArray[np.intp], allowed: Bool, count: F64, out: F64) -> None:
    """Add (1, c, c^2) of each row to out[code, a] for the actions a allowed in it; code -1 is left out."""
    counted = count.size > 0
    for i in range(code.shape[0]):
        at = code[i]
        if at < 0:
            continue
        c = count[i] if counted else 1.0
        for a in range(allowed.shape[1]):
            if allowed[i, a]:
                out[at, a, 0] += 1.0
                out[at, a, 1] += c
                out[at, a, 2] += c * c


@njit(cache=True, nogil=True)
def add_pairs(
    logging: F64,
    bits: I64,
    action: NDArray[np.intp],
    count: F64,
    target: F64,
    actions: F64,
    unsupported: F64,
    bins: F64,
) -> None:
    """Add what the logging distributions expect, against what was taken.

    bits         logging, its float64 read as int64
    count        empty: all 1
    target       (n, K), or (0, K) where unknown
    actions      (K, 3)       sum of c [A = a], c pi0(a), c^2 pi0(a) (1 - pi0(a))
    unsupported  (K,)         sum of c pi(a) where pi0(a) is 0
    bins         (N_BINS, 3)  the same as actions, of the pairs whose pi0(a) lies in the bin
    """
    n, k = logging.shape
    counted, targeted = count.size > 0, target.size > 0
    inside = np.zeros(N_BINS)
    for i in range(n):
        c = count[i] if counted else 1.0
        inside[:] = 0.0
        for a in range(k):
            p = logging[i, a]
            if p > 0.0:
                actions[a, 1] += c * p
                actions[a, 2] += c * c * p * (1.0 - p)
                inside[min(max((bits[i, a] >> 51) - _TOP + N_BINS - 1, 0), N_BINS - 1)] += p
            elif targeted:
                unsupported[a] += c * target[i, a]
        taken = action[i]
        actions[taken, 0] += c
        bins[min(max((bits[i, taken] >> 51) - _TOP + N_BINS - 1, 0), N_BINS - 1), 0] += c
        for b in range(N_BINS):
            q = inside[b]
            if q > 0.0:
                bins[b, 1] += c * q
                bins[b, 2] += c * c * max(q * (1.0 - q), 0.0)


@njit(cache=True, nogil=True)
def add_target(target: F64, allowed: Bool, count: F64, mass: F64, unsupported: F64) -> None:
    """Add the target's mass per action, to unsupported where the action was not allowed; empty allowed: all are."""
    n, k = target.shape
    counted, limited = count.size > 0, allowed.size > 0
    for i in range(n):
        c = count[i] if counted else 1.0
        for a in range(k):
            if limited and not allowed[i, a]:
                unsupported[a] += c * target[i, a]
            else:
                mass[a] += c * target[i, a]
