"""From scores to a distribution over the allowed loads in which none of them is too rare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bandits.arrays import F64, Bool


def over_allowed(logging: F64, allowed: Bool) -> F64:
    """The logging distribution of each row: `logging` divided by its sum over the row's allowed loads.

    logging  float64 (L,)    sums to 1
    allowed  bool    (n, L)
    Returns float64 (n, L), 0 where not allowed; uniform over the allowed where `logging` gives them nothing.

    Raises ValueError naming a row that allows no load.
    """
    if not allowed.any(axis=1).all():
        row = int(np.flatnonzero(~allowed.any(axis=1))[0])
        raise ValueError(f"allowed must hold at least one load, got none at row {row}")
    kept = np.where(allowed, logging, 0.0)
    total = kept.sum(axis=1, keepdims=True)
    kept = np.where(total > 0, kept, allowed)
    share: F64 = kept / kept.sum(axis=1, keepdims=True)
    return share


def softmax(scores: F64, allowed: Bool) -> F64:
    """Softmax of each row over its allowed loads, float64 (n, L), 0 elsewhere; every row allows a load."""
    kept = np.where(allowed, scores, -np.inf)
    grown = np.exp(kept - kept.max(axis=1, keepdims=True))
    share: F64 = grown / grown.sum(axis=1, keepdims=True)
    return share


def lifted(target: F64, logging: F64, allowed: Bool, floor: float) -> F64:
    """(1 - s) * target + s * logging in each row, with the smallest s in [0, 1] that lifts every allowed load to floor.

    target, logging  float64 (n, L)  rows sum to 1, 0 where not allowed
    Where no s does, the row is its logging distribution.
    """
    low, high = allowed & (target < floor), allowed & (logging < floor)
    wanted, gained, one_sided = floor - target, logging - target, low ^ high
    share = np.divide(wanted, gained, out=np.zeros_like(target), where=one_sided)
    least = np.where(low, share, 0.0).max(axis=1, keepdims=True)
    most = np.where(high, share, 1.0).min(axis=1, keepdims=True)
    possible = ~(low & high).any(axis=1, keepdims=True) & (least <= most)
    s = np.where(possible, least, 1.0)
    mixed = (1.0 - s) * target + s * logging
    # Rounding may leave a lifted load one unit below the floor.
    exact: F64 = np.where(allowed & possible, np.maximum(mixed, floor), mixed)
    return exact


def draw(distribution: Sequence[float], uniform: float) -> int:
    """Index drawn from a distribution by one number in [0, 1); an index of probability 0 is never drawn."""
    if not 0.0 <= uniform < 1.0:
        raise ValueError(f"uniform must lie in [0, 1), got {uniform}")
    below, last = 0.0, -1
    for index, share in enumerate(distribution):
        if share > 0.0:
            below, last = below + share, index
            if uniform < below:
                break
    if last < 0:
        raise ValueError("distribution must have an entry above 0")
    return last
