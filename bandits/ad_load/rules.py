"""Checks of a policy's parts; what breaks a rule is named by its place in the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, I64

LARGEST = 1e12
"""Magnitude of any number in a policy: scores of finite features stay finite."""
SHOWN = 80

Numbers = Sequence[float] | NDArray[np.float64]


class PolicyError(ValueError):
    """What is wrong with an ad-load policy, and where: `path` is such as `model.weights[2]`, `policy` for all."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


def number(path: str, value: float, low: float = -LARGEST, high: float = LARGEST) -> float:
    """The value as a float in [low, high]. Raises PolicyError."""
    try:
        given = float(value)
    except (TypeError, ValueError):
        raise PolicyError(path, f"must be a number, got {value!r:.{SHOWN}}") from None
    if not low <= given <= high:
        raise PolicyError(path, f"must be a number from {low:g} to {high:g}, got {given:g}")
    return given


def vector(path: str, values: Numbers, length: int, low: float = -LARGEST, high: float = LARGEST) -> F64:
    """The values as float64 (length,), each in [low, high]. Raises PolicyError."""
    return _array(path, values, (length,), low, high)


def rows(path: str, values: Sequence[Numbers] | NDArray[np.float64], shape: tuple[int, int]) -> F64:
    """The values as float64 of this shape. Raises PolicyError at the row or value that does not fit."""
    if len(values) != shape[0]:
        raise PolicyError(path, f"must have {shape[0]} rows, got {len(values)}")
    whole = [_array(f"{path}[{i}]", row, shape[1:], -LARGEST, LARGEST) for i, row in enumerate(values)]
    return np.array(whole).reshape(shape)


def indices(path: str, values: Sequence[int] | NDArray[np.integer[Any]], length: int, low: int, stop: int) -> I64:
    """The values as int64 (length,), each in [low, stop). Raises PolicyError."""
    if len(values) != length:
        raise PolicyError(path, f"must have {length} entries, got {len(values)}")
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise PolicyError(f"{path}[{i}]", f"must be an integer, got {value!r:.{SHOWN}}")
        if not low <= value < stop:
            raise PolicyError(f"{path}[{i}]", f"must be an integer from {low} to {stop - 1}, got {value}")
    return np.array(values, np.int64).reshape(length)


def _array(path: str, values: Numbers, shape: tuple[int, ...], low: float, high: float) -> F64:
    try:
        given = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise PolicyError(path, f"must be a list of {shape[0]} numbers") from None
    if given.shape != shape:
        raise PolicyError(path, f"must have {shape[0]} entries, got shape {given.shape}")
    bad = np.flatnonzero(~((given >= low) & (given <= high)))
    if bad.size:
        number(f"{path}[{bad[0]}]", given[bad[0]], low, high)
    return given
