"""Whether the rows of each decision stand together in an own log, and what to do where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from offline_eval.errors import BadLog
from offline_eval.formats import columns
from offline_eval.formats.chunk import Place
from offline_eval.formats.columns import Faults
from offline_eval.formats.own_rows import decide_rows
from offline_eval.formats.served import Decisions

LARGEST_GATHERED = 1 << 29
"""Bytes of the columns that are held to join a decision's rows which lie apart."""
LONGEST = 10_000
"""Rows of one decision that stand together."""

Batches = Iterator[tuple[pa.RecordBatch, Place]]
Source = Callable[[list[str]], Batches]
"""Reads some columns of a file from its start."""

ORDER = ["timestamp", "decision_id", "position"]
JOINED = ["decision_id", "position", "item", "candidates", "graph", "exclude", "distribution"]
ASKED = ["slots"]
"""Of graphs, beside those."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a file is sorted.

    exported  by (timestamp, decision id, position), as banditd export writes it
    together  the rows of each decision follow each other
    """

    exported: bool
    together: bool


def order(source: Source, there: list[str]) -> Order:
    """Look at a file's order; reads three columns, and where rows are not as exported, those of the candidates too.

    Where a row cannot be read the answer is of the rows before it; whoever reads them again meets the fault.
    """
    if _tolerant(_exported, source(ORDER)):
        return Order(True, True)
    return Order(False, _tolerant(_together, source([name for name in JOINED if name in there])))


def _tolerant(check: Callable[[Batches], bool], batches: Batches) -> bool:
    def readable() -> Batches:
        try:
            yield from batches
        except BadLog:
            return

    return check(readable())


def _exported(batches: Batches) -> bool:
    last: pa.RecordBatch | None = None
    for batch, place in batches:
        faults = Faults(place)
        time = columns.times(batch["timestamp"], "timestamp", faults)
        position = columns.integers(batch["position"], "position", faults, 0)
        decision = columns.texts(batch["decision_id"], "decision_id", faults).cast(pa.large_string())
        rows = pa.record_batch([pa.array(time), decision, pa.array(position)], ORDER)
        if last is not None:
            rows = pa.concat_batches([last, rows])
        if not _rising(rows):
            return False
        last = rows.slice(rows.num_rows - 1)
    return True


def _rising(rows: pa.RecordBatch) -> bool:
    """By (timestamp, decision id, position), the last ones strictly within a decision."""
    n = rows.num_rows
    time = rows["timestamp"].to_numpy()
    position = rows["position"].to_numpy()
    one, next_one = rows["decision_id"].slice(0, n - 1), rows["decision_id"].slice(1)
    same = pc.fill_null(pc.equal(one, next_one), False).to_numpy(zero_copy_only=False)
    lower = pc.fill_null(pc.less(one, next_one), False).to_numpy(zero_copy_only=False)
    later, tied = np.diff(time) > 0, np.diff(time) == 0
    fine = (later & ~same) | (tied & lower) | (tied & same & (np.diff(position) >= 0))
    return bool(fine.all())


def _together(batches: Batches) -> bool:
    """Whether each run of rows of one decision has the row that tells of its candidates; also where no row does."""
    last: str | None = None
    marked, unmarked_run, any_marked = True, False, False
    for batch, _ in batches:
        told = np.zeros(batch.num_rows, bool)
        for name in ("candidates", "graph", "exclude"):
            if name in batch.schema.names:
                told |= ~columns.nulls(batch[name])
        any_marked |= bool(told.any())
        ids = batch["decision_id"].to_pylist()
        for one, tells in zip(ids, told.tolist(), strict=True):
            if one != last:
                unmarked_run |= not marked
                last, marked = one, False
            marked |= tells
    return not (any_marked and (unmarked_run or not marked))


def gather(source: Source, there: list[str], path: str, graphs: Mapping[str, Path]) -> Decisions:
    """All decisions of a file whose rows lie apart. Raises BadLog where they need more than 512 MiB.

    graphs  files by version
    """
    wanted = [name for name in (JOINED + ASKED if graphs else JOINED) if name in there]
    held: list[pa.RecordBatch] = []

    def take(batches: Batches) -> bool:
        size = 0
        for batch, _ in batches:
            size += batch.nbytes
            held.append(batch)
            if size > LARGEST_GATHERED:
                return False
        return True

    if not _tolerant(take, source(wanted)):
        rule = f"at most {LARGEST_GATHERED:,} bytes of decisions that lie apart are joined; sort by {', '.join(ORDER)}"
        raise BadLog("decision_id", "unsorted rows", rule, place=path)
    table = pa.concat_batches(held)
    return decide_rows(table, Faults(Place(path, "row", np.arange(table.num_rows))), graphs).decisions
