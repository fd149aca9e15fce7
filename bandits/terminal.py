"""What commands print for people."""

from __future__ import annotations

from rich.console import Console


class Terminal(Console):
    """A console that leaves a closed pipe to the command line, which ends quietly."""

    def on_broken_pipe(self) -> None:
        """Called while the fault is handled: goes on with it, where rich would exit with status 1."""
        raise
