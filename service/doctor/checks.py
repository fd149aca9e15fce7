"""A check looks at one thing and says what it saw; a list of them is what doctor prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bandits.errors import UsageError
from service.sqlite_file import UnusableFile

T = TypeVar("T")
SHOWN = 3
UNFORESEEN = "cannot be checked: something here is damaged in a way that this check does not know"


class Unsound(Exception):
    """What a check found wrong, in one line: where, what, how to mend."""


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check."""

    name: str
    ok: bool
    detail: str


def examine(checks: Mapping[str, Callable[[T], str]], subject: T) -> list[Check]:
    """Run checks by name: each returns what it saw, or raises Unsound; a file it cannot read is a fault as well.

    So is anything else that a check raises: no damage, however odd, may hide what the other checks find.
    """
    outcomes = []
    for name, check in checks.items():
        try:
            outcomes.append(Check(name, True, _line(check(subject))))
        except (Unsound, UnusableFile, UsageError) as fault:
            outcomes.append(Check(name, False, _line(str(fault))))
        except OSError as fault:
            where = f"{fault.filename}: " if fault.filename else ""
            outcomes.append(Check(name, False, _line(f"{where}{fault.strerror or fault}")))
        except Exception as fault:
            # Without a name the traceback would say no more to whoever reads the report.
            outcomes.append(Check(name, False, _line(f"{UNFORESEEN} ({fault!r}); restore the directory from a backup")))
    return outcomes


def _line(text: str) -> str:
    """A text in one line that any terminal takes, whatever stood in a file."""
    joined = " ".join(text.split())
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in joined)


def raise_first(faults: list[str]) -> None:
    """Raise Unsound with the first few faults and how many there are, if there are any."""
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise Unsound("; ".join(faults[:SHOWN]) + more)
