"""Empirical likelihood with the Cressie-Read divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bandits.arrays import F64
from offline_eval.estimators.base import Estimator
from offline_eval.intervals.base import Evidence, Interval
from offline_eval.intervals.reach import Independent, Reach, clipped, leaves_out, named, unknown, value_range

FLAT = 1e-12
"""Spread of the weights, relative to their mean square, below which they count as equal."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Moments of n pairs (w, v).

    n       number of pairs, a fraction where they count for less than one each
    w, v    means
    ww, wv, vv  mean products
    """

    n: float
    w: float
    v: float
    ww: float
    wv: float
    vv: float

    def completed(self, w: float, v: float) -> Pairs:
        """With one pair more."""
        old, new = self.n / (self.n + 1.0), 1.0 / (self.n + 1.0)
        return Pairs(
            self.n + 1.0,
            old * self.w + new * w,
            old * self.v + new * v,
            old * self.ww + new * w * w,
            old * self.wv + new * w * v,
            old * self.vv + new * v * v,
        )

    @property
    def w_variance(self) -> float:
        """Of w; 0 where all are equal up to rounding."""
        variance = self.ww - self.w**2
        return variance if variance > FLAT * self.ww else 0.0

    @property
    def slope(self) -> float:
        """Of the regression of v on w; 0 where w does not vary."""
        return (self.wv - self.w * self.v) / self.w_variance if self.w_variance else 0.0

    @property
    def residual_variance(self) -> float:
        """Of v, less what w explains of it."""
        return max(self.vv - self.v**2 - self.slope**2 * self.w_variance, 0.0)

    @property
    def cost(self) -> float:
        """The least divergence at which the mean of w is 1."""
        if self.w_variance:
            return self.n * (1.0 - self.w) ** 2 / self.w_variance
        return 0.0 if math.isclose(self.w, 1.0, rel_tol=1e-9) else math.inf

    def end(self, radius: float, side: int) -> float:
        """Least (side -1) or greatest (+1) mean of v at mean weight 1, `radius` beyond the least divergence."""
        return self.v + self.slope * (1.0 - self.w) + side * math.sqrt(self.residual_variance * radius / self.n)


class CressieRead:
    """The values of the target that reweighted rounds can have without being too unlike the log.

    Karampatziakis, Langford & Mineiro 2020, "Empirical likelihood for contextual bandits", the Cressie-Read divergence
    of power -2, which is quadratic. Re-derived here; the form of the radius is from their text and code.

    The log of n pairs (w, v = w r) is completed by one round that it could have held: weight 0, 1 or w_max, reward the
    lowest for the low end and the highest for the high one. Without it nothing would say that heavy weights exist when
    none was drawn (weight 1, ours: that there are other rewards where all weights are equal). The N = n + 1 pairs get
    probabilities q_i = (1 + u_i) / N under

        sum u_i = 0,   sum q_i w_i = 1 (weights have mean 1),   sum u_i^2 <= radius,

    and sum q_i v_i is driven to its ends. Write u = a (w - mean w) + b e + g, where e is the residual of regressing v
    on (1, w), and g is orthogonal to 1, w and e, hence only costs: g = 0. The second rule fixes
    a = (1 - mean w) / var w, at a cost of g* = N (1 - mean w)^2 / var w, and then

        sum q_i v_i = mean v + slope (1 - mean w) + b var e,   b^2 N var e <= radius - g*,

    a regression estimate plus or minus sqrt(var e (radius - g*) / N). The radius is the least g* of the completions
    plus the 1 - alpha quantile of F(1, n - 1), so that without heavy weights the interval tends to the normal one with
    w as its control variate. A completion that costs more than the radius is impossible; the outermost end of the
    others counts. q may be negative, which only widens the interval. Ends are clipped to the range of rewards.

    clipped forms have weights of any mean: the same without the second rule, with (0 or w_max) times the extreme
    reward as the completing v. That covers the expectation of the estimate, not its bias.
    Rounds that count for several, and clusters, reduce n: see Independent.
    """

    name = "cressie-read"

    def holds_for(self, estimator: Estimator) -> bool:
        """For weighted rewards without a model."""
        return estimator.form in ("weighted", "clipped")

    def interval(self, evidence: Evidence, alpha: float, seed: int = 0) -> Interval:
        """No randomness: the seed is not read."""
        moments = evidence.moments
        if moments.n == 0:
            return unknown(evidence, self.name, "no rounds")
        reach = Reach.of(evidence)
        weighted = evidence.estimator.form == "weighted"
        first = moments.first / moments.count
        pairs = Pairs(moments.effective_n, first[0, 2], first[0, 3], first[2, 2], first[2, 3], first[3, 3])
        independent = Independent.of(evidence, _influence(pairs, weighted))
        pairs = Pairs(independent.n, pairs.w, pairs.v, pairs.ww, pairs.wv, pairs.vv)
        quantile = float(special.fdtri(1.0, independent.degrees, 1 - alpha))
        method = named(self.name, independent.note)
        if weighted and reach.weight < 1.0 - FLAT:
            return unknown(evidence, method, "no weights up to w_max have mean 1: wrong propensities or w_max")
        ends = (
            both_ends(pairs, reach.weight, reach.reward, quantile) if weighted else _mean_ends(pairs, reach, quantile)
        )
        low, high = clipped(*ends, value_range(evidence))
        if low > high:
            return unknown(evidence, method, "no value fits weights whose mean is so far from 1: wrong propensities")
        return Interval(low, high, method, (*reach.flags, *leaves_out(evidence)))


def both_ends(pairs: Pairs, largest_weight: float, reward: tuple[float, float], quantile: float) -> tuple[float, float]:
    """Ends before clipping; largest_weight >= 1."""
    ends = []
    for bound, side in ((reward[0], -1), (reward[1], 1)):
        completions = [pairs.completed(weight, weight * bound) for weight in (0.0, 1.0, largest_weight)]
        least = min(one.cost for one in completions)
        radius = [least + quantile - one.cost for one in completions]
        ends.append(_outermost([one.end(r, side) for one, r in zip(completions, radius, strict=True) if r >= 0], side))
    return ends[0], ends[1]


def _mean_ends(pairs: Pairs, reach: Reach, quantile: float) -> tuple[float, float]:
    """Ends of the mean of v, whatever the mean of w."""
    ends = []
    for bound, side in zip(reach.reward, (-1, 1), strict=True):
        completions = [pairs.completed(1.0, weight * bound) for weight in (0.0, reach.weight)]
        spread = [side * math.sqrt(max(one.vv - one.v**2, 0.0) * quantile / one.n) for one in completions]
        ends.append(_outermost([one.v + s for one, s in zip(completions, spread, strict=True)], side))
    return ends[0], ends[1]


def _outermost(ends: Sequence[float], side: int) -> float:
    return max(ends) if side > 0 else min(ends)


def _influence(pairs: Pairs, weighted: bool) -> F64:
    """Of the regression estimate (or the plain mean) on z = (1, base, weight, weight * error), centred."""
    slope = pairs.slope if weighted else 0.0
    return np.array([slope * pairs.w - pairs.v, 0.0, -slope, 1.0])
