"""Targets that need no file: uniform, logged, constant:ID."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.batches import Batch
from offline_eval.targets.base import Dense, allowed_of


@dataclass(frozen=True)
class Uniform:
    """Every candidate of a row alike, every action of the log where candidates are unknown."""

    name: str = "uniform"

    def probabilities(self, batch: Batch) -> F64:
        allowed = allowed_of(batch)
        share: F64 = allowed / allowed.sum(axis=1, keepdims=True)
        return share

    def of_action(self, batch: Batch) -> F64:
        share: F64 = 1.0 / batch.n_candidates
        return share


@dataclass(frozen=True)
class Logged:
    """The policy that wrote the log: every weight is 1."""

    name: str = "logged"

    def probabilities(self, batch: Batch) -> F64:
        logging = batch.logging
        if logging is None or np.isnan(logging).any():
            raise UsageError(
                "--policy logged: the log lacks the logging policy's whole distribution, which these estimators need; "
                "leave it at --estimators ips,snips"
            )
        return logging

    def of_action(self, batch: Batch) -> F64:
        return batch.chunk.propensity


@dataclass(frozen=True)
class Constant(Dense):
    """Always one action. A row that does not allow it gets it all the same: mass that the log cannot support."""

    action: str

    @property
    def name(self) -> str:
        return f"constant:{self.action}"

    def probabilities(self, batch: Batch) -> F64:
        chosen = np.zeros((len(batch), batch.n_actions))
        chosen[:, self._column(batch)] = 1.0
        return chosen

    def of_action(self, batch: Batch) -> F64:
        chosen: F64 = (batch.action == self._column(batch)).astype(np.float64)
        return chosen

    def _column(self, batch: Batch) -> int:
        column = batch.frame.actions.column(self.action)
        if column is None:
            raise ValueError(f"{self.action} is no action of the frame")
        return column
