"""What a target policy is: probabilities for the rows of a batch."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bandits.arrays import F64, Bool
from offline_eval.batches import Batch


class Target(Protocol):
    """A policy that does not learn. Picklable, so that processes can share it."""

    @property
    def name(self) -> str: ...

    def probabilities(self, batch: Batch) -> F64:
        """Of every action, float64 (n, K), rows summing to 1 over the actions a row allows.

        Raises UsageError where the policy does not fit the log.
        """

    def of_action(self, batch: Batch) -> F64:
        """Of the logged action, float64 (n,), without an (n, K) array where that is possible."""


class Dense:
    """A target whose probabilities are always made in full."""

    def probabilities(self, batch: Batch) -> F64:
        raise NotImplementedError

    def of_action(self, batch: Batch) -> F64:
        chosen: F64 = self.probabilities(batch)[np.arange(len(batch)), batch.action]
        return chosen


def allowed_of(batch: Batch) -> Bool:
    """bool (n, K): what each row allows."""
    return np.ones((len(batch), batch.n_actions), bool) if batch.allowed is None else batch.allowed
