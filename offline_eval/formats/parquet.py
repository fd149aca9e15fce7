"""Parquet files in batches, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Place, Shard

SHARD_ROWS = 500_000
"""Row groups are put together up to about this many rows."""

T = TypeVar("T")


def unreadable(path: Path, fault: Exception, rule: str) -> BadLog:
    """A file as a whole is damaged."""
    if isinstance(fault, OSError) and fault.strerror:
        return BadLog("file", fault.strerror, "must be a file that can be read", place=str(path))
    return BadLog("file", " ".join(str(fault).split()) or type(fault).__name__, rule, place=str(path))


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file. Raises BadLog where it is none."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as fault:
        raise unreadable(path, fault, "must be a whole Parquet file") from fault
    with file:
        yield file


def names(path: Path) -> list[str]:
    """Of the columns. Raises BadLog."""
    with opened(path) as file:
        found: list[str] = file.schema_arrow.names
    repeated = [name for i, name in enumerate(found) if name in found[:i]]
    if repeated:
        raise BadLog(repeated[0], "several columns", "must be the name of one", place=str(path))
    return found


def shards(format_name: str, path: Path, first: int) -> list[Shard]:
    """Runs of row groups. Raises BadLog."""
    with opened(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    found, start, rows = [], 0, 0
    for i, size in enumerate(sizes):
        rows += size
        if rows >= SHARD_ROWS or i == len(sizes) - 1:
            found.append(Shard(format_name, path, first, (start, i + 1)))
            start, first, rows = i + 1, first + rows, 0
    return found or [Shard(format_name, path, first, (0, 0))]


def batches(
    path: Path, part: tuple[int, int] | None, rows: int, columns: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """Some columns of some row groups, at most `rows` rows at a time, and where they stand. Raises BadLog."""
    with opened(path) as file:
        start, stop = part or (0, file.num_row_groups)
        first = sum(file.metadata.row_group(i).num_rows for i in range(start))
        groups = list(range(start, stop))
        found = file.iter_batches(rows, row_groups=groups, columns=list(columns), use_threads=False)
        for batch in _guarded(path, found):
            yield batch, Place(str(path), "row", np.arange(first, first + batch.num_rows))
            first += batch.num_rows


def _guarded(path: Path, found: Iterable[T]) -> Iterator[T]:
    steps = iter(found)
    while True:
        try:
            step = next(steps)
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as fault:
            raise unreadable(path, fault, "must be a whole Parquet file") from fault
        yield step


def require(path: Path, there: Sequence[str], needed: Sequence[str], how: str = "") -> None:
    """Raise BadLog for the first needed column that is not there."""
    for name in needed:
        if name not in there:
            has = ", ".join(there[:20]) + (", .." if len(there) > 20 else "")
            raise BadLog(name, None, f"the file needs this column{how}; it has {has or 'none'}", place=str(path))
