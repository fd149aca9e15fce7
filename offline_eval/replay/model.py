"""Reward models that learn row by row, so that a prediction never saw the row it is made for."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bandits.arrays import F64
from bandits.full_linucb import FullLinUCB
from bandits.kernels.running import play_means, play_ridge
from offline_eval.replay.rows import Rows

MAX_NUMBERS = 8_000_000
"""Of the ridge regressions' matrices: 64 MB."""


class RunningModel(Protocol):
    """Predicts rewards from the rows so far.

    name  for people
    """

    name: str

    def play(self, rows: Rows) -> F64:
        """Expected reward of every candidate of the next rows, float64 (E,) aligned with rows.entries; each row is
        learned after it was predicted.
        """


class RunningRidge:
    """A ridge regression per action on the context and an intercept, by recursive least squares; prior 0."""

    name = "running ridge regression per action"

    def __init__(self, n_actions: int, n_slots: int) -> None:
        self._fit = FullLinUCB(n_actions, n_slots + 1, alpha=0.0)

    def play(self, rows: Rows) -> F64:
        """See RunningModel."""
        (start, column), slots, fit = rows.entries, rows.slots, self._fit
        predicted, gain = np.empty(len(column)), np.empty(fit.n_slots)
        play_ridge(
            slots.start,
            slots.slot,
            slots.weight,
            start,
            column,
            rows.action,
            rows.reward,
            fit.inverse,
            fit.theta,
            gain,
            predicted,
        )
        return predicted


class RunningMeans:
    """The mean reward of each action so far, with one pseudo-row of the mean of all; whatever the context."""

    name = "running mean per action"

    def __init__(self, n_actions: int) -> None:
        self._n = np.zeros(n_actions)
        self._total = np.zeros(n_actions)
        self._overall = np.zeros(2)

    def play(self, rows: Rows) -> F64:
        """See RunningModel."""
        start, column = rows.entries
        predicted = np.empty(len(column))
        play_means(start, column, rows.action, rows.reward, self._n, self._total, self._overall, predicted)
        return predicted


def running_model(n_actions: int, n_slots: int) -> RunningModel:
    """Ridge regressions where their matrices are small enough, else means."""
    if n_actions * (n_slots + 1) ** 2 <= MAX_NUMBERS:
        return RunningRidge(n_actions, n_slots)
    return RunningMeans(n_actions)
