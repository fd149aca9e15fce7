"""A batch of logged rounds beside the target policy: all that an estimator reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bandits.arrays import F64
from offline_eval.dataset import BanditLog


@dataclass(frozen=True)
class Rounds:
    """n rounds of a log and what the target policy would have done.

    log            the rounds
    target_action  float64 (n,)    the target's probability of the logged action
    target         float64 (n, K)  all of the target's probabilities, or None where no estimator needs them
    models         by name, float64 (n, K): reward predicted for every action, never by a model that saw the row.
                   `plain` fits the reward; `mrdr` minimises the variance of the doubly robust estimate
    balanced       float64 (n,) weights learned by a classifier, for bipw; or None
    """

    log: BanditLog
    target_action: F64
    target: F64 | None = None
    models: Mapping[str, F64] = field(default_factory=dict)
    balanced: F64 | None = None

    def __len__(self) -> int:
        return len(self.log)

    @cached_property
    def weight(self) -> F64:
        """Importance weight pi(a|x) / pi0(a|x), float64 (n,)."""
        weight: F64 = self.target_action / self.log.propensity
        return weight

    def model_of_action(self, model: str) -> F64:
        """Predicted reward of the logged action, float64 (n,)."""
        value: F64 = self.models[model][np.arange(len(self)), self.log.action]
        return value

    def model_of_target(self, model: str) -> F64:
        """Predicted reward under the target, sum_a pi(a|x) q(x, a), float64 (n,)."""
        if self.target is None:
            raise ValueError("needs all of the target's probabilities")
        value: F64 = np.einsum("nk,nk->n", self.target, self.models[model])
        return value
