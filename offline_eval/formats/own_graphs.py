"""Candidates that an own log leaves to its graphs: rebuilt from slots and exclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandits.arrays import I32, I64, Bool
from bandits.graph import Graph
from bandits.kernels.union import Asked, count_candidates, write_candidates
from offline_eval.formats import columns
from offline_eval.formats.chunk import Ids
from offline_eval.formats.columns import Faults
from offline_eval.formats.graph_files import load
from offline_eval.formats.lists import Lists, entries, lists

MAX_CANDIDATES = 1 << 22
"""Of a chunk, where graphs give them."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What n rows asked of graphs that are given.

    graphs   (path, version) of each
    of       int64 (n,)  which one each row asked, -1: none, or one that is not given
    slots    of each row, `flat` being slot
    slot     int64 (S,)
    exclude  of each row, `flat` text
    """

    graphs: Sequence[tuple[Path, str]]
    of: I64
    slots: Lists
    slot: I64
    exclude: Lists


def versions(batch: pa.RecordBatch, faults: Faults) -> Ids:
    """Of the graph that each row names."""
    if "graph" not in batch.schema.names:
        return Ids(np.full(batch.num_rows, -1), [])
    return columns.ids(columns.texts(batch["graph"], "graph", faults, optional=True))


def questions(
    batch: pa.RecordBatch, version: Ids, listed: Bool, given: Mapping[str, Path], faults: Faults
) -> Questions | None:
    """Of rows that name a graph and hold no candidates; None where no such graph is given.

    listed  bool (n,) whether a row holds candidates
    given   files by version
    """
    known = [str(name) for name in version.names if name in given]
    at = {name: k for k, name in enumerate(known)}
    of = np.array([*(at.get(str(name), -1) for name in version.names), -1], np.int64)[version.code]
    of[listed] = -1
    if not (of >= 0).any():
        return None
    graphs = [(given[name], name) for name in known]
    there = batch.schema.names
    exclude = lists(batch["exclude"] if "exclude" in there else pa.nulls(len(of)), "exclude", faults)
    slots = lists(batch["slots"], "slots", faults)
    faults.refuse((of >= 0) & ~slots.known, "slots", batch["slots"], columns.MISSING)
    inner = entries(slots, faults)
    slot = columns.integers(slots.flat, "slots", inner, 0)
    asked = of[slots.rows]
    for k, one in enumerate(graphs):
        n = load(*one).n_clusters
        inner.refuse((asked == k) & (slot >= n), "slots", slots.flat, f"graph {one[1]} has {n:,} clusters")
    return Questions(graphs, of, slots, slot, exclude)


@dataclass(frozen=True)
class Rebuilt:
    """Candidates of n rows of whole decisions, counted, and written where they are asked for.

    questions            of the rows themselves
    head                 int64 (n,)  row that asked for each row's decision, -1: none
    group                int64 (n,)  decision of each row
    position, item       int64, intp (n,)  place in the slate, and what was served, into names
    out                  intp (X,)  excluded items, into names
    names                of items
    """

    questions: Questions
    head: I64
    group: I64
    position: I64
    item: NDArray[np.intp]
    out: NDArray[np.intp]
    names: Sequence[str]
    _kept: dict[int, tuple[I32, Asked]] = field(default_factory=dict, repr=False)
    """Of the graph last used: the place of each name, and what was asked."""

    @cached_property
    def of(self) -> I64:
        """Which graph gave each row's candidates, int64 (n,), -1: none."""
        found: I64 = np.where(self.head >= 0, self.questions.of[self.head], -1)
        return found

    @cached_property
    def counted(self) -> tuple[I64, Bool]:
        """How many candidates each row had, 0 where no graph gave them; and whether its item is none of the decision's.

        int64 (n,) and bool (n,)
        """
        length, missing = np.zeros(len(self.of), np.int64), np.zeros(len(self.of), bool)
        for k in range(len(self.questions.graphs)):
            rows = np.flatnonzero(self.of == k)
            if len(rows):
                graph = self._graph(k)
                count_candidates(self._asked(k, graph)[1], rows, _stamp(graph), length, missing)
        return length, missing

    def write(self, rows: I64) -> tuple[I64, NDArray[np.intp], list[str]]:
        """Candidates of some rows, one row after the other: their lengths, codes, and the names that codes are of."""
        of, length, names = self.of[rows], self.counted[0][rows], list(self.names)
        start = np.cumsum(length) - length
        code, further = np.empty(int(length.sum()), np.intp), dict[str, int]()
        for k in np.unique(of[of >= 0]).tolist():
            mine, graph = np.flatnonzero(of == k), self._graph(k)
            (place, asked), size = self._asked(k, graph), length[mine]
            item = np.empty(int(size.sum()), np.int32)
            write_candidates(asked, rows[mine], _stamp(graph), item)
            entry = np.arange(len(item)) + np.repeat(start[mine] - (np.cumsum(size) - size), size)
            code[entry] = self._codes(graph, place, item, further)[item]
        return length, code, [*names, *further]

    def _codes(self, graph: Graph, place: I32, item: I32, further: dict[str, int]) -> NDArray[np.intp]:
        """Code of each of a graph's items, of those used at least; further names get the next ones."""
        code = np.full(len(graph.items), -1, np.intp)
        code[place[place >= 0]] = np.flatnonzero(place >= 0)
        for at in np.flatnonzero((np.bincount(item, minlength=len(code)) > 0) & (code < 0)).tolist():
            code[at] = further.setdefault(graph.items[at], len(self.names) + len(further))
        return code

    def _graph(self, k: int) -> Graph:
        return load(*self.questions.graphs[k])

    def _asked(self, k: int, graph: Graph) -> tuple[I32, Asked]:
        if k not in self._kept:
            self._kept.clear()
            place = np.array([graph.index.get(name, -1) for name in self.names], np.int32)
            slots, exclude = self.questions.slots, self.questions.exclude
            of_rows = slots.start, self.questions.slot, exclude.start, place[self.out], self.group, *self._members
            edges = graph.row_start, graph.row_item
            self._kept[k] = place, Asked(*edges, self.head, *of_rows, self.position, place[self.item])
        return self._kept[k]

    @cached_property
    def _members(self) -> tuple[I64, I64]:
        """Rows by decision and position, and where each decision's start among them."""
        first = np.concatenate([[0], np.cumsum(np.bincount(self.group))])
        return first, np.lexsort((self.position, self.group))


def _stamp(graph: Graph) -> I64:
    return np.full(len(graph.items), -1, np.int64)
