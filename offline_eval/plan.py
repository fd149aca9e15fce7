"""What is asked of a log: estimators, intervals and the bounds they may rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.estimators.base import Estimator

N_BLOCKS = 256
"""Stretches of the log's time, for confidence sequences and for the value over time."""


@dataclass(frozen=True)
class Plan:
    """Picklable.

    estimators  asked for; one without its lambda is a family, to be chosen from
    interval    name of the method
    alpha       intervals have coverage 1 - alpha
    w_max       a-priori bound of the weights, None: assumed
    reward      a-priori (low, high) of the rewards, None: assumed
    cluster     whether the rounds of a user count as dependent
    selection   how a family's member is chosen: slope | mse
    pictures    whether plots will be drawn
    """

    estimators: Sequence[Estimator]
    interval: str = "cressie-read"
    alpha: float = 0.05
    w_max: float | None = None
    reward: tuple[float, float] | None = None
    cluster: bool = False
    selection: str = "slope"
    pictures: bool = False
    thresholds: Thresholds = Thresholds()
    seed: int = 0

    @property
    def in_blocks(self) -> bool:
        """Whether moments are kept by stretch of time."""
        return self.pictures or self.interval == "confseq"

    def needs(self, what: str) -> bool:
        """Whether any estimator needs it."""
        return any(what in one.needs for one in self.estimators)

    @property
    def models(self) -> set[str]:
        """Reward models that the estimators read."""
        return {one.model for one in self.estimators if one.model is not None}
