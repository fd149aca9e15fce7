"""Who plays a replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bandits.arrays import F64, Bool
from bandits.simulation.policy import Request


class Player(Protocol):
    """A policy that is asked row by row and may learn on the way."""

    def probabilities(self, request: Request) -> F64:
        """Probability of each candidate at this moment, float64 (A,)."""

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Take in the reward of the action that it chose."""


@dataclass
class FixedPlayer:
    """A policy that does not learn, given by its probabilities.

    target  float64 (n, K) of the rows that are played next; request.user is the row
    """

    target: F64

    def probabilities(self, request: Request) -> F64:
        """Of each candidate, float64 (A,)."""
        row: F64 = self.target[request.user, request.candidates]
        return row

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Nothing to learn."""


@dataclass
class Path:
    """What became of n rows in doubly robust replay.

    probability  float64 (E,)  of every candidate when its row was played, aligned with Rows.entries
    weight       float64 (n,)  of each row
    c            float64 (n,)  multiplier that it was met with
    taken        bool    (n,)  whether it was learned from
    next_c       multiplier of the row after these
    """

    probability: F64
    weight: F64
    c: F64
    taken: Bool
    next_c: float = 0.0
