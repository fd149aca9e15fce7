"""Reads Parquet files of ids and embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bandits.errors import UsageError
from bandits.names import printable_id

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Rows of a file: ids (n) and vectors float32 (n, d), finite, d >= 1, n >= 1."""

    ids: list[str]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Fault:
    row: int
    column: str
    value: str
    rule: str


def read_embeddings(path: Path, *, unique: bool) -> Embeddings:
    """Read the columns `id` (text) and `embedding` (list of numbers, all of one length).

    unique   refuse an id that appears twice

    Raises UsageError: one line with file, 0-based row, column, value and rule of the first fault.
    """
    ids: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    seen: dict[str, int] = {}
    dimension: int | None = None
    try:
        for batch in _batches(path):
            start = len(ids)
            names = _texts(batch.column("id"), path, start)
            embedding = batch.column("embedding")
            dimension = _dimension(embedding) if dimension is None else dimension
            rows, embedding_fault = _vectors(embedding, dimension, start)
            faults = [fault for fault in (_id_fault(names, start, seen if unique else None), embedding_fault) if fault]
            if faults:
                fault = min(faults, key=lambda fault: fault.row)
                raise UsageError(f"{path}: row {fault.row}: {fault.column}: {fault.rule}, got {fault.value}")
            ids += [name for name in names if name is not None]
            vectors.append(rows)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: must be a readable Parquet file, got {' '.join(str(error).split())}") from None
    if not ids:
        raise UsageError(f"{path}: must have at least one row, got none")
    return Embeddings(ids, np.concatenate(vectors))


def _batches(path: Path) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for column, wanted, fits in (("id", "text", _is_text), ("embedding", "a list of numbers", _is_vector)):
            if schema.names.count(column) != 1:
                raise UsageError(f"{path}: column {column!r} must appear once, got the columns {schema.names[:20]}")
            if not fits(schema.field(column).type):
                raise UsageError(f"{path}: column {column!r} must be {wanted}, got {schema.field(column).type}")
        yield from file.iter_batches(columns=["id", "embedding"])


def _is_text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_vector(kind: Any) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _dimension(embedding: Any) -> int:
    """Length of the first embedding that is not null; 0 where there is none."""
    return next((len(row) for row in embedding if row.is_valid), 0)


def _vectors(embedding: Any, dimension: int, start: int) -> tuple[NDArray[np.float32], _Fault | None]:
    """The batch as float32 (n, d), and its first fault; the array is empty where there is a fault."""
    empty = np.empty((0, 0), np.float32)
    for row, length in enumerate(embedding.value_lengths().to_pylist(), start):
        if length is None:
            return _before(
                embedding, row, dimension, start, _Fault(row, "embedding", "null", "must be a list of numbers")
            )
        if length != dimension or not length:
            rule = f"must have {dimension} components as the first row has" if dimension else "must have a component"
            return _before(embedding, row, dimension, start, _Fault(row, "embedding", f"{length} components", rule))
    values = embedding.flatten()
    if values.null_count:
        at = values.is_null().to_pylist().index(True)
    else:
        numbers = values.to_numpy(zero_copy_only=False)
        outside = ~(np.abs(numbers.astype(np.float64)) <= _LARGEST_FLOAT32)
        if not outside.any():
            return numbers.astype(np.float32).reshape(len(embedding), dimension), None
        at = int(np.argmax(outside))
    rule = f"component {at % dimension} must be finite and within float32"
    return empty, _Fault(start + at // dimension, "embedding", _shown(values[at].as_py()), rule)


def _before(
    embedding: Any, row: int, dimension: int, start: int, fault: _Fault
) -> tuple[NDArray[np.float32], _Fault | None]:
    """An earlier fault in the rows before a fault of shape, or that fault."""
    rows, earlier = _vectors(embedding.slice(0, row - start), dimension, start)
    return rows[:0], earlier or fault


def _id_fault(ids: list[str | None], start: int, seen: dict[str, int] | None) -> _Fault | None:
    for row, name in enumerate(ids, start):
        if name is None or not printable_id(name):
            return _Fault(row, "id", _shown(name), "must be 1 to 128 printable characters")
        if seen is not None:
            if name in seen:
                return _Fault(row, "id", _shown(name), f"must be unique (row {seen[name]} has it too)")
            seen[name] = row
    return None


def _texts(column: Any, path: Path, start: int) -> list[str | None]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        for row, value in enumerate(column, start):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}: row {row}: id: must be UTF-8 text, got {error.object[:80]!r}") from None
        raise


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)[:150]
