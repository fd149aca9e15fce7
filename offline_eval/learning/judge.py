"""What policies are worth on users that had no part in their making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from bandits.ad_load import AdLoadPolicy
from bandits.arrays import F64
from offline_eval.learning.reward import Scale, mixed
from offline_eval.learning.study import Part


class Estimated(NamedTuple):
    """A mean per fetch and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """A policy as it would be served, beside the logging policy.

    name          how it was made
    beta          of the reward that it was fitted to; None: the logging policy
    policy        None: the logging policy
    terms         float64 (m, 2)  per-fetch terms of the z-scores of satisfaction and revenue; their mean estimates them
    gain          float64 (m, 2)  the same, less those of the logging policy
    ess           effective sample size of the weights
    largest_share of one weight in their sum
    """

    name: str
    beta: float | None
    policy: AdLoadPolicy | None
    terms: F64
    gain: F64
    ess: float
    largest_share: float


@dataclass(frozen=True, eq=False)
class Judge:
    """Estimates on the held-out users.

    Values are doubly robust (Dudik, Langford & Li 2011) with a reward model that was fitted on other users: unbiased
    where the propensities are right, whatever the model. Intervals are normal over the sums of users' terms, who are
    taken as independent of each other: `width` standard errors either side.

    width  such that all `comparisons` intervals hold together with probability 1 - alpha (Bonferroni), so that the best
           looking policy's holds although it was chosen on the same rows
    """

    part: Part
    scale: Scale
    comparisons: int
    alpha: float

    @property
    def width(self) -> float:
        return float(ndtri(1.0 - self.alpha / (2 * max(self.comparisons, 1))))

    def interval(self, terms: F64) -> Estimated:
        """Of the mean of terms float64 (m,)."""
        mean = float(terms.mean())
        sums = np.bincount(self.part.user, terms - mean)[np.unique(self.part.user)]
        error = float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))) / len(terms)
        return Estimated(mean, mean - self.width * error, mean + self.width * error)

    def reward(self, terms: F64, beta: float) -> Estimated:
        """r_beta per fetch of terms float64 (m, 2)."""
        return self.interval(mixed(terms, beta))

    def raw(self, terms: F64, component: int, change: bool = False) -> Estimated:
        """Satisfaction (0) or revenue (1) per fetch in their own units; change: terms are differences."""
        shift = 0.0 if change else self.scale.mean[component]
        found = self.interval(terms[:, component])
        return Estimated(*(shift + self.scale.sd[component] * one for one in found))


def judged(part: Part, name: str, beta: float, policy: AdLoadPolicy) -> Judged:
    """A policy's terms on the part's rows, as served with no floor but its own."""
    pi = policy.probabilities(part.raw, part.allowed)
    rows = np.arange(len(part))
    weight = pi[rows, part.action] / part.propensity
    q_logged = part.q[rows, part.action]
    terms = np.einsum("ml,mlc->mc", pi, part.q) + weight[:, None] * (part.exact - q_logged)
    total = max(float(weight.sum()), 1e-300)
    ess, share = total**2 / max(float((weight**2).sum()), 1e-300), float(weight.max()) / total
    return Judged(name, beta, policy, terms, terms - _logging_terms(part), ess, share)


def logging_policy(part: Part) -> Judged:
    """The logging policy itself: the logged rewards, and a gain of exactly 0."""
    m = float(len(part))
    return Judged("logging policy", None, None, part.exact, np.zeros_like(part.exact), m, 1 / m)


def _logging_terms(part: Part) -> F64:
    """The logging policy's doubly robust terms where its whole distribution is known, else the logged rewards.

    Either has its mean; the former has less noise beside another policy's terms.
    """
    if part.log.logging is None:
        return part.exact
    logging = part.log.logging[part.row]
    known = np.isfinite(logging.sum(axis=1))
    expected = np.einsum("ml,mlc->mc", np.nan_to_num(logging, nan=0.0), part.q)
    q_logged = part.q[np.arange(len(part)), part.action]
    terms: F64 = np.where(known[:, None], expected + part.exact - q_logged, part.exact)
    return terms


def best(judge: Judge, everyone: Sequence[Judged], beta: float) -> int | None:
    """Of the policies that surely gain r_beta the one whose gain has the highest lower end; None: there is none."""
    low = [judge.reward(one.gain, beta).low for one in everyone]
    return _highest(low, [end > 0.0 for end in low])


def best_within(judge: Judge, everyone: Sequence[Judged], most_lost: float) -> int | None:
    """Of the policies that surely gain revenue, and lose no more satisfaction than most_lost, the surest gain.

    most_lost  in units of the satisfaction, >= 0
    """
    low = [judge.raw(one.gain, 1, change=True).low for one in everyone]
    kept = [judge.raw(one.gain, 0, change=True).low >= -most_lost for one in everyone]
    return _highest(low, [end > 0.0 and well for end, well in zip(low, kept, strict=True)])


def _highest(low: Sequence[float], possible: Sequence[bool]) -> int | None:
    found = [i for i, yes in enumerate(possible) if yes]
    return max(found, key=lambda i: low[i]) if found else None
