"""Which number of a row is evaluated: its reward, one of its raw rewards, or a mixture of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.formats.chunk import Chunk
from offline_eval.survey import Survey


@dataclass(frozen=True, slots=True)
class RewardChoice:
    """sum_name weight (raw - mean) / scale over its parts, or the row's own reward where there are none.

    parts  by name of the raw reward: (weight, mean, scale)
    """

    parts: Mapping[str, tuple[float, float, float]]
    name: str

    def of(self, chunk: Chunk) -> F64:
        """Of each row, float64 (n,); NaN where a part is missing."""
        if not self.parts:
            return chunk.reward
        total = np.zeros(len(chunk))
        for name, (weight, mean, scale) in self.parts.items():
            total += weight * (chunk.rewards[name] - mean) / scale
        return total

    def bounds(self, survey: Survey) -> tuple[float, float]:
        """Smallest and largest value seen, of a mixture those that its parts allow."""
        if not self.parts:
            return survey.reward
        low = high = 0.0
        for name, (weight, mean, scale) in self.parts.items():
            ends = [weight * (end - mean) / scale for end in (survey.rewards[name].low, survey.rewards[name].high)]
            low, high = low + min(ends), high + max(ends)
        return low, high


def choose(survey: Survey, name: str | None, beta: float | None) -> RewardChoice:
    """The row's reward, a raw one by name, or beta z(satisfaction) + (1 - beta) z(revenue), z as in the log.

    Raises UsageError where the log has no such reward.
    """
    if beta is not None:
        if name is not None:
            raise UsageError("--reward and --beta: give one of them")
        if not 0.0 <= beta <= 1.0:
            raise UsageError(f"--beta must lie in [0, 1], got {beta:g}")
        parts = {}
        for one, weight in (("satisfaction", beta), ("revenue", 1.0 - beta)):
            _check(survey, one, "--beta")
            raw = survey.rewards[one]
            parts[one] = (weight, raw.mean, raw.deviation or 1.0)
        return RewardChoice(parts, f"{beta:g} z(satisfaction) + {1 - beta:g} z(revenue)")
    if name is None or name == "reward":
        return RewardChoice({}, survey.reward_name)
    _check(survey, name, f"--reward {name}")
    return RewardChoice({name: (1.0, 0.0, 1.0)}, name)


def _check(survey: Survey, name: str, flag: str) -> None:
    if name not in survey.rewards or not survey.rewards[name].n:
        has = ", ".join(sorted(survey.rewards)) or "none by name"
        raise UsageError(f"{flag}: the log has no reward {name}; it has {has}")
