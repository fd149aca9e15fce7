"""Reward models that learn row by row, so that a prediction never saw the row it is made for."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from bandits.arrays import F64
from bandits.full_linucb import FullLinUCB
from bandits.simulation.policy import Request

MAX_NUMBERS = 8_000_000
"""Of the ridge regressions' matrices: 64 MB."""


class RunningModel(Protocol):
    """Predicts rewards from the rows so far.

    name  for people
    """

    name: str

    def predict(self, request: Request) -> F64:
        """Expected reward of each candidate, float64 (A,)."""

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Take in a logged row."""


class RunningRidge:
    """A ridge regression per action on the context and an intercept, by recursive least squares; prior 0."""

    name = "running ridge regression per action"

    def __init__(self, n_actions: int, n_slots: int) -> None:
        self._fit = FullLinUCB(n_actions, n_slots + 1, alpha=0.0)
        self._intercept = n_slots

    def predict(self, request: Request) -> F64:
        """Expected reward of each candidate, float64 (A,)."""
        theta = self._fit.theta[request.candidates]
        value: F64 = theta[:, request.slots] @ request.weights + theta[:, self._intercept]
        return value

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Take in a logged row."""
        slots, weights = np.append(request.slots, self._intercept), np.append(request.weights, 1.0)
        self._fit.update(action, slots, weights, reward)


class RunningMeans:
    """The mean reward of each action so far, with one pseudo-row of the mean of all; whatever the context."""

    name = "running mean per action"

    def __init__(self, n_actions: int) -> None:
        self._n = np.zeros(n_actions)
        self._total = np.zeros(n_actions)
        self._rows = 0
        self._sum = 0.0

    def predict(self, request: Request) -> F64:
        """Expected reward of each candidate, float64 (A,)."""
        mean = self._sum / self._rows if self._rows else 0.0
        value: F64 = (mean + self._total[request.candidates]) / (1.0 + self._n[request.candidates])
        return value

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Take in a logged row."""
        self._n[action] += 1
        self._total[action] += reward
        self._rows += 1
        self._sum += reward


def running_model(n_actions: int, n_slots: int) -> RunningModel:
    """Ridge regressions where their matrices are small enough, else means."""
    if n_actions * (n_slots + 1) ** 2 <= MAX_NUMBERS:
        return RunningRidge(n_actions, n_slots)
    return RunningMeans(n_actions)
