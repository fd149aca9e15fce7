"""Logged rows as a player meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from bandits.simulation.policy import Request
from offline_eval.batches import Batch
from offline_eval.errors import BadLog


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
        everything = np.arange(self.n_actions)
        start, slot, weight = self.slots.start.tolist(), self.slots.slot, self.slots.weight
        lists = self.candidates
        bounds = [] if lists is None else lists.start.tolist()
        for i, place in enumerate(self.place.tolist()):
            candidates = everything
            if lists is not None and lists.known[i]:
                candidates = lists.column[bounds[i] : bounds[i + 1]]
            here = slice(start[i], start[i + 1])
            yield Request(i, slot[here], weight[here], candidates), place


def rows_of(batch: Batch, divisor: F64) -> Rows:
    """Rows of a batch, its context divided by divisor, float64 (d,).

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
        slots=Slots.of(batch.context, divisor),
        candidates=lists,
        count=batch.chunk.count,
    )
    if (rows.place < 0).any():
        row = int(np.argmin(rows.place))
        name = batch.frame.actions.ids[batch.action[row]]
        raise BadLog("action", name, "must be one of the row's candidates", place=batch.chunk.place.of(row))
    return rows
