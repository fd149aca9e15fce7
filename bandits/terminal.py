"""What commands print for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console


class Terminal(Console):
    """A console without control characters where NO_COLOR is set, of which rich itself keeps bold and italic; a closed
    pipe it leaves to the command line, which ends quietly."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if self.no_color and "color_system" not in given:
            super().__init__(**given, color_system=None)

    def on_broken_pipe(self) -> None:
        """Called while the fault is handled: goes on with it, where rich would exit with status 1."""
        raise
