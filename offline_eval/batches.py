"""Chunks of a file as batches over the columns that the whole log agrees on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, Bool
from offline_eval.actions import Actions
from offline_eval.dataset import BanditLog
from offline_eval.formats import FORMATS
from offline_eval.formats.chunk import Chunk, Ragged, ReadOptions, Shard
from offline_eval.rewards import RewardChoice

MAX_DENSE = 4_000_000
"""Entries of a batch's (n, K) arrays."""
MAX_ROWS = 131_072


def batch_rows(n_actions: int, dense: bool) -> int:
    """Rows of a batch, so that its arrays stay within bounds."""
    return max(1, min(MAX_ROWS, MAX_DENSE // n_actions)) if dense else MAX_ROWS


@dataclass(frozen=True)
class Frame:
    """What all batches of a log agree on. Picklable.

    actions  columns of every (n, K)
    columns  names of the context, sorted
    reward   which number is evaluated
    uniform  whether every candidate was as likely in every row, so that the logging policy is known in full
    """

    actions: Actions
    columns: tuple[str, ...]
    reward: RewardChoice
    uniform: bool = False


@dataclass(frozen=True)
class Batch:
    """n rows of a log.

    chunk    as read; rows without the chosen reward are gone
    frame    of the log
    action   intp (n,)  column of what was chosen
    reward   float64 (n,)
    """

    chunk: Chunk
    frame: Frame
    action: NDArray[np.intp]
    reward: F64

    def __len__(self) -> int:
        return len(self.action)

    @property
    def n_actions(self) -> int:
        return len(self.frame.actions)

    @cached_property
    def context(self) -> F64:
        """float64 (n, d), NaN where missing."""
        context = np.full((len(self), len(self.frame.columns)), np.nan)
        at = {name: i for i, name in enumerate(self.frame.columns)}
        if self.chunk.names:
            context[:, [at[name] for name in self.chunk.names]] = self.chunk.context
        return context

    @cached_property
    def filled_context(self) -> F64:
        """The context with 0 where it is missing."""
        return np.nan_to_num(self.context, nan=0.0)

    @cached_property
    def allowed(self) -> Bool | None:
        """bool (n, K): candidates of each row, all where they are unknown; None where they are for every row."""
        ragged = self.chunk.candidates
        if ragged is None or not ragged.known.any():
            return None
        allowed = np.zeros((len(self), self.n_actions), bool)
        rows, columns = self.entries(ragged)
        allowed[rows, columns] = True
        allowed[~ragged.known] = True
        return allowed

    @cached_property
    def logging(self) -> F64 | None:
        """float64 (n, K): the logging policy's probabilities, a row of NaN where unknown; None where all are."""
        if self.frame.uniform:
            allowed = np.ones((len(self), self.n_actions), bool) if self.allowed is None else self.allowed
            uniform: F64 = allowed / allowed.sum(axis=1, keepdims=True)
            return uniform
        ragged = self.chunk.candidates
        if ragged is None or ragged.value is None:
            return None
        rows, columns = self.entries(ragged)
        logging = np.zeros((len(self), self.n_actions))
        logging[rows, columns] = ragged.value
        logging[~ragged.known | np.isnan(logging).any(axis=1)] = np.nan
        return logging

    @property
    def knows_logging(self) -> bool:
        """Whether the logging policy's whole distribution is known in every row."""
        return self.logging is not None and not bool(np.isnan(self.logging[:, 0]).any())

    def entries(self, ragged: Ragged) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of every id in the rows' lists."""
        rows = np.repeat(np.arange(len(self)), np.diff(ragged.start))
        return rows, self.frame.actions.columns(ragged.names)[ragged.code]

    @property
    def n_candidates(self) -> NDArray[np.int64]:
        """Candidates of each row, int64 (n,); all actions where unknown."""
        ragged = self.chunk.candidates
        if ragged is None:
            return np.full(len(self), self.n_actions, np.int64)
        return np.where(ragged.known, np.diff(ragged.start), self.n_actions)

    def log(self, dense: bool) -> BanditLog:
        """The rows as a BanditLog, its (n, K) members only where dense."""
        chunk = self.chunk
        return BanditLog.unchecked(
            context=self.filled_context if self.frame.columns else None,
            action=self.action,
            reward=self.reward,
            propensity=chunk.propensity,
            n_actions=self.n_actions,
            logging=self.logging if dense else None,
            user=chunk.user,
            timestamp=chunk.timestamp,
            allowed=self.allowed if dense else None,
            count=chunk.count,
        )


def batches(shard: Shard, rows: int, options: ReadOptions, frame: Frame) -> Iterator[Batch]:
    """Batches of a shard, in order. Raises BadLog."""
    for chunk in FORMATS[shard.format].read(shard, rows, options):
        reward = frame.reward.of(chunk)
        if np.isnan(reward).any():
            keep = ~np.isnan(reward)
            chunk, reward = chunk.where(keep, f"no {frame.reward.name}"), reward[keep]
        if len(chunk):
            yield Batch(chunk, frame, frame.actions.columns(chunk.action.names)[chunk.action.code], reward)
