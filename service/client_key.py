"""The API key that commands send to a server they are pointed at."""

from __future__ import annotations

import os

from bandits.errors import UsageError


def key_headers() -> dict[str, str]:
    """Headers with the key in BANDITD_KEY, none without one. Raises UsageError, which does not show it."""
    key = os.environ.get("BANDITD_KEY", "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise UsageError("BANDITD_KEY: must be printable ASCII, as `banditd keys new` prints it")
    return {"Authorization": f"Bearer {key}"}
