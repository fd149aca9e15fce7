"""Secrets that a data directory keeps: made once, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bandits.errors import UsageError

SECRET_BYTES = 32


def secret(path: Path) -> bytes:
    """The secret in a file, made where there is none; UsageError where others may read it or it is no secret."""
    if not path.exists():
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return secret(path)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """The secret in a file that is there; UsageError where others may read it or it is no secret."""
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path}: others may read this secret; run: chmod 600 {path}")
    try:
        found = bytes.fromhex(path.read_text().strip())
    except ValueError:
        found = b""
    if len(found) < SECRET_BYTES:
        raise UsageError(
            f"{path}: not a secret of {SECRET_BYTES} bytes in hex; restore the file, or delete it for a new one"
        )
    return found
