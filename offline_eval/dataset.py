"""A log of one-action rounds as checked arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits.arrays import F64, Bool
from offline_eval.errors import BadLog

SUM_TOLERANCE = 1e-6
"""Of the probabilities of a row, and between a row's propensity and its whole distribution."""

LARGEST = 1e50
"""Size of a reward or of a number of the context, and of 1 / propensity: beyond it sums of squares would overflow."""
TOO_LARGE, TOO_SMALL = f"must lie within {LARGEST:g} of 0", f"must be at least {1 / LARGEST:g}"


@dataclass(frozen=True)
class BanditLog:
    """n logged rounds over actions 0 .. n_actions - 1.

    context           float64  (n, d)  or None
    action            intp     (n,)
    reward            float64  (n,)
    propensity        float64  (n,)    probability in (0, 1] with which the logging policy chose the action
    logging           float64  (n, K)  all of the logging policy's probabilities, or None
    user              object   (n,)    whose round it is, None where unknown; or None
    timestamp         int64    (n,)    microseconds, or None
    action_embedding  (K, e) of each action, or (n, e) of each round's action; or None
    allowed           bool     (n, K)  actions that could have been chosen; None: all
    count             float64  (n,)    rounds that each one stands for (1 / (1 - pdrop)); None: 1

    Raises BadLog, naming column, row, value and rule.
    """

    context: F64 | None
    action: NDArray[np.intp]
    reward: F64
    propensity: F64
    n_actions: int
    logging: F64 | None = None
    user: NDArray[Any] | None = None
    timestamp: NDArray[np.int64] | None = None
    action_embedding: NDArray[Any] | None = None
    allowed: Bool | None = None
    count: F64 | None = None

    def __init__(
        self,
        context: ArrayLike | None,
        action: ArrayLike,
        reward: ArrayLike,
        propensity: ArrayLike,
        n_actions: int,
        logging: ArrayLike | None = None,
        user: ArrayLike | None = None,
        timestamp: ArrayLike | None = None,
        action_embedding: ArrayLike | None = None,
        allowed: ArrayLike | None = None,
        count: ArrayLike | None = None,
    ) -> None:
        if isinstance(n_actions, bool) or not isinstance(n_actions, (int, np.integer)) or n_actions < 1:
            raise BadLog("n_actions", n_actions, "must be an integer >= 1")
        k = int(n_actions)
        rewards = _numbers("reward", reward)
        n = len(rewards)
        self._set("n_actions", k)
        self._set("reward", rewards)
        self._set("action", _actions(action, n, k))
        self._set("propensity", _propensities(propensity, n))
        self._set("context", None if context is None else _matrix("context", context, n))
        self._set("allowed", None if allowed is None else _allowed(allowed, self.action, k))
        self._set("logging", None if logging is None else _logging(logging, self))
        self._set("user", None if user is None else _column("user", user, n))
        self._set("timestamp", None if timestamp is None else _timestamps(timestamp, n))
        self._set("action_embedding", None if action_embedding is None else _embedding(action_embedding, n, k))
        self._set("count", None if count is None else _counts(count, n))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def unchecked(cls, **columns: Any) -> BanditLog:
        """From columns that were checked before; those left out are None. Rows of `logging` may be NaN: unknown."""
        log = object.__new__(cls)
        for name in cls.__dataclass_fields__:
            log._set(name, columns.get(name))
        return log

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, which: slice | NDArray[Any]) -> BanditLog:
        """Some of the rounds, unchecked."""
        part = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            per_round = isinstance(value, np.ndarray) and (name != "action_embedding" or self.embeds_rounds)
            part[name] = value[which] if per_round else value
        return BanditLog.unchecked(**part)

    @property
    def embeds_rounds(self) -> bool:
        """Whether action_embedding has a row per round, not per action."""
        return self.action_embedding is not None and len(self.action_embedding) != self.n_actions

    def with_columns(self, **columns: Any) -> BanditLog:
        """A checked copy with other columns."""
        return replace(self, **columns)


def first(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first true entry."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def refuse_where(mask: NDArray[np.bool_], column: str, values: NDArray[Any], rule: str) -> None:
    """Raise BadLog for the first row where mask holds; values (n,) or (n, m) as mask."""
    if mask.any():
        at = first(mask)
        where = column if len(at) == 1 else f"{column}[{at[1]}]"
        raise BadLog(where, values[at], rule, place=f"row {at[0]}")


def _array(column: str, values: ArrayLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as fault:
        raise BadLog(column, type(values).__name__, "rows must have the same length") from fault
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise BadLog(column, array.shape, f"shape must be ({wanted}{',' if len(shape) == 1 else ''})")
    return array


def _numeric(column: str, array: NDArray[Any]) -> F64:
    if array.dtype.kind not in "biuf":
        raise BadLog(column, str(array.dtype), "must be numbers")
    return np.ascontiguousarray(array, np.float64)


def _numbers(column: str, values: ArrayLike, n: int | None = None) -> F64:
    array = _numeric(column, _array(column, values, (n,)))
    refuse_where(~np.isfinite(array), column, array, "must be finite")
    refuse_where(np.abs(array) > LARGEST, column, array, TOO_LARGE)
    return array


def _matrix(column: str, values: ArrayLike, n: int) -> F64:
    array = _numeric(column, _array(column, values, (n, None)))
    refuse_where(~np.isfinite(array), column, array, "must be finite")
    refuse_where(np.abs(array) > LARGEST, column, array, TOO_LARGE)
    return array


def _column(column: str, values: ArrayLike, n: int) -> NDArray[Any]:
    return _array(column, values, (n,))


def _actions(values: ArrayLike, n: int, k: int) -> NDArray[np.intp]:
    array = _array("action", values, (n,))
    if array.dtype.kind not in "iu" and n:
        raise BadLog("action", str(array.dtype), "must be integers")
    refuse_where((array < 0) | (array >= k), "action", array, f"must lie in [0, {k})")
    return array.astype(np.intp)


def _propensities(values: ArrayLike, n: int) -> F64:
    array = _numeric("propensity", _array("propensity", values, (n,)))
    refuse_where(~((array > 0) & (array <= 1)), "propensity", array, "must lie in (0, 1]")
    refuse_where(array < 1 / LARGEST, "propensity", array, TOO_SMALL)
    return array


def _timestamps(values: ArrayLike, n: int) -> NDArray[np.int64]:
    array = _array("timestamp", values, (n,))
    if array.dtype.kind == "M":
        refuse_where(np.isnat(array), "timestamp", array, "must be a time")
        return array.astype("datetime64[us]").astype(np.int64)
    if array.dtype.kind not in "iu" and n:
        raise BadLog("timestamp", str(array.dtype), "must be integers (microseconds) or datetime64")
    return array.astype(np.int64)


def _counts(values: ArrayLike, n: int) -> F64:
    array = _numbers("count", values, n)
    refuse_where(array <= 0, "count", array, "must be > 0")
    return array


def _allowed(values: ArrayLike, action: NDArray[np.intp], k: int) -> Bool:
    array = _array("allowed", values, (len(action), k))
    if array.dtype.kind != "b":
        raise BadLog("allowed", str(array.dtype), "must be booleans")
    chosen = array[np.arange(len(action)), action]
    refuse_where(~chosen, "action", action, "was not allowed in its round")
    return array


def _logging(values: ArrayLike, log: BanditLog) -> F64:
    array = distribution("logging", values, len(log), log.n_actions)
    if log.allowed is not None:
        refuse_where((array > 0) & ~log.allowed, "logging", array, "must be 0 where the action is not allowed")
    chosen = array[np.arange(len(log)), log.action]
    refuse_where(chosen == 0, "action", log.action, "has probability 0 in logging")
    return array


def distribution(column: str, values: ArrayLike, n: int, k: int) -> F64:
    """Probabilities float64 (n, k), each row summing to 1. Raises BadLog."""
    array = _numeric(column, _array(column, values, (n, k)))
    refuse_where(~((array >= 0) & (array <= 1 + SUM_TOLERANCE)), column, array, "must be a probability")
    total = array.sum(axis=1)
    refuse_where(np.abs(total - 1.0) > SUM_TOLERANCE, f"sum of {column}", total, "must be 1")
    return array


def _embedding(values: ArrayLike, n: int, k: int) -> NDArray[Any]:
    array = _array("action_embedding", values, (None, None))
    if len(array) not in (n, k):
        raise BadLog("action_embedding", array.shape, f"must have a row per action ({k}) or per round ({n})")
    return array
