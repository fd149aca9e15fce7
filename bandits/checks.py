"""Checks of what a caller hands to a learner, shared by the float64 learners."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits.names import MAX_WEIGHT


def count(name: str, value: int) -> int:
    """The value as a count >= 1. Raises ValueError, TypeError where it is no integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
    return int(value)


def bounded(name: str, value: float, low: float, *, open_low: bool = False) -> float:
    """The value as a finite float >= low (> low with open_low). Raises ValueError."""
    number = float(value)
    if not math.isfinite(number) or number < low or (open_low and number == low):
        raise ValueError(f"{name} must be finite and {'>' if open_low else '>='} {low:g}, got {value!r}")
    return number


def finite(name: str, value: float) -> float:
    """The value as a finite float. Raises ValueError."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def arm_index(arm: int, n_arms: int) -> int:
    """The arm as an int in [0, n_arms). Raises ValueError, TypeError where it is no integer."""
    if isinstance(arm, bool) or not isinstance(arm, (int, np.integer)):
        raise TypeError(f"arm must be an integer, got {arm!r}")
    if not 0 <= arm < n_arms:
        raise ValueError(f"arm must lie in [0, {n_arms}), got {arm}")
    return int(arm)


def context(
    slots: ArrayLike, weights: ArrayLike, n_slots: int, n_dimensions: int = 1
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """A context as (slots intp (K,), weights float64 (K,)), or n of them as (n, K) each with n_dimensions 2.

    Raises ValueError unless both are of one shape, the slots lie in [0, n_slots) and differ within a context,
    and the weights are finite and at most 16 in magnitude.
    """
    raw = np.asarray(slots)
    weight = np.asarray(weights, dtype=np.float64)
    if raw.ndim != n_dimensions or raw.shape != weight.shape:
        wanted = "(K,)" if n_dimensions == 1 else "(n, K)"
        raise ValueError(f"slots and weights must be of one shape {wanted}, got {raw.shape} and {weight.shape}")
    if raw.size == 0:
        return raw.astype(np.intp), weight
    if not np.issubdtype(raw.dtype, np.integer):
        raise ValueError(f"slots must be integers, got {raw.dtype}")
    if raw.min() < 0 or raw.max() >= n_slots:
        at = _first((raw < 0) | (raw >= n_slots))
        raise ValueError(f"slot must lie in [0, {n_slots}), got {raw[at]} at {_place(at)}")
    ordered = np.sort(raw, axis=-1)
    repeated = ordered[..., 1:] == ordered[..., :-1]
    if repeated.any():
        at = _first(repeated)
        raise ValueError(f"slots of a context must differ, got {ordered[at]} twice{_row(at)}")
    if not (np.abs(weight) <= MAX_WEIGHT).all():
        at = _first(~(np.abs(weight) <= MAX_WEIGHT))
        raise ValueError(
            f"weight must be finite and at most {MAX_WEIGHT:g} in magnitude, got {weight[at]} at {_place(at)}"
        )
    return raw.astype(np.intp), weight


def _first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _place(at: tuple[int, ...]) -> str:
    return f"position {at[-1]}{_row(at)}"


def _row(at: tuple[int, ...]) -> str:
    return f" of row {at[0]}" if len(at) > 1 else ""
