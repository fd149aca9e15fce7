"""Two estimates on one log compared: the interval of a difference is not the difference of intervals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.estimators.base import Estimator, Split
from offline_eval.intervals.base import Bounds, Clusters, Interval
from offline_eval.intervals.empirical_bernstein import RESIDUAL, half_width
from offline_eval.intervals.normal import MIN_CLUSTERS, MIN_ESS
from offline_eval.intervals.reach import named, term_range
from offline_eval.result import Estimate

A, B = slice(1, 4), slice(4, 7)
"""Where z = (1, columns of a, columns of b) holds them."""


def _joint() -> Moments:
    return Moments.zero(6)


@dataclass(slots=True)
class PairedMoments:
    """Additive moments of both estimates' columns (base, weight, weight * error), a's and then b's, over shared rounds.

    The products across a and b carry the covariance, so whatever is common to both (the same rewards, the same users)
    cancels from the difference.
    """

    a: Estimator
    b: Estimator
    moments: Moments = field(default_factory=_joint)
    clusters: Clusters | None = None

    def add(
        self, split_a: Split, split_b: Split, count: F64 | None = None, user: NDArray[np.uint64] | None = None
    ) -> None:
        """Take in the same rounds split by both; user, uint64 (n,): whose they are, always or never given."""
        columns = np.concatenate([split_a.columns(), split_b.columns()])
        self.moments.add(columns, count)
        if user is not None:
            z = np.concatenate([np.ones((1, columns.shape[1])), columns])
            self._take(Clusters.of(user, (z if count is None else z * count).T))

    def merge(self, other: PairedMoments) -> None:
        """Take in the rounds of another."""
        self.moments.merge(other.moments)
        if other.clusters is not None:
            self._take(other.clusters)

    def difference(
        self,
        alpha: float = 0.05,
        method: Literal["normal", "empirical-bernstein"] = "normal",
        bounds: Bounds | None = None,
    ) -> Estimate:
        """Value of a less value of b, with its interval.

        normal: delta method over both, clustered where users were given; flagged at low ESS of either. Cressie-Read
        has no paired form with two weights, so it is not offered.
        empirical-bernstein: needs bounds, and means; terms of the difference lie within the difference of both ranges.
        Raises ValueError without rounds, and where empirical-bernstein does not hold.
        """
        if self.moments.n == 0:
            raise ValueError("a difference needs rounds")
        interval = self._normal(alpha) if method == "normal" else self._bernstein(alpha, bounds)
        return Estimate(
            estimator=f"{self.a.key} - {self.b.key}",
            value=self.value,
            interval=(interval.low, interval.high),
            interval_method=interval.method,
            standard_error=self.standard_error,
            flags=interval.flags,
        )

    @property
    def value(self) -> float:
        """Value of a less value of b."""
        return self.a.value(self._of(A)) - self.b.value(self._of(B))

    @property
    def gradient(self) -> F64:
        """How the difference moves with the mean of z, centred, float64 (7,)."""
        of_a, of_b = self.a.gradient(self._of(A)), self.b.gradient(self._of(B))
        return np.concatenate([[of_a[0] - of_b[0]], of_a[1:], -of_b[1:]])

    @property
    def standard_error(self) -> float:
        """By the delta method; users independent of each other where they were given."""
        if self.clusters is None:
            return float(np.sqrt(self.moments.variance_of(self.gradient)))
        n = len(self.clusters.key)
        influence = self.clusters.sums @ self.gradient
        return float(np.sqrt((influence**2).sum() * n / max(n - 1, 1)) / self.moments.count)

    def _take(self, clusters: Clusters) -> None:
        self.clusters = clusters if self.clusters is None else self.clusters.merge(clusters)

    def _of(self, which: slice) -> Moments:
        """Moments of one estimate's columns."""
        at = np.array([0, *range(which.start, which.stop)])
        grid = np.ix_(at, at)
        return Moments(self.moments.n, self.moments.first[grid], self.moments.second[grid])

    def _normal(self, alpha: float) -> Interval:
        units = self.moments.effective_n if self.clusters is None else float(len(self.clusters.key))
        clustered = "" if self.clusters is None else "clustered"
        method = named("normal", "paired", clustered)
        if units <= 1:
            return Interval(-np.inf, np.inf, method, ("one independent round says nothing of the spread",))
        half = float(special.stdtrit(units - 1, 1 - alpha / 2)) * self.standard_error
        return Interval(self.value - half, self.value + half, method, self._doubts())

    def _doubts(self) -> tuple[str, ...]:
        doubts = []
        for name, estimator, which in (("first", self.a, A), ("second", self.b, B)):
            first = self._of(which).first
            ess = float(first[0, 2] ** 2 / first[2, 2]) if first[2, 2] > 0 else 0.0
            if estimator.form == "model":
                doubts.append(f"covers the reward model's own value for the {name}, not its error")
            elif ess < MIN_ESS:
                doubts.append(f"low ess of the {name}: {ess:.3g} is below {MIN_ESS:g}, too narrow an interval")
        if self.clusters is not None and len(self.clusters.key) < MIN_CLUSTERS:
            doubts.append(f"few clusters: {len(self.clusters.key)} are below {MIN_CLUSTERS}, too narrow an interval")
        return tuple(doubts)

    def _bernstein(self, alpha: float, bounds: Bounds | None) -> Interval:
        both = (self.a, self.b)
        if bounds is None or self.clusters is not None or any(one.self_normalised for one in both):
            raise ValueError("empirical-bernstein needs bounds, no users, and two estimators that are means")
        if (n := self.moments.effective_n) <= 1:
            raise ValueError("empirical-bernstein needs two rounds")
        ranges = [_terms(one, bounds) for one in both]
        limits = (ranges[0][0] - ranges[1][1], ranges[0][1] - ranges[1][0])
        gradient = self.gradient
        variance = max(float(gradient @ self.moments.first @ gradient), 0.0) / self.moments.count
        half = half_width(variance, n, limits, alpha)
        flags: list[Any] = [*bounds.assumed, *([RESIDUAL] if any(one.form == "residual" for one in both) else [])]
        return Interval(self.value - half, self.value + half, "empirical-bernstein, paired", tuple(flags))


def _terms(estimator: Estimator, bounds: Bounds) -> tuple[float, float]:
    return term_range(estimator.form, estimator.largest_weight(bounds.largest_weight), bounds.reward)
