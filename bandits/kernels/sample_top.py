"""Sampling kernels over the best scores: uniform among the m best left, and greedy. Terms: see kernels.sample."""

from __future__ import annotations

from numba import njit

from bandits.arrays import F32, F64, I64
from bandits.kernels.sample import all_finite, below, nth_left, take


@njit(cache=True)
def worse(score: F32, a: int, b: int) -> bool:
    """Whether a comes after b: a lower score or, on a tie, a higher index."""
    return score[a] < score[b] or (score[a] == score[b] and a > b)


@njit(cache=True)
def sift_down(score: F32, heap: I64, size: int, at: int, i: int) -> None:
    """Put i where it belongs from `at` downwards in a heap of indices whose worst is at 0."""
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and worse(score, heap[child + 1], heap[child]):
            child += 1
        if not worse(score, heap[child], i):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = i


@njit(cache=True)
def best(score: F32, r: int, member: I64) -> int:
    """List the r best and every tie of the last, best first and ties by index; returns how many.

    r       1 to A
    member  int64 (A,) receives the indices
    """
    for i in range(r):
        member[i] = i
    for at in range(r // 2 - 1, -1, -1):
        sift_down(score, member, r, at, member[at])
    for i in range(r, score.size):
        if score[i] > score[member[0]]:
            sift_down(score, member, r, 0, i)
    for size in range(r - 1, 0, -1):
        worst = member[0]
        sift_down(score, member, size, 0, member[size])
        member[size] = worst
    n = r
    border = score[member[r - 1]]
    for i in range(member[r - 1] + 1, score.size):
        if score[i] == border:
            member[n] = i
            n += 1
    return n


@njit(cache=True)
def border(score: F32, member: I64, n_member: int, seats: int) -> tuple[int, int]:
    """Of the seats best members: how many lie above the last one's score, and how many members have that score."""
    last = score[member[seats - 1]]
    above = seats - 1
    while above > 0 and score[member[above - 1]] == last:
        above -= 1
    stop = seats
    while stop < n_member and score[member[stop]] == last:
        stop += 1
    return above, stop - above


@njit(cache=True)
def share(at: int, seats: int, above: int, ties: int) -> float:
    """Probability of the member at `at` when `seats` are drawn from evenly and ties share the last ones."""
    if at < above:
        return 1.0 / seats
    if at < above + ties:
        return (seats - above) / (ties * seats)
    return 0.0


@njit(cache=True)
def find(i: int, member: I64, n_member: int) -> int:
    at = 0
    while at < n_member and member[at] != i:
        at += 1
    return at


@njit(cache=True)
def drop(at: int, member: I64, n_member: int) -> int:
    """Remove the member at `at`, if there is one; returns how many are left."""
    if at == n_member:
        return n_member
    for a in range(at + 1, n_member):
        member[a - 1] = member[a]
    return n_member - 1


@njit(cache=True)
def draw_top_m(
    score: F32, m: int, epsilon: float, uniform: F64, member: I64, taken: I64, index: I64, propensity: F64
) -> bool:
    """Draw index.size positions, each uniformly from the m best left, ties sharing the last seats.

    member  int64 (A,) scratch. False, drawing nothing, when a score is not finite.
    """
    if not all_finite(score):
        return False
    n_member = best(score, min(score.size, m + index.size - 1), member)
    for n in range(index.size):
        left = score.size - n
        seats = min(m, left)
        above, ties = border(score, member, n_member, seats)
        if uniform[n, 0] < epsilon:
            i = nth_left(below(uniform[n, 1], left), taken, n)
            at = find(i, member, n_member)
        else:
            x = uniform[n, 1] * seats
            at = max(0, int(x)) if x < above else above + below((x - above) / (seats - above), ties)
            i = member[at]
        index[n] = i
        propensity[n] = (1.0 - epsilon) * share(at, seats, above, ties) + epsilon / left
        take(i, taken, n)
        n_member = drop(at, member, n_member)
    return True


@njit(cache=True)
def position_top_m(score: F32, m: int, earlier: I64, member: I64, probability: F64) -> None:
    """Write every candidate's probability after the earlier draws, before any epsilon."""
    n_member = best(score, min(score.size, m + earlier.size), member)
    for n in range(earlier.size):
        n_member = drop(find(earlier[n], member, n_member), member, n_member)
    seats = min(m, score.size - earlier.size)
    above, ties = border(score, member, n_member, seats)
    probability[:] = 0.0
    for at in range(n_member):
        probability[member[at]] = share(at, seats, above, ties)


@njit(cache=True)
def draw_greedy(score: F32, member: I64, index: I64, propensity: F64) -> bool:
    """Take the index.size best in order, ties by index, each with probability 1; False as in draw_top_m."""
    if not all_finite(score):
        return False
    best(score, index.size, member)
    for n in range(index.size):
        index[n] = member[n]
        propensity[n] = 1.0
    return True
