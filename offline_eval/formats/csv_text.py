"""CSV files as Arrow batches of text, with the physical line of each record."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from offline_eval.errors import BadLog
from offline_eval.formats import text
from offline_eval.formats.chunk import Place
from offline_eval.formats.columns import Faults, nulls
from offline_eval.formats.parquet import unreadable


def header(path: Path) -> list[str]:
    """Names of the columns. Raises BadLog."""
    return _header(path, text.first_line(path).rstrip(b"\r"), 1)


def _header(path: Path, line: bytes, number: int) -> list[str]:
    place = f"{path}: line {number}"
    found = next(csv.reader([line.decode()]), [])
    if not found:
        raise BadLog("header", line.decode(), "must name the columns", place=place)
    repeated = [name for i, name in enumerate(found) if name in found[:i]]
    if repeated:
        raise BadLog("header", repeated[0], "must name each column once", place=place)
    return found


def batches(path: Path) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """All columns as text, null where empty. Raises BadLog, after the records before the fault."""
    names: list[str] = []
    for records, numbers in _records(path):
        if not names and records:
            names = _header(path, records[0], numbers[0])
            records, numbers = records[1:], numbers[1:]
        if not records:
            continue
        batch, bad = _parse(path, names, records)
        good = batch.num_rows
        if good:
            yield batch, Place(str(path), "line", np.array(numbers[:good], np.int64))
        if bad is not None:
            raise bad.at(f"{path}: line {numbers[good]}")


def _records(path: Path) -> Iterator[tuple[list[bytes], list[int]]]:
    """Records and the 1-based line on which each starts; blank lines are passed over."""
    open_record, start = b"", 0
    for block in text.blocks(path):
        records: list[bytes] = []
        numbers: list[int] = []
        for i, ended in enumerate(block.lines):
            line = ended.removesuffix(b"\r")
            if not start and b'"' not in line:
                if line:
                    records.append(line)
                    numbers.append(block.first + i)
                continue
            open_record = open_record + b"\n" + line if start else line
            start = start or block.first + i
            if open_record.count(b'"') % 2 == 0:
                records.append(open_record)
                numbers.append(start)
                open_record, start = b"", 0
            elif len(open_record) > text.BLOCK:
                break
        yield records, numbers
        if len(open_record) > text.BLOCK:
            break
    if start:
        rule = f"a quoted value must end, within {text.BLOCK:,} bytes"
        raise BadLog("line", open_record[:40].decode(errors="replace"), rule, place=f"{path}: line {start}")


def _parse(path: Path, names: list[str], records: list[bytes]) -> tuple[pa.RecordBatch, BadLog | None]:
    """The records before the first that has another number of values, and what is wrong with that one."""
    bad: list[BadLog] = []

    def refuse(row: pyarrow.csv.InvalidRow) -> str:
        value = f"{row.actual_columns} values"
        bad.append(BadLog("line", value, f"must have {row.expected_columns}, as the header"))
        rows.append(row.number)
        return "skip"

    rows: list[int] = []
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(b"\n".join(records) + b"\n"),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 30),
            pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=refuse),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowException as fault:
        raise unreadable(path, fault, "must be CSV") from fault
    table = table.combine_chunks()
    found = pa.RecordBatch.from_arrays(
        [column.chunk(0) if column.num_chunks else pa.nulls(0, pa.string()) for column in table.columns], names
    )
    return (found.slice(0, rows[0] - 1), bad[0]) if bad else (found, None)


def numbers(array: pa.Array, column: str, faults: Faults) -> pa.Array:
    """Text as float64, null where empty."""
    parsed = _cast(array, pa.float64())
    if parsed is not None:
        return parsed
    values = [_number(value) for value in array.to_pylist()]
    found = pa.array(values, pa.float64())
    faults.refuse(nulls(found) & ~nulls(array), column, array, "must be a number")
    return found


def is_numeric(array: pa.Array) -> bool:
    """Whether text is all numbers, at least one."""
    return array.null_count < len(array) and _cast(array, pa.float64()) is not None


def times(array: pa.Array, column: str, faults: Faults) -> pa.Array:
    """Text as microseconds UTC: ISO 8601, without a zone UTC, or integers of microseconds."""
    for kind in (pa.int64(), pa.timestamp("us", "UTC"), pa.timestamp("us")):
        parsed = _cast(array, kind)
        if parsed is not None:
            return parsed.cast(pa.int64())
    values = [_time(value) for value in array.to_pylist()]
    found = pa.array(values, pa.int64())
    rule = "must be a time such as 2023-11-14T22:13:20Z, or an integer of microseconds"
    faults.refuse(nulls(found) & ~nulls(array), column, array, rule)
    return found


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        return pc.utf8_trim_whitespace(array).cast(kind)
    except pa.ArrowInvalid:
        return None


def _number(value: str | None) -> float | None:
    found = _cast(pa.array([value], pa.string()), pa.float64())
    return None if found is None else found[0].as_py()


def _time(value: str | None) -> int | None:
    one = pa.array([value], pa.string())
    for kind in (pa.int64(), pa.timestamp("us", "UTC"), pa.timestamp("us")):
        found = _cast(one, kind)
        if found is not None:
            micros: int | None = found.cast(pa.int64())[0].as_py()
            return micros
    return None
