"""Inverse propensities per action: what is left to test where only the chosen action's probability is logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from bandits.kernels.audit import add_allowed, add_means
from offline_eval.dataset import BanditLog
from offline_eval.diagnostics.finding import Names
from offline_eval.diagnostics.significance import Tests, falls_short, mean_is_one
from offline_eval.diagnostics.slices import Slices
from offline_eval.diagnostics.tail import Tail
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.formats.chunk import Ids

MAX_ACTIONS = 1_000_000
MAX_CELLS = 65_536
"""Actions times categories of a segment; larger segments are not tested."""
LEAST_TAKEN = 5
"""Rounds in which an action was taken, for it to be tested."""

_ALL = "all"


@dataclass
class Inverse:
    """1 / p of the rounds that took an action, by slice, and the rounds in which the action was allowed.

    taken  over the rounds that took it
    could  over the rounds that could have, its v always 0
    least  smallest propensity
    tail   of 1 / p
    """

    n_actions: int
    taken: Slices
    could: Slices
    least: float
    tail: Tail

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions
        self.taken, self.could = Slices(n_actions), Slices(n_actions)
        self.least, self.tail = 1.0, Tail()

    def add(self, log: BanditLog, segments: Mapping[str, Ids]) -> None:
        """Take in rounds whose candidates are known."""
        if self.n_actions > MAX_ACTIONS or not len(log):
            return
        inverse = 1.0 / log.propensity
        self.least = min(self.least, float(log.propensity.min()))
        self.tail.add(inverse)
        everything = {_ALL: Ids(np.zeros(len(log), np.intp), (_ALL,))}
        small = {name: ids for name, ids in segments.items() if len(ids.names) * self.n_actions <= MAX_CELLS}
        for name, ids in {**everything, **small}.items():
            self._add(name, ids, log, inverse)

    def _add(self, segment: str, ids: Ids, log: BanditLog, inverse: F64) -> None:
        count = np.empty(0) if log.count is None else log.count
        row, sums = self.taken.place(segment, ids)
        cell = np.where(row < 0, -1, row * self.n_actions + log.action)
        add_means(cell, inverse, count, sums.reshape(-1, sums.shape[-1]))
        row, sums = self.could.place(segment, ids)
        if log.allowed is not None:
            add_allowed(row, log.allowed, count, sums)
            return
        total = np.zeros((len(sums), sums.shape[-1]))
        add_means(row, np.zeros(len(log)), count, total)
        sums += total[:, None, :]

    def merge(self, other: Inverse) -> None:
        """Take in the rounds of another."""
        self.taken.merge(other.taken)
        self.could.merge(other.could)
        self.least = min(self.least, other.least)
        self.tail.merge(other.tail)

    def tests(self, name: Names, limits: Thresholds) -> Tests:
        """Whether sum [A = a] / p is the number of rounds in which a was allowed, for the actions taken.

        The mean of w under the target that always takes a. Actions never taken are the support's business. Where the
        tail of 1 / p is so heavy (k > pareto_warn) that propensities far below the least are to be expected, a sum
        that falls short only warns.
        """
        found: list[tuple[str, int]] = []
        rows: list[F64] = []
        for (where, taken), (_, could) in zip(self.taken.rows(), self.could.rows(), strict=True):
            for action in np.flatnonzero(taken[:, 0] >= LEAST_TAKEN).tolist():
                found.append((where, action))
                rows.append(np.concatenate([could[action, :3], taken[action, 3:]]))

        def tell(i: int) -> str:
            where, action = found[i]
            place = "" if where == f"{_ALL} {_ALL}" else f" at {where}"
            _, could, _, inverse, _, _ = rows[i].tolist()
            return (
                f"action {name(action)}{place}: its inverse propensities sum to {inverse:,.6g} where {could:,.6g} "
                "rounds allowed it"
            )

        table = np.array(rows).reshape(-1, 6)
        endless = self.tail.k > limits.pareto_warn
        return Tests(mean_is_one(table, 1.0 / self.least), tell, falls_short(table) & endless)
