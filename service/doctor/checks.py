"""A check looks at one thing and says what it saw; a list of them is what doctor prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from service.errors import UsageError
from service.sqlite_file import UnusableFile

T = TypeVar("T")
SHOWN = 3


class Unsound(Exception):
    """What a check found wrong, in one line: where, what, how to mend."""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check."""

    name: str
    ok: bool
    detail: str


def examine(checks: Mapping[str, Callable[[T], str]], subject: T) -> list[Check]:
    """Run checks by name: each returns what it saw, or raises Unsound; a file it cannot read is a fault as well."""
    outcomes = []
    for name, check in checks.items():
        try:
            outcomes.append(Check(name, True, check(subject)))
        except (Unsound, UnusableFile, UsageError) as fault:
            outcomes.append(Check(name, False, " ".join(str(fault).split())))
        except OSError as fault:
            outcomes.append(Check(name, False, f"{fault.filename}: {fault.strerror}"))
    return outcomes


def raise_first(faults: list[str]) -> None:
    """Raise Unsound with the first few faults and how many there are, if there are any."""
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise Unsound("; ".join(faults[:SHOWN]) + more)
