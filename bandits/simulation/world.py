"""What a world is: users with contexts, items, and the true mean reward of every pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.graph import Graph


@dataclass(frozen=True, slots=True)
class Users:
    """n users who ask, in order.

    index      int64    (n,)    which of the world's users
    embedding  float32  (n, d)  their context: a user embedding, or the value of each of the world's feature_names
    """

    index: NDArray[np.int64]
    embedding: NDArray[np.float32]


class World(Protocol):
    """Users, items and a known truth. Nothing in it changes; randomness comes from the generators passed in.

    name           of the world
    item_ids       (N,) ids of the items
    dim            d, length of an embedding
    feature_names  (d,) names of the components where the context is named features, else None
    graph          user clusters and their items where the context is an embedding, else None
    arrival        int64 (N,): number of the request from which on an item can be served
    """

    @property
    def name(self) -> str: ...
    @property
    def item_ids(self) -> tuple[str, ...]: ...
    @property
    def dim(self) -> int: ...
    @property
    def feature_names(self) -> tuple[str, ...] | None: ...
    @property
    def graph(self) -> Graph | None: ...
    @property
    def arrival(self) -> NDArray[np.int64]: ...

    def users(self, rng: np.random.Generator, n: int) -> Users:
        """Draw the next n users who ask."""

    def mean_reward(self, users: Users) -> NDArray[np.float64]:
        """The truth: expected reward of every item for each user, float64 (n, N)."""

    def reward(self, rng: np.random.Generator, user: int, item: int) -> float:
        """Draw the reward of serving item (its index) to user (its index)."""


@dataclass(frozen=True, slots=True)
class TableWorld:
    """A World of U users whose truth is a table of click probabilities; users come uniformly with replacement.

    embedding  float32  (U, d)
    truth      float64  (U, N)  probability that the reward is 1 and not 0
    """

    name: str
    item_ids: tuple[str, ...]
    embedding: NDArray[np.float32]
    truth: NDArray[np.float64]
    arrival: NDArray[np.int64]
    graph: Graph | None = None
    feature_names: tuple[str, ...] | None = None

    @property
    def dim(self) -> int:
        return int(self.embedding.shape[1])

    def users(self, rng: np.random.Generator, n: int) -> Users:
        index = rng.integers(len(self.embedding), size=n)
        return Users(index, self.embedding[index])

    def mean_reward(self, users: Users) -> NDArray[np.float64]:
        rows: NDArray[np.float64] = self.truth[users.index]
        return rows

    def reward(self, rng: np.random.Generator, user: int, item: int) -> float:
        return float(rng.random() < self.truth[user, item])


def unit_rows(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows scaled to length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit


def softmax_rows(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax of each row."""
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    share: NDArray[np.float64] = grown / grown.sum(axis=1, keepdims=True)
    return share


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic function, elementwise."""
    rate: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
    return rate
