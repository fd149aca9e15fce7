"""Which member of a family of estimators to believe, from the members' moments alone: SLOPE and the MSE proxy.

Both weigh a member's variance against its bias, which only shows in how far it lies from members that shrink less. What
is known of weights makes that difference less noisy (ours): since E[w] = 1, a member's error is first centred on c, the
self-normalised mean error of the mildest member, so that s(w) (e - c) + c has the same limit as s(w) e where nothing is
shrunk, and a bias of E[(w - s(w)) (e - c)] only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.estimators.shrunk import Shrunk
from offline_eval.intervals.base import Bounds

DEVIATIONS = 1.25
"""Standard errors that SLOPE lets two members differ by. Tuned on simulated worlds, as NOISE is."""
NOISE = 0.5
"""Share of its variance that the MSE proxy takes off a squared difference: 0 is wary of bias, 1 unbiased but bold."""


@dataclass(frozen=True)
class Family:
    """Members from the most biased to the least, float64 (m,) or (m, m).

    variance   of each estimate
    gap        (m, m)  how far member i lies from the centred member j > i: an estimate of its bias
    gap_error  (m, m)  standard error of that
    """

    variance: F64
    gap: F64
    gap_error: F64


def select(
    method: str, members: Sequence[Shrunk], moments: Sequence[Moments], bounds: Bounds
) -> tuple[Shrunk, Moments, Mapping[str, Any]]:
    """The chosen member, its moments and what to record: lam, chosen_by, the lambdas considered.

    moments  of the columns (base, weight, weight * error) of each member's splits, on the same rounds
    bounds   a-priori; neither method reads them: capping a bias by max |e| (1 - mean s(w)) made choices worse

    Members may come in any order; the mildest one is taken to be unbiased. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"{method!r} is no way to choose a lambda; they are {' '.join(METHODS)}")
    if not members:
        raise ValueError("there is no member to choose")
    order = sorted(range(len(members)), key=lambda i: members[i].mildness)
    ordered = [moments[i] for i in order]
    chosen = order[-1] if ordered[0].n == 0 else order[METHODS[method](family([members[i] for i in order], ordered))]
    considered = [members[i].strength for i in order]
    record = {"lam": members[chosen].strength, "chosen_by": method, "considered": considered}
    return members[chosen], moments[chosen], record


def family(members: Sequence[Shrunk], moments: Sequence[Moments]) -> Family:
    """What the methods compare."""
    mildest = moments[-1]
    centre = mildest.mean[2] / mildest.mean[1] if mildest.mean[1] else 0.0
    value = np.array([one.value(its) for one, its in zip(members, moments, strict=True)])
    centred = np.array([its.mean[2] - centre * its.mean[1] for its in moments])
    reference = mildest.mean[0] + centred + centre
    correction = np.array([0.0, 0.0, -centre, 1.0])
    spread = np.array([its.variance_of(correction) for its in moments])
    wander = np.array([its.variance_of(np.array([-its.mean[1], 0.0, 1.0, 0.0])) for its in moments]) * centre**2
    apart = (centred[:, None] - centred[None, :]) ** 2 / mildest.effective_n
    # Where s_i(w) <= s_j(w), (s_j - s_i)**2 <= s_j**2 - s_i**2: the variance of a difference from moments that lack the
    # covariance. For sub-Gaussian weights below 1, which grow, it is an approximation.
    noise = np.maximum(spread[None, :] - spread[:, None] - apart, 0.0) + wander[:, None]
    variance = np.array([one.variance(its) for one, its in zip(members, moments, strict=True)])
    return Family(variance, value[:, None] - reference[None, :], np.sqrt(noise))


def slope(of: Family) -> int:
    """The most biased member that agrees with all milder ones, and whose milder neighbours do so too.

    Su, Srinath & Krishnamurthy 2020, "Adaptive estimator selection for off-policy evaluation" (SLOPE), after Lepski:
    the error is a constant times that of the best member, given that variances grow along the family. The paper asks
    whether intervals of twice the deviation around the single estimates overlap; members share their rounds, so here
    the deviation is that of their difference (ours), which is smaller.
    """
    m = len(of.variance)
    agree = np.abs(of.gap) <= DEVIATIONS * of.gap_error + 1e-12
    chosen = m - 1
    while chosen > 0 and agree[chosen - 1, chosen:].all():
        chosen -= 1
    return chosen


def mse(of: Family) -> int:
    """The member of the smallest variance plus squared bias, both estimated.

    Su, Dimakopoulou, Krishnamurthy & Dudik 2020, "Doubly robust off-policy evaluation with shrinkage", with another
    estimate of the bias (ours): where the paper bounds it from the sample, here its square is the largest over all
    milder members of gap**2 - NOISE * gap_error**2. Milder members that still shrink show a bias for which the mildest
    is too noisy.
    """
    squared = np.triu(of.gap**2 - NOISE * of.gap_error**2, 1)
    return int(np.argmin(of.variance + np.maximum(squared, 0.0).max(axis=1)))


DEFAULT = "mse"
"""Nearer to the best fixed lambda than SLOPE, see `banditd bench selection`."""
METHODS: Mapping[str, Callable[[Family], int]] = MappingProxyType({"slope": slope, "mse": mse})
"""By the name that a plan knows them by."""
