"""Columns of lists and maps, flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandits.arrays import F64, I64, Bool
from bandits.names import MAX_WEIGHT
from offline_eval.formats import columns
from offline_eval.formats.chunk import Ragged
from offline_eval.formats.columns import Faults

MAX_CONTEXT = 1 << 24
"""Numbers in the context of one chunk."""


@dataclass(frozen=True, slots=True)
class Lists:
    """n lists; list i holds flat[start[i]:start[i + 1]].

    start  int64 (n+1,)
    flat   what they hold, without gaps
    known  bool (n,) false where there is no list
    """

    start: I64
    flat: pa.Array
    known: Bool

    @property
    def rows(self) -> I64:
        """Of each entry, int64 (E,)."""
        return np.repeat(np.arange(len(self.known)), np.diff(self.start))


def lists(array: pa.Array, column: str, faults: Faults) -> Lists:
    """A column of lists, or of maps (then flat is of key and value)."""
    kind = array.type
    n, known = len(array), ~columns.nulls(array)
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    elif not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        if not pa.types.is_null(kind):
            faults.refuse(known, column, array, f"must be a list, not {kind}")
        return Lists(np.zeros(n + 1, np.int64), pa.nulls(0, pa.string()), np.zeros(n, bool))
    length = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    return Lists(start, array.flatten(), known)


def entries(found: Lists, faults: Faults) -> Faults:
    """Faults of a list's entries, told at the list's row."""
    return _Entries(faults, found.rows)


class _Entries(Faults):
    """Passes faults on."""

    def __init__(self, faults: Faults, rows: I64) -> None:
        self._faults, self._rows = faults, rows

    def refuse(self, mask: Bool, column: str, values: object, rule: str) -> None:
        if not mask.any():
            return
        at = int(np.argmax(mask))
        row = int(self._rows[at])
        n = row + 1
        value = values[at]  # type: ignore[index]
        self._faults.refuse(np.arange(n) == row, column, [value] * n, rule)


def named(array: pa.Array, column: str, faults: Faults) -> tuple[Lists, I64, list[str], F64]:
    """A column of maps from name to number: the lists, and of each entry its name's code, the names, and the value."""
    if not pa.types.is_map(array.type) and not pa.types.is_null(array.type):
        faults.refuse(~columns.nulls(array), column, array, f"must be a map of numbers by name, not {array.type}")
        array = pa.nulls(len(array))
    found = lists(array, column, faults)
    if not pa.types.is_struct(found.flat.type):
        return found, np.empty(0, np.int64), [], np.empty(0)
    keys, values = found.flat.flatten()
    inner = entries(found, faults)
    ids = columns.ids(columns.texts(keys, f"{column} name", inner))
    value = columns.numbers(values, column, inner, optional=True)
    return found, ids.code.astype(np.int64), [str(name) for name in ids.names], value


@dataclass(frozen=True, slots=True)
class Weighted:
    """n contexts of weighted slots; row i holds [start[i]:start[i + 1]] of both.

    start   int64   (n+1,)
    slot    int64   (E,)  different within a row
    weight  float64 (E,)
    """

    start: I64
    slot: I64
    weight: F64

    def ragged(self, low: int, high: int) -> Ragged:
        """Of the rows low .. high."""
        first, last = self.start[low], self.start[high]
        names, code = np.unique(self.slot[first:last], return_inverse=True)
        start = self.start[low : high + 1] - first
        return Ragged(start, code.astype(np.intp), names.tolist(), np.ones(high - low, bool), self.weight[first:last])


def weighted(slots: pa.Array, weights: pa.Array, faults: Faults) -> Weighted:
    """The columns of an own log that hold its contexts, checked."""
    found, sizes = lists(slots, "slots", faults), lists(weights, "weights", faults)
    faults.refuse(~found.known, "slots", slots, columns.MISSING)
    faults.refuse(~sizes.known, "weights", weights, columns.MISSING)
    of_slot, of_weight = entries(found, faults), entries(sizes, faults)
    slot = columns.integers(found.flat, "slots", of_slot, 0)
    weight = columns.numbers(sizes.flat, "weights", of_weight)
    of_weight.refuse(
        np.abs(weight) > MAX_WEIGHT, "weights", sizes.flat, f"must lie in [-{MAX_WEIGHT:g}, {MAX_WEIGHT:g}]"
    )
    length = np.diff(sizes.start)
    unlike = np.diff(found.start) != length
    if unlike.any():
        faults.refuse(unlike, "weights", [f"{k} numbers" for k in length], "must be aligned with slots")
    order = np.lexsort((slot, found.rows))
    again = np.zeros(len(slot), bool)
    again[order[1:]] = (np.diff(slot[order]) == 0) & (np.diff(found.rows[order]) == 0)
    of_slot.refuse(again, "slots", found.flat, "must differ within a row")
    return Weighted(found.start, slot, weight)


def dense(rows: I64, code: I64, value: F64, n: int, width: int) -> F64:
    """float64 (n, width), NaN where a row has no such name; the last of several wins."""
    context = np.full((n, width), np.nan)
    context[rows, code] = value
    return context
