"""Whether a row's propensity is that of its whole distribution, and pi = pi0 gives back the logged mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline_eval.dataset import SUM_TOLERANCE, BanditLog
from offline_eval.diagnostics.finding import Finding, Level


@dataclass
class Agreement:
    """Rows whose whole logging distribution is known.

    rows        in all, known or not
    known       rows
    wrong       rows whose propensity differs from logging[action] by more than 1e-6 of it
    first       where the first of them is; None without
    count, reward, size, returned   sums of c, c r, c |r|, and c r logging[action] / p
    """

    rows: int = 0
    known: int = 0
    wrong: int = 0
    first: int | str | None = None
    count: float = 0.0
    reward: float = 0.0
    size: float = 0.0
    returned: float = 0.0

    def add(self, log: BanditLog, row: NDArray[np.intp], place: Callable[[int], str] | None) -> None:
        """Take in rounds with known logging.

        row    of each among those of its batch
        place  names a row of the batch; None: the number of the round
        """
        assert log.logging is not None
        chosen = log.logging[np.arange(len(log)), log.action]
        off = np.abs(chosen - log.propensity) > SUM_TOLERANCE * log.propensity
        self.known += len(log)
        if off.any():
            self.wrong += int(off.sum())
            if self.first is None:
                at = int(row[np.argmax(off)])
                self.first = self.rows + at if place is None else place(at)
        reward = log.reward if log.count is None else log.count * log.reward
        self.count += len(log) if log.count is None else float(log.count.sum())
        self.reward += float(reward.sum())
        self.size += float(np.abs(reward).sum())
        self.returned += float((reward * (chosen / log.propensity)).sum())

    def merge(self, other: Agreement) -> None:
        """Take in the rounds of another, which follow."""
        if self.first is None and other.first is not None:
            self.first = other.first if isinstance(other.first, str) else self.rows + other.first
        self.rows += other.rows
        self.known += other.known
        self.wrong += other.wrong
        self.count += other.count
        self.reward += other.reward
        self.size += other.size
        self.returned += other.returned

    @property
    def difference(self) -> float:
        """Value of pi = pi0 less the logged mean; NaN where no distribution is known."""
        return (self.returned - self.reward) / self.count if self.count else float("nan")

    def findings(self) -> list[Finding]:
        """Propensity against distribution, and A/A."""
        return [self._agreement(), self._same()]

    def _agreement(self) -> Finding:
        name = "propensities"
        if not self.known:
            return Finding(name, Level.NOTE, "not compared: the logging policy's whole distribution is not logged")
        if self.wrong:
            where = self.first if isinstance(self.first, str) else f"round {self.first}"
            return Finding(
                name,
                Level.REFUSE,
                f"{self.wrong:,} of {self.known:,} rows (first: {where}) log a propensity that is not their action's "
                "probability in the logged distribution: one of the two is scaled, shuffled or another policy's",
            )
        return Finding(name, Level.OK, f"that of the logged distribution in all {self.known:,} rows that have one")

    def _same(self) -> Finding:
        if not self.known:
            return Finding("a/a", Level.NOTE, "not tested: the logging policy's whole distribution is not logged")
        off, mean = self.difference, self.reward / self.count
        if abs(off) * self.count > SUM_TOLERANCE * self.size:
            return Finding(
                "a/a",
                Level.REFUSE,
                f"the logging policy itself is valued at {mean + off:.6g} where the log's mean is {mean:.6g}: its "
                "propensities contradict its distribution",
            )
        return Finding("a/a", Level.OK, f"the logging policy is valued at the log's mean, {mean:.6g}")
