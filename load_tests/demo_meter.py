"""The figures of a demo while it runs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from load_tests.traffic import Outcome

EXPLORED_BELOW = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a stretch of requests.

    p50_ms, p99_ms  time of a recommendation as its client sees it
    exploration     share of requests whose item had a propensity below 1/2: every request that was not served its
                    likeliest item is among them
    """

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    mean_reward: float
    exploration: float


def _column() -> array[float]:
    return array("d")


@dataclass(slots=True)
class Meter:
    """Every request so far, a column of doubles each. Times are seconds of one monotonic clock."""

    start_s: array[float] = field(default_factory=_column)
    answer_s: array[float] = field(default_factory=_column)
    end_s: array[float] = field(default_factory=_column)
    reward: array[float] = field(default_factory=_column)
    propensity: array[float] = field(default_factory=_column)
    random_sum: float = 0.0
    best_sum: float = 0.0

    def note(self, start_s: float, answer_s: float, end_s: float, outcome: Outcome) -> None:
        """Count one request: sent, answered, its reward posted."""
        self.start_s.append(start_s)
        self.answer_s.append(answer_s)
        self.end_s.append(end_s)
        self.reward.append(outcome.reward)
        self.propensity.append(outcome.propensity)
        self.random_sum += outcome.random
        self.best_sum += outcome.best

    def __len__(self) -> int:
        return len(self.reward)

    def figures(self, start: int, stop: int) -> Figures:
        """Figures of requests start to stop, which must not be empty; a negative start counts as 0."""
        start = max(start, 0)
        n = stop - start
        took_ms = (np.array(self.answer_s[start:stop]) - np.array(self.start_s[start:stop])) * 1e3
        p50, p99 = np.percentile(took_ms, (50, 99))
        return Figures(
            requests=n,
            requests_per_s=n / (self.end_s[stop - 1] - self.start_s[start]),
            p50_ms=float(p50),
            p99_ms=float(p99),
            mean_reward=sum(self.reward[start:stop]) / n,
            exploration=sum(p < EXPLORED_BELOW for p in self.propensity[start:stop]) / n,
        )

    def last(self, n: int) -> Figures:
        """Figures of the last n requests, or of all where there are fewer."""
        return self.figures(len(self) - n, len(self))

    def curve(self, points: int, smallest: int = 20) -> tuple[int, list[float]]:
        """Mean rewards of whole stretches of requests, in order, and how many requests a stretch has.

        The stretch is `smallest` times the least power of two that makes at most `points` of them.
        """
        size = smallest
        while len(self) // size > points:
            size *= 2
        rewards = np.array(self.reward[: len(self) // size * size])
        return size, rewards.reshape(-1, size).mean(axis=1).tolist()

    @property
    def random_reward(self) -> float:
        """Expected mean reward had items been drawn uniformly."""
        return self.random_sum / len(self)

    @property
    def upper_bound(self) -> float:
        """Expected mean reward had the best item always been served."""
        return self.best_sum / len(self)
