"""Diag-LinUCB in float64 behind a sampler, played along logged rows: scores, the law of the first position, learning.

The same numbers as bandits.diag_linucb and bandits.sampling, to the rounding of sums over a context's slots.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bandits.arrays import F64, I64, Bool
from bandits.kernels.running import count_value, quantile
from bandits.kernels.sample import BLOCK, all_finite, position_plackett_luce
from bandits.kernels.sample_top import position_top_m

PUBLISHED, CENTRED, WEIGHTS = 0, 1, 2
PLACKETT_LUCE, TOP_M, GREEDY, UNIFORM = 0, 1, 2, 3


class Rounds(NamedTuple):
    """n logged rows.

    slot_start  int64    (n+1,)  of each row's context in slot and weight
    slot        int64    (S,)    different within a row
    weight      float64  (S,)
    start       int64    (n+1,)  of each row's candidates in column
    column      int64    (E,)    arms
    place       int64    (n,)    of the logged arm among the row's candidates
    reward      float64  (n,)    what a learner sees of it
    propensity  float64  (n,)
    """

    slot_start: Any
    slot: Any
    weight: Any
    start: Any
    column: Any
    place: Any
    reward: Any
    propensity: Any


class Learner(NamedTuple):
    """A Diag-LinUCB, learning in place, and its sampler.

    weight_sq_sum, weight_sum, reward_sum   float64 (arms, slots)
    edges     bool (arms, slots)  cells that exist, read where masked; without it all do
    totals    float64 (2,)  impressions, total reward
    variant   PUBLISHED, CENTRED or WEIGHTS
    kind      PLACKETT_LUCE, TOP_M, GREEDY or UNIFORM
    """

    weight_sq_sum: Any
    weight_sum: Any
    reward_sum: Any
    edges: Any
    masked: Any
    totals: Any
    variant: Any
    alpha: Any
    prior: Any
    kind: Any
    inverse_temperature: Any
    m: Any
    epsilon: Any


class Scratch(NamedTuple):
    """For a row of at most A candidates: float32 (A,) twice, float64 (ceil(A / 64),), int64 (A,)."""

    score: Any
    exponential: Any
    block: Any
    member: Any


@njit(cache=True, nogil=True)
def score_row(i: int, rounds: Any, learner: Any, score: Any) -> None:
    """Write the upper confidence bound of each candidate of row i, float32 (A,); without any edge as if unseen."""
    low, high, first = rounds.slot_start[i], rounds.slot_start[i + 1], rounds.start[i]
    centre = 0.0
    if learner.variant == CENTRED and learner.totals[0] > 0.0:
        centre = learner.totals[1] / learner.totals[0]
    total, square = 0.0, 0.0
    for k in range(low, high):
        total += rounds.weight[k]
        square += rounds.weight[k] * rounds.weight[k]
    for e in range(score.size):
        arm = rounds.column[first + e]
        mean, variance, active, joined = 0.0, 0.0, 0.0, not learner.masked
        for k in range(low, high):
            s, w = rounds.slot[k], rounds.weight[k]
            if learner.masked:
                if not learner.edges[arm, s]:
                    continue
                joined = True
            inverse = 1.0 / (learner.prior + learner.weight_sq_sum[arm, s])
            mean += w * ((learner.reward_sum[arm, s] - centre * learner.weight_sum[arm, s]) * inverse)
            variance += w * w * inverse
            active += w
        if not joined:
            variance, active = square / learner.prior, total
        divisor = active if learner.variant == WEIGHTS and active != 0.0 else 1.0
        mean, variance = (centre + mean) / divisor, variance / (divisor * divisor)
        score[e] = np.float32(mean + learner.alpha * math.sqrt(variance))


@njit(cache=True, nogil=True)
def first_position(score: Any, learner: Any, scratch: Any, probability: F64) -> None:
    """Write the probability of each candidate, float64 (A,), as Sampler.first_position."""
    n, nothing = score.size, scratch.member[:0]
    if learner.kind == PLACKETT_LUCE:
        block = scratch.block[: (n + BLOCK - 1) // BLOCK]
        weight = scratch.exponential[:n]
        position_plackett_luce(score, learner.inverse_temperature, nothing, weight, block, nothing, probability)
    elif learner.kind == TOP_M:
        position_top_m(score, learner.m, nothing, scratch.member[:n], probability)
    elif learner.kind == GREEDY:
        probability[:] = 0.0
        probability[score.argmax()] = 1.0
    else:
        probability[:] = 1.0 / n
    if learner.kind == PLACKETT_LUCE or learner.kind == TOP_M:
        for e in range(n):
            probability[e] = (1.0 - learner.epsilon) * probability[e] + learner.epsilon / n


@njit(cache=True, nogil=True)
def learn_row(i: int, rounds: Any, learner: Any) -> None:
    """Take in the reward of the logged arm of row i."""
    arm, reward = rounds.column[rounds.start[i] + rounds.place[i]], rounds.reward[i]
    for k in range(rounds.slot_start[i], rounds.slot_start[i + 1]):
        s, w = rounds.slot[k], rounds.weight[k]
        if not learner.masked or learner.edges[arm, s]:
            learner.weight_sq_sum[arm, s] += w * w
            learner.weight_sum[arm, s] += w
            learner.reward_sum[arm, s] += w * reward
    learner.totals[0] += 1.0
    learner.totals[1] += reward


@njit(cache=True, nogil=True)
def play_rejection(rounds: Any, learner: Any, coin: F64, scratch: Any, probability: F64, taken: Bool) -> int:
    """Rejection replay: learn the rows whose coin lies below the probability of the logged arm.

    coin         float64 (n,)  in [0, 1)
    probability  float64 (A,)  scratch
    taken        bool    (n,)  out
    Returns the row at which a score is not finite, where it stops, or -1.
    """
    for i in range(taken.size):
        n = rounds.start[i + 1] - rounds.start[i]
        score = scratch.score[:n]
        score_row(i, rounds, learner, score)
        if not all_finite(score):
            return i
        first_position(score, learner, scratch, probability[:n])
        taken[i] = coin[i] < probability[rounds.place[i]]
        if taken[i]:
            learn_row(i, rounds, learner)
    return -1


@njit(cache=True, nogil=True)
def play_robust(
    rounds: Any,
    learner: Any,
    coin: F64,
    c_max: float,
    q: float,
    state: F64,
    count: I64,
    scratch: Any,
    probability: F64,
    weight: F64,
    c: F64,
    taken: Bool,
) -> int:
    """Doubly robust replay's path: rows are learned whose coin lies below c times the weight.

    state        float64 (2,)  c, and the numbers in count, kept between calls
    count        int64   bins of running.count_value: of 1 / weight so far
    probability  float64 (E,)  out, aligned with rounds.column
    weight, c, taken     (n,)  out: the weight of each row, the c it was met with, and whether it was learned
    Returns as play_rejection.
    """
    for i in range(taken.size):
        first, stop = rounds.start[i], rounds.start[i + 1]
        score = scratch.score[: stop - first]
        score_row(i, rounds, learner, score)
        if not all_finite(score):
            return i
        first_position(score, learner, scratch, probability[first:stop])
        w = probability[first + rounds.place[i]] / rounds.propensity[i]
        weight[i], c[i] = w, state[0]
        count_value(1.0 / w if w > 0.0 else math.inf, c_max, count)
        state[1] += 1.0
        taken[i] = coin[i] < state[0] * w
        if taken[i]:
            learn_row(i, rounds, learner)
            state[0] = quantile(q, int(state[1]), c_max, count)
    return -1
