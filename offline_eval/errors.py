"""What is wrong with a log, and where."""

from __future__ import annotations

import numpy as np

from bandits.errors import UsageError


class BadLog(UsageError, ValueError):
    """A structural fault of a log: shape, type, range or text that cannot be parsed. Exit status 2.

    The message is one line: place (file and row, where there are any), column, value, rule.
    """

    def __init__(self, column: str, value: object, rule: str, *, place: str = "") -> None:
        text = f"{column}: got {_short(value)}, {rule}"
        super().__init__(f"{place}: {text}" if place else text)
        self.column, self.value, self.rule, self.place = column, value, rule, place

    def at(self, place: str) -> BadLog:
        """The same fault at another place."""
        return BadLog(self.column, self.value, self.rule, place=place)


def _short(value: object) -> str:
    """One line of at most 80 characters."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 80 else text[:77] + "..."
