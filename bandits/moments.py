"""Additive moments of a vector: what shards of a log send, and what means, ratios and intervals are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from bandits.arrays import F64


@dataclass(slots=True)
class Moments:
    """Sums over n rounds of z z^T, where z = (1, z_1, .., z_k) and a round may stand for several.

    n       rounds
    first   float64 (k+1, k+1)  sum of c z z^T; row 0 holds the plain sums, first[0, 0] the sum of the counts c
    second  float64 (k+1, k+1)  sum of c**2 z z^T; equals `first` where every c is 1
    """

    n: int
    first: F64
    second: F64

    @classmethod
    def zero(cls, k: int) -> Self:
        """Of no rounds."""
        return cls(0, np.zeros((k + 1, k + 1)), np.zeros((k + 1, k + 1)))

    def add(self, columns: F64, count: F64 | None = None) -> None:
        """Take in m rounds: columns float64 (k, m), count float64 (m,) or None for once each."""
        z = np.concatenate([np.ones((1, columns.shape[1])), columns])
        self.n += columns.shape[1]
        first = _products(z, z if count is None else z * count)
        self.first += first
        self.second += first if count is None else _products(z * count, z * count)

    def merge(self, other: Moments) -> None:
        """Take in the rounds of another."""
        self.n += other.n
        self.first += other.first
        self.second += other.second

    @property
    def count(self) -> float:
        """Sum of the counts: the rounds stood for."""
        return float(self.first[0, 0])

    @property
    def mean(self) -> F64:
        """Mean of z_1 .. z_k, float64 (k,)."""
        mean: F64 = self.first[0, 1:] / self.first[0, 0]
        return mean

    @property
    def effective_n(self) -> float:
        """(sum c)**2 / sum c**2: n where every round counts once."""
        return float(self.first[0, 0] ** 2 / self.second[0, 0]) if self.n else 0.0

    def variance_of(self, gradient: F64) -> float:
        """Variance of the estimate whose influence of a round is c gradient . z / sum c, rounds independent.

        gradient  float64 (k+1,)  on z with its leading 1; centred, so that its mean over the rounds is 0
        """
        return max(float(gradient @ self.second @ gradient), 0.0) / self.count**2


def _products(left: F64, right: F64) -> F64:
    """left right^T, its first row and column summed pairwise: a mean over 10**6 rounds stays exact to 1e-15."""
    sums: F64 = left @ right.T
    sums[0] = (left[0] * right).sum(axis=1)
    sums[:, 0] = sums[0]
    return sums
