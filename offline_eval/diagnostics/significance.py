"""How unlikely a sound log would make what was seen: p-values that know about the tail they have not seen.

F is the upper tail of Fisher's distribution, Poisson that of a count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from bandits.arrays import F64, Bool
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds

ROUNDING = 1e-6
"""Relative to a count, what probabilities that sum to 1 within 1e-6 explain."""


@dataclass(frozen=True)
class Tests:
    """Some tests of a log.

    p      float64 (m,)  p-value of each
    tell   what the i-th saw, with its numbers
    vague  bool (m,)     those that can warn and not refuse
    """

    p: F64
    tell: Callable[[int], str]
    vague: Bool

    def __len__(self) -> int:
        return len(self.p)

    def finding(self, name: str, limits: Thresholds, n_tests: int, untested: str, mend: str) -> Finding:
        """The worst of them, Bonferroni over all n_tests made of the log."""
        if not len(self):
            return Finding(name, Level.NOTE, untested)
        corrected = np.minimum(self.p * n_tests, 1.0)
        worst = int(np.argmin(np.where(self.vague, np.maximum(corrected, limits.refuse_below), corrected)))
        p = float(corrected[worst])
        refused = p < limits.refuse_below and not self.vague[worst]
        level = Level.REFUSE if refused else Level.WARN if p < limits.warn_below else Level.OK
        told = f"{self.tell(worst)} (p {p:.2g} after Bonferroni over {n_tests:,} tests)"
        return Finding(name, level, f"{told}: {mend}" if level else told)


def mean_is_one(sums: F64, largest: float) -> F64:
    """p-value that values in [0, largest] have mean 1, float64 (..,).

    sums     float64 (.., 6)  of 1, c, c^2, c v, c^2 v, c^2 v^2 over rows that each stand for c
    largest  that any value can have, whether seen or not; at least 1 is taken

    Above 1: the squared z of the mean with an imaginary row at 0, as in the Cressie-Read interval (Karampatziakis,
    Langford & Mineiro 2020, "Empirical likelihood for contextual bandits"), on F(1, n).
    Below 1, ours: what is missing may lie in a tail that was not seen. Measured in values of size `largest`, with
    d missing and a variance of s^2, one imaginary row at `largest` included, the statistic is the Poisson deviance
    2 (d - s^2 log(1 + d / s^2)): d^2 / s^2 for a small d, 2 d where nothing of the tail was seen, as in exact empirical
    likelihood. The Cressie-Read form d^2 / s^2 would call 5 unseen rows, a chance of e^-5, a p-value of 6e-5.
    """
    rows, c, c2, cv, c2v, c2v2 = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, each = cv / c, c2 / c
        spread = np.maximum(c2v2 - 2.0 * mean * c2v + mean**2 * c2, 0.0)
        unit = np.maximum(largest, 1.0) * each
        missing, variance = np.maximum((c - cv) / unit - 1.0, 0.0), spread / unit**2 + 1.0
        below = 2.0 * (missing - variance * np.log1p(missing / variance))
        above = np.maximum(cv - c - each, 0.0) ** 2 / (spread + each**2)
        p = special.fdtrc(1.0, np.maximum(rows, 1.0), np.maximum(np.where(cv > c, above, below), 0.0))
    return np.where(rows > 1, p, 1.0)


def falls_short(sums: F64) -> Bool:
    """Where the mean of sums as in mean_is_one is below 1, bool (..,)."""
    short: Bool = sums[..., 3] < sums[..., 1]
    return short


def count_is_expected(observed: F64, expected: F64, variance: F64, unit: float) -> F64:
    """Two-sided p-value of a count of independent events of known probabilities, float64 (m,).

    variance  of the observed count, sum of c^2 p (1 - p)
    unit      counts of one event; 1 where every row stands for itself

    The upper tail of a Poisson variable of the same variance, for either side: exact above rare events, otherwise a
    little too wide (to the safe side), as no sum of such events is more skewed. Below, Poisson's lower tail of the
    same mean bounds the p-value too (Hoeffding 1956), and the smaller of the two is taken.
    """
    off = np.abs(observed - expected)
    d, v = off / unit, np.maximum(variance, 0.0) / unit**2
    with np.errstate(invalid="ignore"):
        upper = special.gammainc(v + d, v)
        lower = special.gammaincc(observed / unit + 1.0, expected / unit)
    tail = np.where(observed < expected, np.minimum(lower, upper), upper)
    rounded = off <= ROUNDING * np.maximum(expected, unit)
    return np.where(rounded, 1.0, np.minimum(2.0 * tail, 1.0))
