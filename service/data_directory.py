"""The folder of an embedded server: log, state, secrets, graphs and policies, with one owner at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bandits.errors import UsageError
from service.kept_sqlite import SqliteReplies
from service.log_sqlite import SqliteLog
from service.sqlite_file import UnusableFile
from service.store_checkpoint import CheckpointedStore
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore

LOCK = "lock"
_ATTEMPTS, _PAUSE_S = 5, 0.02
"""Tries for the lock: `owned` holds it for an instant to look at it."""


def take(path: Path) -> int:
    """Make the folder where there is none and take its lock: the descriptor to close in the end.

    Raises UsageError where another process has it or the folder cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as fault:
        raise UsageError(
            f"{path}: cannot be used as data directory: {fault.strerror}; name another by --data"
        ) from fault
    for _ in range(_ATTEMPTS):
        if _locked(lock, fcntl.LOCK_EX):
            return lock
        time.sleep(_PAUSE_S)
    os.close(lock)
    raise UsageError(f"{path}: another server owns this data directory; stop it, or name another by --data")


@contextmanager
def owning(path: Path) -> Iterator[None]:
    """Be the folder's owner for a block; raises as take does."""
    lock = take(path)
    try:
        yield
    finally:
        os.close(lock)


def owned(path: Path) -> bool:
    """Whether a process owns the folder now; nothing is made where it has no lock."""
    if not (path / LOCK).exists():
        return False
    lock = os.open(path / LOCK, os.O_RDONLY)
    try:
        return not _locked(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class DataDirectory:
    """Holds the folder's lock from construction to close; UsageError where another process has it."""

    def __init__(self, path: Path, partitions: int) -> None:
        self._lock = take(path)
        self.path = path
        self.graphs = path / "graphs"
        self.policies = path / "policies"
        for folder in (self.graphs, self.policies):
            folder.mkdir(exist_ok=True)
        with ExitStack() as opened:
            opened.callback(os.close, self._lock)
            try:
                self.log = SqliteLog(path / "log.sqlite", partitions)
                opened.callback(self.log.close)
                self.replies = SqliteReplies(path / "replies.sqlite")
                opened.callback(self.replies.close)
                self.store = CheckpointedStore(MemoryStore(partitions), SqliteStore(path / "state.sqlite", partitions))
            except UnusableFile as fault:
                raise UsageError(str(fault)) from fault
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Checkpoint, close the files and let the folder go."""
        with self._opened:
            self.store.close()
