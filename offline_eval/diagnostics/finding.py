"""What a check of a log says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

Names: TypeAlias = Callable[[int], str]
"""From an action's index to what people call it."""


class Level(IntEnum):
    """How serious a finding is."""

    OK = 0
    NOTE = 1
    WARN = 2
    REFUSE = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result.

    name    of the check: "effective sample size", "largest weight", "unsupported actions", "mean weight",
            "propensities" (a row's contradict its distribution), "propensities, actions" and
            "propensities, reliability" (they contradict what was taken), "a/a", "tail of the weights", "few rewards",
            "duplicates", "users"
    level   REFUSE: the log cannot support the question
    detail  one sentence with the numbers, and for WARN and REFUSE what to do about it
    """

    name: str
    level: Level
    detail: str
