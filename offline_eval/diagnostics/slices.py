"""Sums per category of a segment (position, hour, mode, half of a feature), and per action within it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from offline_eval.formats.chunk import Id, Ids

MAX_CATEGORIES = 50
"""Of a segment; further ones are told together as "other"."""
MAX_HALVED = 8
"""Columns of the context that are halved."""

SUMS = 6
OTHER = "other"


@dataclass
class Slices:
    """Sums of 1, c, c^2, c v, c^2 v, c^2 v^2 by segment and category.

    width       columns per category
    categories  by segment, place of each category
    sums        by segment, float64 (categories, width, 6)
    """

    width: int
    categories: dict[str, dict[Id, int]] = field(default_factory=dict)
    sums: dict[str, F64] = field(default_factory=dict)

    def place(self, segment: str, ids: Ids) -> tuple[NDArray[np.intp], F64]:
        """Row of each of m ids among the segment's sums, intp (m,), -1 where missing; and those sums, to add to."""
        row = np.array([*(self._row(segment, name) for name in ids.names), -1], np.intp)[ids.code]
        return row, self._grown(segment)

    def _row(self, segment: str, name: Id) -> int:
        rows = self.categories.setdefault(segment, {})
        if name not in rows and len(rows) >= MAX_CATEGORIES:
            name = OTHER
        return rows.setdefault(name, len(rows))

    def _grown(self, segment: str) -> F64:
        size = len(self.categories.get(segment, ()))
        sums = self.sums.get(segment, np.zeros((0, self.width, SUMS)))
        if len(sums) < size:
            sums = np.concatenate([sums, np.zeros((size - len(sums), self.width, SUMS))])
        self.sums[segment] = sums
        return sums

    def merge(self, other: Slices) -> None:
        """Take in the rows of another."""
        for segment, names in other.categories.items():
            rows = [self._row(segment, name) for name in names]
            np.add.at(self._grown(segment), rows, other.sums[segment])

    def rows(self) -> list[tuple[str, F64]]:
        """Each category as "segment category", with its sums float64 (width, 6)."""
        return [
            (f"{segment} {name}", self.sums[segment][row])
            for segment, names in self.categories.items()
            for name, row in names.items()
        ]


def halves(context: F64 | None, middle: F64 | None) -> dict[str, Ids]:
    """The first columns of the context as segments, below and above a threshold fixed beforehand.

    middle  float64 (<= d,)  a threshold for each column, such as its median; None: no segments
    """
    if context is None or middle is None:
        return {}
    names = ("low", "high")
    return {
        f"context[{j}]": Ids((context[:, j] > middle[j]).astype(np.intp), names)
        for j in range(min(len(middle), context.shape[1], MAX_HALVED))
    }


def middles(context: F64 | None) -> F64 | None:
    """Medians of the columns that `halves` takes, float64 (<= 8,), over about 10,000 rows evenly spaced."""
    if context is None or not len(context):
        return None
    some = context[:: max(len(context) // 10_000, 1), :MAX_HALVED]
    return np.asarray(np.median(some, axis=0), np.float64)
