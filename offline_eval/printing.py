"""Where commands print for people."""

from __future__ import annotations

import os
import sys

from bandits.terminal import Terminal


def stdout() -> Terminal:
    """Standard output, without control characters where NO_COLOR is set: of it rich itself keeps bold and italic."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Terminal(file=sys.stdout, color_system=None if plain else "auto", highlight=False)
