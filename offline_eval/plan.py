"""What is asked of a log: estimators, intervals and the bounds they may rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf

from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.estimators.base import Estimator
from offline_eval.intervals import METHODS as INTERVALS
from offline_eval.selection import METHODS as SELECTIONS

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
    defaulted   whether nobody asked for these estimators, so that one that cannot be had may be left out

    Raises ValueError for a name that is unknown or a number that is out of range.
    """

    estimators: Sequence[Estimator]
    interval: str = "cressie-read"
    alpha: float = 0.05
    w_max: float | None = None
    reward: tuple[float, float] | None = None
    cluster: bool = False
    selection: str = "mse"
    pictures: bool = False
    thresholds: Thresholds = Thresholds()
    seed: int = 0
    defaulted: bool = False

    def __post_init__(self) -> None:
        for field, known in (("interval", INTERVALS), ("selection", SELECTIONS)):
            name = getattr(self, field)
            if name not in known:
                near = get_close_matches(str(name), known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{field} must be one of {', '.join(known)}, got {name!r}{hint}")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")
        if self.w_max is not None and not 0.0 < self.w_max < inf:
            raise ValueError(f"w_max must be > 0 and finite, got {self.w_max}")
        if self.reward is not None and not self.reward[0] < self.reward[1]:
            raise ValueError(f"reward_range must rise, got {self.reward}")
        if int(self.seed) != self.seed or self.seed < 0:
            raise ValueError(f"seed must be an integer >= 0, got {self.seed}")

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
