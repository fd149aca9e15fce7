"""The log of an ad-load surface in memory: one row a fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandits.ad_load import Feature
from bandits.arrays import F64, I64, Bool
from offline_eval.errors import BadLog

LEAST_SCALE = 1e-9
"""A column that varies less is no feature."""
LARGEST = 1e12
MAX_FEATURES = 256
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class AdLoadLog:
    """n fetches, each with the load that was intended, whatever was delivered.

    user          (n,)            anything that numpy sorts; rows of a user are taken together
    timestamp     int64   (n,)    microseconds UTC
    features      float64 (n, F)  raw values, NaN where missing
    names         (F,)
    action        intp    (n,)    column of the load in `loads`
    propensity    float64 (n,)    of that load, in (0, 1]
    allowed       bool    (n, L)  what business rules left
    satisfaction  float64 (n,)
    revenue       float64 (n,)
    loads         (L,)            ascending
    logging       float64 (n, L)  the whole logging distribution, a row of NaN where unknown; None: known nowhere

    Raises BadLog, a ValueError, naming the row.
    """

    user: NDArray[np.generic]
    timestamp: I64
    features: F64
    names: Sequence[str]
    action: NDArray[np.intp]
    propensity: F64
    allowed: Bool
    satisfaction: F64
    revenue: F64
    loads: tuple[int, ...]
    logging: F64 | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        for name in ("satisfaction", "revenue"):
            values = getattr(self, name)
            _refuse(~np.isfinite(values), name, values, "must be finite")
        _refuse(~((self.propensity > 0) & (self.propensity <= 1)), "propensity", self.propensity, "must lie in (0, 1]")
        _refuse(
            (self.action < 0) | (self.action >= len(self.loads)), "action", self.action, "must be a column of loads"
        )
        served = self.allowed[np.arange(len(self)), self.action]
        _refuse(~served, "action", np.array(self.loads)[self.action], "must be among the row's allowed loads")
        large = np.abs(self.features) > LARGEST
        _refuse(large.any(axis=1), "features", np.abs(self.features).max(axis=1, initial=0), "must be at most 1e12")
        if self.logging is not None:
            total = np.where(np.isnan(self.logging), 0.0, self.logging).sum(axis=1)
            off = ~np.isnan(self.logging).any(axis=1) & (np.abs(total - 1.0) > SUM_TOLERANCE)
            _refuse(off, "sum of logging", total, "must be 1")

    def _check_shapes(self) -> None:
        n, n_loads = len(self.action), len(self.loads)
        if list(self.loads) != sorted(set(self.loads)):
            raise BadLog("loads", self.loads, "must ascend")
        wide = (n, n_loads)
        shapes = {name: (n,) for name in ("user", "timestamp", "propensity", "satisfaction", "revenue")}
        for name, shape in {**shapes, "features": (n, len(self.names)), "allowed": wide}.items():
            found = getattr(self, name).shape
            if found != shape:
                raise BadLog(name, found, f"must have shape {shape}")
        if self.logging is not None and self.logging.shape != wide:
            raise BadLog("logging", self.logging.shape, f"must have shape {wide}")

    def __len__(self) -> int:
        return len(self.action)

    @cached_property
    def group(self) -> NDArray[np.intp]:
        """Number of each row's user, intp (n,), from 0 on."""
        return np.asarray(np.unique(self.user, return_inverse=True)[1].reshape(-1), np.intp)

    @cached_property
    def used(self) -> tuple[Feature, ...]:
        """Features that vary, the first MAX_FEATURES of them, with mean and standard deviation of what is there."""
        found = []
        for name, column in zip(self.names, self.features.T, strict=True):
            there = column[~np.isnan(column)]
            scale = float(there.std()) if there.size else 0.0
            if scale >= LEAST_SCALE:
                found.append(Feature(name, float(there.mean()), scale))
        return tuple(found[:MAX_FEATURES])

    @cached_property
    def raw(self) -> F64:
        """Raw values of the used features, float64 (n, F')."""
        at = {name: i for i, name in enumerate(self.names)}
        return self.features[:, [at[one.name] for one in self.used]]

    @cached_property
    def z(self) -> F64:
        """The used features standardised, float64 (n, F'), 0 where missing, as a policy reads them."""
        mean = np.array([one.mean for one in self.used])
        scale = np.array([one.scale for one in self.used])
        z: F64 = np.nan_to_num((self.raw - mean) / scale, nan=0.0)
        return z

    @cached_property
    def average_logging(self) -> F64:
        """Average logging distribution of the rows that allow every load (where there are none: of all), float64 (L,).

        From the logged distributions where all are known, else from the loads that were served.
        """
        rows = self.allowed.all(axis=1)
        if not rows.any():
            rows = np.ones(len(self), bool)
        known = self.logging is not None and not np.isnan(self.logging).any()
        total = (
            self.logging[rows].sum(axis=0)
            if known and self.logging is not None
            else np.bincount(self.action[rows], minlength=len(self.loads)).astype(np.float64)
        )
        share: F64 = total / total.sum()
        return share

    @property
    def window(self) -> tuple[str, str]:
        """First and last time, as a policy file has them."""
        ends = (int(self.timestamp.min()), int(self.timestamp.max()))
        first, last = (f"{np.datetime64(one, 'us')}Z" for one in ends)
        return first, last


def _refuse(mask: Bool | np.bool_, column: str, values: NDArray[np.generic], rule: str) -> None:
    if np.any(mask):
        row = int(np.argmax(mask))
        raise BadLog(column, values[row], rule, place=f"row {row}")
