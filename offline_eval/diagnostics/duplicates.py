"""Rows that stand in the log twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_eval.dataset import BanditLog
from offline_eval.diagnostics.finding import Finding, Level


def duplicates(n: int | None, n_rows: int, first: str = "") -> Finding:
    """n rows repeat an earlier one, of n_rows; None: no test was possible.

    first  where one of them is
    """
    if n is None:
        return Finding("duplicates", Level.NOTE, "not tested: the log has neither decision ids nor timestamps")
    if n == 0:
        return Finding("duplicates", Level.OK, f"none among {n_rows:,} rows")
    where = f" (first: {first})" if first else ""
    return Finding(
        "duplicates",
        Level.REFUSE,
        f"{n:,} of {n_rows:,} rows repeat an earlier one{where}: remove them, else they count twice and intervals are "
        "too narrow",
    )


def repeated(log: BanditLog) -> NDArray[np.intp] | None:
    """Rows that repeat an earlier one in every column, timestamp included, ascending; None without timestamps."""
    if log.timestamp is None:
        return None
    rows = _shared(log.timestamp, np.arange(len(log)))
    for column in _columns(log):
        if not len(rows):
            break
        rows = _shared(_mixed(column[rows]), rows)
    if not len(rows):
        return rows
    return _confirmed(log, rows)


def _shared(key: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of rows (m,), those whose key (m,) another has too."""
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order].view(np.int64)) == 0
    twice = np.zeros(len(key), np.bool_)
    twice[order[1:][same]] = True
    twice[order[:-1][same]] = True
    return rows[twice]


def _columns(log: BanditLog) -> list[NDArray[Any]]:
    """All but the timestamp."""
    named = (log.action, log.reward, log.propensity, log.context, log.user, log.logging, log.allowed, log.count)
    columns: list[NDArray[Any]] = [column for column in named if column is not None]
    if log.action_embedding is not None and log.embeds_rounds:
        columns.append(log.action_embedding)
    return columns


def _mixed(column: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each row of a column, equal where the rows are; uint64 (n,)."""
    parts = np.ascontiguousarray(_words(column))
    mixed = np.zeros(len(parts), np.uint64)
    for j in range(parts.shape[1]):
        mixed = (mixed ^ parts[:, j]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _words(column: NDArray[Any]) -> NDArray[np.uint64]:
    """A column's rows as 64-bit words, (n, m); 0.0 and -0.0 alike."""
    flat = column.reshape(len(column), -1)
    if flat.dtype.kind in "OUS":
        words = [hash(one) & 0xFFFFFFFFFFFFFFFF for one in flat.ravel().tolist()]
        return np.array(words, np.uint64).reshape(flat.shape)
    if flat.dtype.kind == "f":
        return (flat.astype(np.float64) + 0.0).view(np.uint64)
    return flat.astype(np.int64).view(np.uint64)


def _confirmed(log: BanditLog, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of rows that share every hash, those equal to an earlier one value by value."""
    assert log.timestamp is not None
    seen: set[tuple[object, ...]] = set()
    found = []
    columns = [log.timestamp, *_columns(log)]
    for row in rows.tolist():
        key = tuple(value for column in columns for value in np.ravel(column[row]).tolist())
        if key in seen:
            found.append(row)
        seen.add(key)
    return np.array(found, np.intp)
