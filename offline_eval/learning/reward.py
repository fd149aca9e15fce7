"""One reward of two: satisfaction and revenue on a common scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from offline_eval.learning.log import AdLoadLog

WINSORISED = 0.999
"""Quantile of the revenue beyond which it counts as that much, in fitting only."""
COMPONENTS = ("satisfaction", "revenue")


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of both rewards in the log, whose z-scores r_beta mixes.

    r_beta = beta z(satisfaction) + (1 - beta) z(revenue); 0 is the logging policy's mean (the scalarisation is ours,
    after Sagtani et al. 2024).

    cap  largest revenue in fitting; estimates take the revenue as it is
    """

    mean: tuple[float, float]
    sd: tuple[float, float]
    cap: float

    @classmethod
    def of(cls, log: AdLoadLog) -> Scale:
        columns = [getattr(log, name) for name in COMPONENTS]
        mean = float(columns[0].mean()), float(columns[1].mean())
        # A reward that never varies weighs nothing, whatever it is divided by.
        sd = float(columns[0].std()) or 1.0, float(columns[1].std()) or 1.0
        return cls(mean, sd, float(np.quantile(log.revenue, WINSORISED)))

    def z(self, log: AdLoadLog, fitting: bool = False) -> F64:
        """z-scores of satisfaction and revenue, float64 (n, 2); in fitting the revenue is winsorised."""
        revenue = np.minimum(log.revenue, self.cap) if fitting else log.revenue
        return (np.column_stack([log.satisfaction, revenue]) - self.mean) / self.sd

    @property
    def zero(self) -> tuple[float, float]:
        """z-scores of no satisfaction and no revenue."""
        return -self.mean[0] / self.sd[0], -self.mean[1] / self.sd[1]

    def words(self, beta: float) -> dict[str, float | str]:
        """How a policy file tells of it."""
        return {
            "kind": "beta z(satisfaction) + (1 - beta) z(revenue)",
            "beta": beta,
            "satisfaction_mean": self.mean[0],
            "satisfaction_sd": self.sd[0],
            "revenue_mean": self.mean[1],
            "revenue_sd": self.sd[1],
            "revenue_cap_in_fitting": self.cap,
        }


def mixed(z: F64, beta: float) -> F64:
    """r_beta of z-scores whose last axis is (satisfaction, revenue)."""
    total: F64 = beta * z[..., 0] + (1.0 - beta) * z[..., 1]
    return total
