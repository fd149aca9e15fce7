"""Whether enough rounds were rewarded for the target's value to be told from 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.rounds import Rounds

LEAST = 10


@dataclass
class Rewarded:
    """Rounds whose reward is not 0 and whose action the target would take: all that an estimate is made of."""

    n: int = 0

    def add(self, rounds: Rounds) -> None:
        """Take in a batch."""
        self.n += int(np.count_nonzero((rounds.log.reward != 0.0) & (rounds.target_action > 0.0)))

    def merge(self, other: Rewarded) -> None:
        """Take in the rounds of another."""
        self.n += other.n

    def findings(self) -> list[Finding]:
        """Whether there are ten."""
        said = f"{self.n:,} rounds of the target's actions have a reward other than 0"
        if self.n < LEAST:
            return [
                Finding(
                    "few rewards", Level.WARN, f"{said}, fewer than {LEAST}: log more rounds before trusting a value"
                )
            ]
        return [Finding("few rewards", Level.OK, said)]
