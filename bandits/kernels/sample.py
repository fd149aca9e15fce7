"""Sampling kernels: draw a slate without replacement, and the probability of each position given the earlier ones.

At every position the law is (1 - epsilon) * kind + epsilon * uniform over what is left. Each position spends one row of
`uniform`: column 0 decides between the two, column 1 picks. `taken` lists the indices drawn so far, ascending.

Plackett-Luce: Plackett (1975); drawn by sequential inverse CDF, which gives the propensities on the way. Weights are
float32 powers of e with the largest score left subtracted, summed by blocks of 64 in float64: a draw walks the block
sums, then one block. A drawn weight becomes 0 and its block is summed again, for a remainder formed by subtraction
loses all its digits once one weight dominates. When nearly all weight is drawn, what is left is weighed anew.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bandits.arrays import F32, F64, I64

BLOCK = 64
# Weights are 1 or less and vanish below exp(-87) = 2**-125.5; at 2**-40 what vanished is under 2**-85 of what is left.
_LEAST_TOTAL = 2.0**-40

_FLOOR = np.float32(-87.0)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)
_LOG2_E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_ROUND = np.float32(12582912.0)
_ROUND_BITS = np.int32(0x4B400000 - 127)
_C = tuple(np.float32(c) for c in (5.0000001e-1, 1.66666655e-1, 4.1665796e-2, 8.3334519e-3, 1.3981999e-3, 1.987569e-4))


@njit(cache=True)
def exp32(z: np.float32) -> np.float32:
    """e**z for z <= 0 within 1e-7 relative, 0 for z <= -87: the Cephes polynomial, which LLVM vectorises.

    np.exp of float32 has no vector form here and takes 15 times as long.
    """
    x = z if z > _FLOOR else _FLOOR
    rounded = np.float32(x * _LOG2_E + _ROUND)
    whole = rounded - _ROUND
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    p = ((((_C[5] * r + _C[4]) * r + _C[3]) * r + _C[2]) * r + _C[1]) * r + _C[0]
    power = np.int32((rounded.view(np.int32) - _ROUND_BITS) << np.int32(23))
    value = (p * (r * r) + r + _ONE) * power.view(np.float32)
    return value if z > _FLOOR else _ZERO


@njit(cache=True)
def all_finite(score: F32) -> bool:
    found = np.int32(0)
    exponent = np.int32(0x7F800000)
    for i in range(score.size):
        found |= np.int32((np.float32(score[i]).view(np.int32) & exponent) == exponent)
    return bool(found == 0)


@njit(cache=True)
def largest(score: F32, start: int, stop: int, best: np.int32) -> np.int32:
    """Largest of best and the scores in [start, stop), as integers that order like the floats and so vectorise."""
    for i in range(start, stop):
        bits = np.float32(score[i]).view(np.int32)
        order = np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        best = max(best, order)
    return best


@njit(cache=True, fastmath={"reassoc"})
def block_sum(weight: F32, start: int, stop: int) -> float:
    total = 0.0
    for i in range(start, stop):
        total += np.float64(weight[i])
    return total


@njit(cache=True)
def weigh(score: F32, inverse_temperature: float, taken: I64, n_taken: int, weight: F32, block: F64) -> None:
    """Write the weights of what is left, 0 for what is taken, and the block sums."""
    order = np.int32(-0x80000000)
    start = 0
    for t in range(n_taken):
        order = largest(score, start, taken[t], order)
        start = taken[t] + 1
    order = largest(score, start, score.size, order)
    peak = np.int32(order ^ ((order >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)
    scale = np.float32(inverse_temperature)
    for i in range(score.size):
        weight[i] = exp32((score[i] - peak) * scale)
    for t in range(n_taken):
        weight[taken[t]] = _ZERO
    for b in range(block.size):
        block[b] = block_sum(weight, b * BLOCK, min((b + 1) * BLOCK, score.size))


@njit(cache=True)
def total_weight(score: F32, inverse_temperature: float, taken: I64, n_taken: int, weight: F32, block: F64) -> float:
    """Sum of the weights left, which are weighed anew when too little is."""
    total = 0.0
    for b in range(block.size):
        total += block[b]
    if total < _LEAST_TOTAL and n_taken < score.size:
        weigh(score, inverse_temperature, taken, n_taken, weight, block)
        total = 0.0
        for b in range(block.size):
            total += block[b]
    return total


@njit(cache=True)
def pick(u: float, total: float, weight: F32, block: F64) -> int:
    """Index whose stretch of the cumulated weights holds u * total; never one of weight 0.

    Where rounding leaves u * total past the end, the last positive weight is meant.
    """
    target = u * total
    chosen = 0
    before = 0.0
    reached = 0.0
    for b in range(block.size):
        if block[b] > 0.0:
            chosen = b
            before = reached
            reached += block[b]
            if reached > target:
                break
    last = chosen * BLOCK
    for i in range(last, min(last + BLOCK, weight.size)):
        if weight[i] > _ZERO:
            last = i
            before += np.float64(weight[i])
            if before > target:
                break
    return last


@njit(cache=True)
def remove(i: int, weight: F32, block: F64) -> None:
    weight[i] = _ZERO
    b = i // BLOCK
    block[b] = block_sum(weight, b * BLOCK, min((b + 1) * BLOCK, weight.size))


@njit(cache=True)
def below(u: float, n: int) -> int:
    """Uniform integer in [0, n) from u."""
    return max(0, min(int(u * n), n - 1))


@njit(cache=True)
def nth_left(nth: int, taken: I64, n_taken: int) -> int:
    """Index of the nth candidate that is not taken."""
    for t in range(n_taken):
        nth += nth >= taken[t]
    return nth


@njit(cache=True)
def take(i: int, taken: I64, n_taken: int) -> None:
    """Insert i into the ascending list of taken indices."""
    t = n_taken
    while t > 0 and taken[t - 1] > i:
        taken[t] = taken[t - 1]
        t -= 1
    taken[t] = i


@njit(cache=True)
def draw_plackett_luce(
    score: F32,
    inverse_temperature: float,
    epsilon: float,
    uniform: F64,
    weight: F32,
    block: F64,
    taken: I64,
    index: I64,
    propensity: F64,
) -> bool:
    """Draw index.size positions; False, drawing nothing, when a score is not finite."""
    if not all_finite(score):
        return False
    weigh(score, inverse_temperature, taken, 0, weight, block)
    for n in range(index.size):
        left = score.size - n
        total = total_weight(score, inverse_temperature, taken, n, weight, block)
        if uniform[n, 0] < epsilon:
            i = nth_left(below(uniform[n, 1], left), taken, n)
        else:
            i = pick(uniform[n, 1], total, weight, block)
        index[n] = i
        propensity[n] = (1.0 - epsilon) * (np.float64(weight[i]) / total) + epsilon / left
        take(i, taken, n)
        remove(i, weight, block)
    return True


@njit(cache=True)
def position_plackett_luce(
    score: F32, inverse_temperature: float, earlier: I64, weight: F32, block: F64, taken: I64, probability: F64
) -> None:
    """Write every candidate's probability after the earlier draws, by the steps of draw_plackett_luce."""
    weigh(score, inverse_temperature, taken, 0, weight, block)
    for n in range(earlier.size):
        total_weight(score, inverse_temperature, taken, n, weight, block)
        take(earlier[n], taken, n)
        remove(earlier[n], weight, block)
    total = total_weight(score, inverse_temperature, taken, earlier.size, weight, block)
    for i in range(score.size):
        probability[i] = np.float64(weight[i]) / total


@njit(cache=True)
def draw_uniform(n_candidates: int, uniform: F64, taken: I64, index: I64, propensity: F64) -> None:
    """Draw index.size positions, each uniformly from what is left, by column 1 of uniform."""
    for n in range(index.size):
        left = n_candidates - n
        index[n] = nth_left(below(uniform[n, 1], left), taken, n)
        propensity[n] = 1.0 / left
        take(index[n], taken, n)
