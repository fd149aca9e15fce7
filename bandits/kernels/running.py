"""What a replay keeps up to date row by row: a quantile, and reward models fitted on the rows before."""

from __future__ import annotations

import math

from numba import njit

from bandits.arrays import F64, I64

LEAST = 1e-12
STEP = math.log(1.002)


@njit(cache=True, nogil=True)
def count_value(value: float, most: float, count: I64) -> None:
    """Add a number > 0, infinity too, to bins whose edges grow by 0.2 % from LEAST; the last holds all >= most."""
    if value >= most:
        count[-1] += 1
    else:
        count[min(int(math.log(max(value, LEAST) / LEAST) / STEP), count.size - 2)] += 1


@njit(cache=True, nogil=True)
def quantile(q: float, n: int, most: float, count: I64) -> float:
    """Lower edge of the bin at or below which a share q of the n numbers lies; `most` of none."""
    wanted = max(1, math.ceil(q * n))
    reached = 0
    for i in range(count.size - 1):
        reached += count[i]
        if reached >= wanted:
            return min(LEAST * math.exp(STEP * i), most)
    return most


@njit(cache=True, nogil=True)
def play_ridge(
    slot_start: I64,
    slot: I64,
    weight: F64,
    start: I64,
    column: I64,
    action: I64,
    reward: F64,
    inverse: F64,
    theta: F64,
    gain: F64,
    predicted: F64,
) -> None:
    """Predict every candidate of n rows by a ridge regression per action on slots and an intercept, learning each row
    after it was predicted: recursive least squares, as in bandits.full_linucb.

    slot_start, slot, weight  contexts, flat; start, column  candidates, flat
    inverse    float64 (actions, D, D), theta  float64 (actions, D)   the last of D is the intercept
    gain       float64 (D,)  scratch
    predicted  float64 (E,)  out, aligned with column
    """
    last = theta.shape[1] - 1
    for i in range(action.size):
        low, high = slot_start[i], slot_start[i + 1]
        for e in range(start[i], start[i + 1]):
            value = theta[column[e], last]
            for k in range(low, high):
                value += weight[k] * theta[column[e], slot[k]]
            predicted[e] = value
        a = action[i]
        for d in range(last + 1):
            total = inverse[a, d, last]
            for k in range(low, high):
                total += weight[k] * inverse[a, d, slot[k]]
            gain[d] = total
        error, spread = reward[i] - theta[a, last], 1.0 + gain[last]
        for k in range(low, high):
            error -= weight[k] * theta[a, slot[k]]
            spread += weight[k] * gain[slot[k]]
        for d in range(last + 1):
            share = gain[d] / spread
            theta[a, d] += share * error
            for c in range(last + 1):
                inverse[a, d, c] -= share * gain[c]


@njit(cache=True, nogil=True)
def play_means(
    start: I64, column: I64, action: I64, reward: F64, n: F64, total: F64, overall: F64, predicted: F64
) -> None:
    """Predict every candidate of the rows by its action's mean so far with one pseudo-row of the mean of all.

    n, total  float64 (actions,)  rows and their rewards; overall  float64 (2,)  the same of all actions
    """
    for i in range(action.size):
        mean = overall[1] / overall[0] if overall[0] > 0.0 else 0.0
        for e in range(start[i], start[i + 1]):
            predicted[e] = (mean + total[column[e]]) / (1.0 + n[column[e]])
        n[action[i]] += 1.0
        total[action[i]] += reward[i]
        overall[0] += 1.0
        overall[1] += reward[i]
