"""What could have been served in each row, where a decision's candidates stand on its first row alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, I64, Bool
from offline_eval.formats.chunk import Ids, Ragged
from offline_eval.formats.own_graphs import MAX_CANDIDATES, Questions, Rebuilt


@dataclass(frozen=True, slots=True)
class Decisions:
    """n rows of some decisions, all of theirs unless they are a part.

    row       int64 (n,)  number of each among all rows
    head      int64 (n,)  row, of all, that tells of the candidates of each row's decision, -1 where none does
    position  int64 (n,)
    start     int64 (n+1,) of each row's own list of candidates
    code      intp (E,)   candidates, into names
    value     float64 (E,) logging probability of each at position 0, NaN where unknown
    until     int64 (E,)  position at which each candidate was served, the largest int64 where it never was
    known     bool (n,)   whether the row holds a list of candidates itself
    missing   bool (n,)   whether the item is not among the decision's known candidates
    graph     version of the graph that each row names itself
    rebuilt   candidates that graphs gave, of all rows; None: no row asked a graph that is given

    start, code, value, until, known and graph are of all rows.
    """

    row: I64
    head: I64
    position: I64
    start: I64
    code: NDArray[np.intp]
    names: Sequence[str]
    value: F64
    until: I64
    known: Bool
    missing: Bool
    graph: Ids
    rebuilt: Rebuilt | None

    def part(self, low: int, n: int) -> Decisions:
        """The n rows from low on."""
        rows = slice(low, low + n)
        row, head, position = self.row[rows], self.head[rows], self.position[rows]
        return replace(self, row=row, head=head, position=position, missing=self.missing[rows])

    def fitting(self, low: int, high: int, most_listed: int) -> int:
        """How many of the rows low .. high, at least one, have candidates that fit a chunk."""
        most = np.cumsum(self._lengths(low, high)).searchsorted(most_listed, "right")
        if self.rebuilt is not None:
            length = self.rebuilt.counted[0][self.row[low:high]]
            most = min(most, np.cumsum(length).searchsorted(MAX_CANDIDATES, "right"))
        return max(1, int(most))

    def _lengths(self, low: int, high: int) -> I64:
        """Candidates of the rows low .. high at position 0; 0 where no list has them."""
        head = self.head[low:high]
        known = (head >= 0) & self.known[head]
        length: I64 = np.where(known, np.diff(self.start)[head], 0)
        return length

    def versions(self, low: int, high: int) -> Ids:
        """Of the graph that the decision of each of the rows low .. high names."""
        head = self.head[low:high]
        return Ids(np.where(head >= 0, self.graph.code[head], -1), self.graph.names)

    def candidates(self, low: int, high: int) -> Ragged:
        """Of the rows low .. high, without what was served at earlier positions."""
        listed = self._listed(low, high)
        if self.rebuilt is None:
            return listed
        rows = self.row[low:high]
        length, code, names = self.rebuilt.write(rows)
        return _beside(listed, length, code, names, listed.known | (self.rebuilt.of[rows] >= 0))

    def _listed(self, low: int, high: int) -> Ragged:
        head = self.head[low:high]
        known = (head >= 0) & self.known[head]
        source = np.where(known, head, 0)
        length = self._lengths(low, high)
        edge = np.concatenate([[0], np.cumsum(length)])
        entry = np.arange(edge[-1]) + np.repeat(self.start[source] - edge[:-1], length)
        row = np.repeat(np.arange(high - low), length)
        position = self.position[low:high]
        keep = self.until[entry] >= position[row]
        entry, row = entry[keep], row[keep]
        value = np.where(position[row] == 0, self.value[entry], np.nan)
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=high - low))]).astype(np.int64)
        return Ragged(start, self.code[entry], self.names, known, value)


def _beside(listed: Ragged, length: I64, code: NDArray[np.intp], names: Sequence[str], known: Bool) -> Ragged:
    """Lists, and others of rows that they do not have, whose law is unknown."""
    assert listed.value is not None
    own = np.diff(listed.start)
    start = np.concatenate([[0], np.cumsum(own + length)]).astype(np.int64)
    from_list = np.repeat(own > 0, own + length)
    whole, value = np.empty(start[-1], np.intp), np.full(start[-1], np.nan)
    whole[from_list], whole[~from_list] = listed.code, code
    value[from_list] = listed.value
    return Ragged(start, whole, names, known, value)


def decide(
    decision: NDArray[np.uint64],
    position: I64,
    item: NDArray[np.intp],
    marked: Bool,
    start: I64,
    code: NDArray[np.intp],
    names: Sequence[str],
    value: F64,
    known: Bool,
    graph: Ids,
    asked: Questions | None,
    out: NDArray[np.intp],
) -> Decisions:
    """Join rows with their decision's first one, wherever it stands.

    decision  hash of its id
    item      what was served, into names
    marked    rows that tell of the candidates: by a list, or by the version of a graph
    graph     version that each row names
    asked     of rows that leave their candidates to graphs that are given
    out       excluded items of those, into names
    """
    n = len(decision)
    order = np.lexsort((position, ~marked, decision))
    new = np.ones(n, bool)
    new[1:] = decision[order[1:]] != decision[order[:-1]]
    group = np.empty(n, np.int64)
    group[order] = np.cumsum(new) - 1
    leader = order[new]
    head = np.where(marked[leader], leader, -1)[group]
    width = max(len(names), 1)
    row = np.repeat(np.arange(n), np.diff(start))
    wanted, served = group[row] * width + code, group * width + item
    until, missing = _match(wanted, served, position, row == head[row])
    missing &= (head >= 0) & known[head]
    rebuilt = None
    if asked is not None:
        rebuilt = Rebuilt(asked, head, group, position, item, out, names)
        missing |= rebuilt.counted[1]
    return Decisions(np.arange(n), head, position, start, code, names, value, until, known, missing, graph, rebuilt)


def _match(wanted: I64, served: I64, position: I64, heads: Bool) -> tuple[I64, Bool]:
    """For each wanted key the lowest position at which it was served; and which of the served are not wanted."""
    until = np.full(len(wanted), np.iinfo(np.int64).max)
    order = np.lexsort((position, served))
    keys = served[order]
    missing = np.ones(len(served), bool)
    if len(keys):
        at = np.searchsorted(keys, wanted)
        found = keys[np.minimum(at, len(keys) - 1)] == wanted
        until[found] = position[order[at[found]]]
        entries = np.sort(wanted[heads])
        if len(entries):
            near = np.minimum(np.searchsorted(entries, served), len(entries) - 1)
            missing = entries[near] != served
    return until, missing
