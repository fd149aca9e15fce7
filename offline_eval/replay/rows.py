"""Logged rows as a player meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, I64
from bandits.simulation.policy import Request
from offline_eval.batches import Batch
from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Ragged


@dataclass(frozen=True)
class Lists:
    """A list of columns for each of n rows, in the row's order; row i holds column[start[i]:start[i + 1]].

    start   int64  (n+1,)
    column  intp   (E,)
    known   bool   (n,)   false where the row's list is unknown: every column is meant
    """

    start: NDArray[np.int64]
    column: NDArray[np.intp]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Slots:
    """The contexts of n rows as weighted slots; row i holds slot[start[i]:start[i + 1]].

    start   int64    (n+1,)
    slot    intp     (E,)  different within a row
    weight  float64  (E,)  |weight| <= 16
    """

    start: NDArray[np.int64]
    slot: NDArray[np.intp]
    weight: F64

    @classmethod
    def of(cls, context: F64, divisor: F64) -> Slots:
        """Column i is slot i, its weight the value over divisor[i]; rows without any get the constant slot d.

        context  float64 (n, d), NaN where missing
        divisor  float64 (d,)
        """
        n, d = context.shape
        wide = np.zeros((n, d + 1))
        wide[:, :d] = np.nan_to_num(context, nan=0.0) / divisor
        wide[:, d] = ~wide[:, :d].any(axis=1)
        row, slot = np.nonzero(wide)
        start = np.searchsorted(row, np.arange(n + 1)).astype(np.int64)
        return cls(start, slot, wide[row, slot])

    @classmethod
    def numbered(cls, contexts: Ragged, numbers: I64) -> Slots:
        """Contexts of the log's own slots, slot i being numbers[i], int64 ascending; a row may have none."""
        assert contexts.value is not None
        at = np.searchsorted(numbers, np.array(contexts.names, np.int64))
        return cls(contexts.start, at[contexts.code], contexts.value)


@dataclass(frozen=True)
class Rows:
    """n rows of a log, in the order in which they are played.

    action      intp     (n,)  column of what was chosen
    reward      float64  (n,)
    propensity  float64  (n,)
    n_actions   K
    slots       the contexts
    candidates  what could have been chosen; None: every action in every row
    count       float64  (n,)  rows that each one stands for, or None
    """

    action: NDArray[np.intp]
    reward: F64
    propensity: F64
    n_actions: int
    slots: Slots
    candidates: Lists | None = None
    count: F64 | None = None

    def __len__(self) -> int:
        return len(self.action)

    @cached_property
    def entries(self) -> tuple[I64, NDArray[np.intp]]:
        """Candidates of all rows, unknown ones written out: start int64 (n+1,) and columns intp (E,)."""
        lists, n, width = self.candidates, len(self), self.n_actions
        if lists is None:
            return np.arange(n + 1) * width, np.tile(np.arange(width), n)
        if lists.known.all():
            return lists.start, lists.column
        start = np.concatenate([[0], np.cumsum(np.where(lists.known, np.diff(lists.start), width))])
        known = np.repeat(lists.known, np.diff(start))
        column = np.empty(start[-1], np.intp)
        column[known] = lists.column
        column[~known] = np.tile(np.arange(width), int((~lists.known).sum()))
        return start, column

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """Place of the logged action among its row's candidates, intp (n,); -1 where it is none of them."""
        place = self.action.copy()
        if self.candidates is not None:
            lists = self.candidates
            place[lists.known] = -1
            row = np.repeat(np.arange(len(self)), np.diff(lists.start))
            found = np.flatnonzero(lists.column == self.action[row])
            place[row[found]] = found - lists.start[row[found]]
        return place

    def requests(self) -> Iterator[tuple[Request, int]]:
        """Each row as a request, with the place of the logged action among its candidates."""
        start, column = self.entries[0].tolist(), self.entries[1]
        slot_start, slot, weight = self.slots.start.tolist(), self.slots.slot, self.slots.weight
        for i, place in enumerate(self.place.tolist()):
            here = slice(slot_start[i], slot_start[i + 1])
            yield Request(i, slot[here], weight[here], column[start[i] : start[i + 1]]), place


def rows_of(batch: Batch, slots: Slots) -> Rows:
    """Rows of a batch, whose contexts are these slots.

    Raises BadLog where a row's action is none of its candidates.
    """
    ragged = batch.chunk.candidates
    lists = None
    if ragged is not None and ragged.known.any():
        lists = Lists(ragged.start, batch.entries(ragged)[1], ragged.known)
    rows = Rows(
        action=batch.action,
        reward=batch.reward,
        propensity=batch.chunk.propensity,
        n_actions=batch.n_actions,
        slots=slots,
        candidates=lists,
        count=batch.chunk.count,
    )
    if (rows.place < 0).any():
        row = int(np.argmin(rows.place))
        name = batch.frame.actions.ids[batch.action[row]]
        raise BadLog("action", name, "must be one of the row's candidates", place=batch.chunk.place.of(row))
    return rows
