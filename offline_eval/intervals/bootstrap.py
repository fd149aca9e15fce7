"""Bootstrap of users, or of groups of rounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bandits.arrays import F64
from offline_eval.estimators.base import Estimator
from offline_eval.intervals.base import Clusters, Evidence, Interval
from offline_eval.intervals.normal import Normal, doubts, is_narrow
from offline_eval.intervals.reach import unknown

RESAMPLES = 2000
GROUPS = 1024
"""Groups into which rounds without users are dealt."""
MAX_UNITS = 4096
"""Most units drawn from: above, clusters are dealt into that many groups. Time and memory stay bounded."""
MIN_BLOCKS = 40
_DRAWN_AT_ONCE = 1 << 20


class Bootstrap:
    """Bias-corrected accelerated (BCa) interval from 2,000 resamples of independent units.

    Efron 1987, "Better bootstrap confidence intervals", eq. 2.3 and 6.6, the acceleration from the influence function;
    units are users where there are any (Field & Welsh 2007), else hashed groups of rounds, which are as independent as
    the rounds are, else the log's blocks. Only the units' sums are needed. Second-order accurate; like the normal
    interval it knows nothing of heavy weights that were not drawn.
    """

    name = "bootstrap"

    def holds_for(self, estimator: Estimator) -> bool:
        """For every form: all are smooth functions of sums."""
        return True

    def interval(self, evidence: Evidence, alpha: float, seed: int = 0) -> Interval:
        """The same ends for the same seed."""
        units, what = _units(evidence)
        if units is None:
            normal = Normal().interval(evidence, alpha, seed)
            why = f"{self.name} needs users, groups of rounds or {MIN_BLOCKS} blocks, and has none"
            return replace(normal, flags=(why, *normal.flags))
        method = f"{self.name} of {what}, BCa"
        if len(units) < 2:
            return unknown(evidence, method, f"one of {what} says nothing of the spread")
        values = resampled(evidence.estimator, units, seed)
        known = values[np.isfinite(values)]
        if not len(known):
            return unknown(evidence, method, "no resample has any weight")
        influence = units @ evidence.estimator.gradient(evidence.moments)
        low, high = np.quantile(known, bca_levels(known, evidence.value, influence, alpha))
        remarks = _remarks(evidence, len(values) - len(known))
        return Interval(float(low), float(high), method, remarks, is_narrow(evidence))


def group_of(rows: NDArray[np.integer[Any]], salt: int = 0) -> NDArray[np.uint64]:
    """The group (uint64, below GROUPS) that each row belongs to; salt tells shards apart."""
    return _mixed(rows.astype(np.uint64) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)) % np.uint64(GROUPS)


def resampled(estimator: Estimator, units: F64, seed: int, resamples: int = RESAMPLES) -> F64:
    """Values (resamples,) of samples of len(units) units drawn with replacement; NaN without any weight.

    units  float64 (U, 4)  sums of (1, base, weight, weight * error)
    """
    random, n = np.random.default_rng(seed), len(units)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    values = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = random.integers(0, n, (size, n), np.int64) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        values.append(_values(estimator, times.astype(np.float64) @ units))
    return np.concatenate(values)


def bca_levels(values: F64, value: float, influence: F64, alpha: float) -> F64:
    """The two quantiles of the resampled values that are the ends, float64 (2,)."""
    below = ((values < value).sum() + 0.5 * (values == value).sum()) / len(values)
    bias = float(ndtri(np.clip(below, 1 / (len(values) + 1), len(values) / (len(values) + 1))))
    square = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6.0 * square**1.5) if square > 0 else 0.0
    z = bias + ndtri(np.array([alpha / 2, 1 - alpha / 2]))
    levels: F64 = ndtr(bias + z / np.maximum(1.0 - acceleration * z, 0.1))
    return levels


def _values(estimator: Estimator, sums: F64) -> F64:
    count, base, weight, correction = sums.T
    divisor = weight if estimator.self_normalised else count
    ratio = np.divide(correction, divisor, out=np.full(len(sums), np.nan), where=divisor != 0)
    values: F64 = base / count + ratio
    return values


def _units(evidence: Evidence) -> tuple[F64 | None, str]:
    """Sums of what is drawn, and what they are sums of."""
    if evidence.clusters is not None:
        return _dealt(evidence.clusters), "clusters"
    if evidence.groups is not None:
        return _dealt(evidence.groups), "groups of rounds"
    if len(evidence.blocks) >= MIN_BLOCKS:
        return np.stack([block.first[0] for block in evidence.blocks]), "blocks of rounds"
    return None, ""


def _dealt(clusters: Clusters) -> F64:
    if len(clusters.key) <= MAX_UNITS:
        return clusters.sums
    return Clusters.of(_mixed(clusters.key) % np.uint64(MAX_UNITS), clusters.sums).sums


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _remarks(evidence: Evidence, without_weight: int) -> tuple[str, ...]:
    remarks = []
    if evidence.clusters is not None and len(evidence.clusters.key) > MAX_UNITS:
        remarks.append(f"{len(evidence.clusters.key)} clusters drawn in {MAX_UNITS} groups")
    if without_weight:
        remarks.append(f"{without_weight} of {RESAMPLES} resamples had no weight and were left out")
    return (*remarks, *doubts(evidence))
