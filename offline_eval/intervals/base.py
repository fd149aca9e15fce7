"""What an interval is made from, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.estimators.base import Estimator


@dataclass(frozen=True, slots=True)
class Interval:
    """Ends of an interval for the target's value, how it was made, and what to know before trusting it.

    method  such as "cressie-read" or "normal, clustered"; always what was used, not what was asked for
    flags   such as "w_max assumed: 1/min(propensity)"
    narrow  whether a flag says that coverage may fall far short, so that nothing should be decided by it
    """

    low: float
    high: float
    method: str
    flags: tuple[str, ...] = ()
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """A-priori bounds, never the sample's extremes unless `assumed` says so.

    largest_weight  w_max, of pi(a|x) / pi0(a|x)
    reward          (low, high)
    assumed         one text for each bound that was not given, such as "w_max assumed: 1/min(propensity) = 40"
    """

    largest_weight: float
    reward: tuple[float, float]
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clusters:
    """Sums over the rounds of each cluster (user): what a bootstrap of users draws from.

    key   uint64   (U,)    distinct, ascending
    sums  float64  (U, 4)  sum of c z, z = (1, base, weight, weight * error); (U, 7) of two estimators
    """

    key: NDArray[np.uint64]
    sums: F64

    @classmethod
    def of(cls, key: NDArray[np.uint64], sums: F64) -> Clusters:
        """Add up the rows of equal keys (n,)."""
        distinct, inverse = np.unique(key, return_inverse=True)
        total: F64 = np.stack([np.bincount(inverse, column, len(distinct)) for column in sums.T], axis=1).astype(float)
        return cls(distinct, total)

    def merge(self, other: Clusters) -> Clusters:
        """Of the rounds of both."""
        return Clusters.of(np.concatenate([self.key, other.key]), np.concatenate([self.sums, other.sums]))


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one estimate when its interval is made.

    moments   of the columns (base, weight, weight * error) of its splits
    clusters  sums per user, or None where rounds count as independent
    blocks    moments of consecutive stretches of the log in the order of time; empty unless kept
    ess       effective sample size of the importance weights, (sum w)^2 / sum w^2
    groups    sums per group of rounds (see bootstrap.group_of), kept for the bootstrap where there are no clusters
    seen      largest importance weight in the log; 0 where it was not kept
    """

    estimator: Estimator
    moments: Moments
    bounds: Bounds
    clusters: Clusters | None = None
    blocks: Sequence[Moments] = ()
    ess: float = float("inf")
    groups: Clusters | None = None
    seen: float = 0.0

    @property
    def value(self) -> float:
        return self.estimator.value(self.moments)

    @property
    def standard_error(self) -> float:
        """By the delta method; clusters independent of each other where there are any."""
        gradient = self.estimator.gradient(self.moments)
        if self.clusters is None:
            return float(np.sqrt(self.estimator.variance(self.moments)))
        n = len(self.clusters.key)
        influence = self.clusters.sums @ gradient
        return float(np.sqrt((influence**2).sum() * n / max(n - 1, 1)) / self.moments.count)


class IntervalMethod(Protocol):
    """A way to make an interval; one module each."""

    name: str

    def holds_for(self, estimator: Estimator) -> bool:
        """Whether the theory behind it covers the estimator's form."""

    def interval(self, evidence: Evidence, alpha: float, seed: int) -> Interval:
        """An interval of coverage 1 - alpha."""
