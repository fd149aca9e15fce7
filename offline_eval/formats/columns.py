"""Columns of a batch as checked arrays; of several faults the first row's is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bandits.arrays import F64, I64, Bool
from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Ids, Place

MISSING = "must not be missing"
FINITE = "must be finite"


class Faults:
    """Faults of the rows of one batch: settle raises the first row's; of one row that which was found first."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._row = len(place.number)
        self._fault: BadLog | None = None

    def refuse(self, mask: Bool, column: str, values: pa.Array | NDArray[Any] | Sequence[Any], rule: str) -> None:
        """Rows where mask holds have a value that breaks a rule."""
        row = int(np.argmax(mask)) if mask.size else 0
        if mask.size and mask[row] and row < self._row:
            value = values[row]
            self._row = row
            self._fault = BadLog(column, value.as_py() if isinstance(value, pa.Scalar) else value, rule)

    def settle(self) -> None:
        """Raise BadLog with the first row's fault, where there is one."""
        if self._fault is not None:
            raise self._fault.at(self._place.of(self._row))


def nulls(array: pa.Array) -> Bool:
    """Where a column has no value."""
    found: Bool = array.is_null().to_numpy(zero_copy_only=False)
    return found


def numbers(array: pa.Array, column: str, faults: Faults, *, optional: bool = False, nan: bool = False) -> F64:
    """float64 (n,), NaN where missing.

    optional  missing values are no fault
    nan       nor is NaN, which then stands for a missing value
    """
    missing = nulls(array)
    if not optional:
        faults.refuse(missing, column, array, MISSING)
    plain = _plain(array)
    if not _is_numeric(plain.type):
        faults.refuse(~missing, column, array, f"must be a number, not {_kind(plain.type)}")
        return np.full(len(array), np.nan)
    values: F64 = pc.fill_null(plain.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
    bad = np.isinf(values) if nan else ~np.isfinite(values)
    faults.refuse(bad & ~missing, column, array, FINITE)
    return values


def propensities(array: pa.Array, column: str, faults: Faults, *, optional: bool = False) -> F64:
    """Probabilities in (0, 1], float64 (n,), NaN where missing."""
    values = numbers(array, column, faults, optional=optional)
    faults.refuse((values <= 0.0) | (values > 1.0), column, array, "must lie in (0, 1]")
    return values


def integers(array: pa.Array, column: str, faults: Faults, low: int) -> I64:
    """int64 (n,) of at least low."""
    values = numbers(array, column, faults)
    with np.errstate(invalid="ignore"):
        faults.refuse(np.isfinite(values) & (values != np.floor(values)), column, array, "must be a whole number")
        faults.refuse((values < low) | (values >= 2.0**53), column, array, f"must lie in [{low}, 2**53)")
    return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.int64)


def texts(array: pa.Array, column: str, faults: Faults, *, optional: bool = False) -> pa.Array:
    """Strings, null where missing."""
    missing = nulls(array)
    if not optional:
        faults.refuse(missing, column, array, MISSING)
    plain = _plain(array)
    if pa.types.is_null(plain.type):
        return pa.nulls(len(array), pa.string())
    if not pa.types.is_string(plain.type) and not pa.types.is_large_string(plain.type):
        faults.refuse(~missing, column, array, f"must be text, not {_kind(plain.type)}")
        return pa.nulls(len(array), pa.string())
    return array if pa.types.is_dictionary(array.type) else plain


def times(array: pa.Array, column: str, faults: Faults) -> I64:
    """Microseconds UTC, int64 (n,), of timestamps (without a zone: UTC) or of integers in microseconds."""
    missing = nulls(array)
    faults.refuse(missing, column, array, MISSING)
    plain = _plain(array)
    if pa.types.is_timestamp(plain.type):
        plain = plain.cast(pa.timestamp("us", plain.type.tz), safe=False).cast(pa.int64())
    elif not pa.types.is_integer(plain.type):
        rule = f"must be a timestamp or an integer of microseconds, not {_kind(plain.type)}"
        faults.refuse(~missing, column, array, rule)
        return np.zeros(len(array), np.int64)
    values: I64 = pc.fill_null(plain.cast(pa.int64(), safe=False), 0).to_numpy(zero_copy_only=False)
    return values


def ids(array: pa.Array) -> Ids:
    """Dictionary-encoded, -1 where missing."""
    coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    code = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return Ids(code.astype(np.intp), coded.dictionary.to_pylist())


def number_ids(values: I64) -> Ids:
    """Integers as ids."""
    names, code = np.unique(values, return_inverse=True)
    return Ids(code.astype(np.intp), names.tolist())


def hours(timestamp: I64) -> Ids:
    """Hour of the day, UTC."""
    return Ids((timestamp // 3_600_000_000 % 24).astype(np.intp), range(24))


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return bool(plain or types.is_decimal(kind) or types.is_null(kind))


def _kind(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
