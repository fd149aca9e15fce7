"""Files that commands write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bandits.errors import UsageError


def check_folder(flag: str, path: Path) -> None:
    """Raise UsageError where no file can be, before long work is done for it."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{flag} {path}: must be a file in a folder that is there")


def write_whole(flag: str, path: Path, content: bytes) -> None:
    """Whole or not at all; a device or pipe is written to. Raises UsageError."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as fault:
        raise UsageError(f"{flag} {path}: {fault.strerror}") from fault
