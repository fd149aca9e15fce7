"""What a check of a log says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How serious a finding is."""

    OK = 0
    NOTE = 1
    WARN = 2
    REFUSE = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result.

    name    of the check, such as "largest weight", "unsupported actions", "propensities", "duplicates", "users"
    level   REFUSE: the log cannot support the question
    detail  one sentence with the numbers, and for WARN and REFUSE what to do about it
    """

    name: str
    level: Level
    detail: str
