"""Histograms whose bins are known beforehand or only ever widen: shards add up to the same bins."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64

PER_DECADE = 8
LOWEST, HIGHEST = -3, 9
"""Powers of ten between which weights have bins of their own."""


@dataclass(frozen=True)
class Bins:
    """Fixed logarithmic bins of non-negative numbers, with sums per bin.

    Bin 0 holds zeros, bin 1 what lies below the lowest edge, the last one what lies at or above the highest.

    edges  float64 (m,)      of the bins between
    sums   float64 (m+2, s)  the columns summed, per bin
    """

    edges: F64
    sums: F64

    @classmethod
    def empty(cls, low: int, high: int, per_decade: int, columns: int) -> Bins:
        """From 10**low to 10**high."""
        edges = 10.0 ** (np.arange(low * per_decade, high * per_decade + 1) / per_decade)
        return cls(edges, np.zeros((len(edges) + 2, columns)))

    def add(self, values: F64, columns: tuple[F64, ...]) -> None:
        """Take in values (n,), and what is to be summed per bin, each (n,)."""
        which = np.searchsorted(self.edges, values, side="right") + 1
        which[values == 0] = 0
        for j, column in enumerate(columns):
            self.sums[:, j] += np.bincount(which, column, len(self.sums))

    def merge(self, other: Bins) -> None:
        """Take in those of another with the same edges."""
        self.sums[:] += other.sums


FINEST = -40
"""Exponent, relative to the largest number seen, of the narrowest width."""
LEAST = -200
"""Exponent of the narrowest width of all; what is smaller counts as 0."""


@dataclass
class WideningBins:
    """At most `most` equal bins over whatever range turns up: the width is a power of two that doubles when it must.

    Bin i of `sums` covers [(first + i) * width, (first + i + 1) * width), width = 2**exponent. The width depends only
    on the extremes of all numbers seen, so shards in any order end with the same bins.

    sums  float64 (m, s)  the columns summed, per bin
    """

    columns: int
    most: int = 24
    exponent: int = 0
    first: int = 0
    sums: F64 = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, values: F64, columns: tuple[F64, ...]) -> None:
        """Take in values (n,), finite, and what is to be summed per bin, each (n,)."""
        if not len(values):
            return
        values = np.where(np.abs(values) < 2.0**LEAST, 0.0, values)
        low, high = float(values.min()), float(values.max())
        exponent = _exponent(low, high, self.most)
        where = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
        first = int(where.min())
        size = int(where.max()) - first + 1
        sums = [np.bincount(where - first, column, size) for column in columns]
        self.merge(WideningBins(self.columns, self.most, exponent, first, np.stack(sums, axis=1).astype(np.float64)))

    def merge(self, other: WideningBins) -> None:
        """Take in those of another."""
        if not len(other.sums):
            return
        if not len(self.sums):
            self.exponent, self.first, self.sums = other.exponent, other.first, other.sums.copy()
            return
        exponent = max(self.exponent, other.exponent)
        while True:
            mine, theirs = self._widened(exponent), other._widened(exponent)
            first = min(mine[0], theirs[0])
            size = max(mine[0] + len(mine[1]), theirs[0] + len(theirs[1])) - first
            if size <= self.most:
                break
            exponent += 1
        sums = np.zeros((size, self.columns))
        for start, part in (mine, theirs):
            sums[start - first : start - first + len(part)] += part
        self.exponent, self.first, self.sums = exponent, first, sums

    def _widened(self, exponent: int) -> tuple[int, F64]:
        """First bin and sums at a larger width."""
        step = exponent - self.exponent
        where = (np.arange(len(self.sums)) + self.first) >> step
        first = int(where[0])
        sums = np.zeros((int(where[-1]) - first + 1, self.columns))
        np.add.at(sums, where - first, self.sums)
        return first, sums

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(np.ldexp(1.0, self.exponent))

    def filled(self) -> NDArray[np.intp]:
        """Indices of the bins whose first column is not 0."""
        return np.flatnonzero(self.sums[:, 0]) if len(self.sums) else np.zeros(0, np.intp)


def _exponent(low: float, high: float, most: int) -> int:
    """The smallest one at which low .. high spans at most `most` bins."""
    largest = max(abs(low), abs(high))
    exponent = max(int(np.frexp(largest)[1]) + FINEST, LEAST) if largest else LEAST
    while np.floor(np.ldexp(high, -exponent)) - np.floor(np.ldexp(low, -exponent)) >= most:
        exponent += 1
    return exponent
