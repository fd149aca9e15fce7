"""The folder of an embedded server: log, state, secrets and graphs, with one owner at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from service.errors import UsageError
from service.log_sqlite import SqliteLog
from service.sqlite_file import UnusableFile
from service.store_checkpoint import CheckpointedStore
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore


class DataDirectory:
    """Holds the folder's lock from construction to close; UsageError where another process has it."""

    def __init__(self, path: Path, partitions: int) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as fault:
            raise UsageError(
                f"{path}: cannot be used as data directory: {fault.strerror}; name another by --data"
            ) from fault
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(self._lock)
            raise UsageError(
                f"{path}: another server owns this data directory; stop it, or name another by --data"
            ) from fault
        self.path = path
        self.graphs = path / "graphs"
        self.graphs.mkdir(exist_ok=True)
        with ExitStack() as opened:
            opened.callback(os.close, self._lock)
            try:
                self.log = SqliteLog(path / "log.sqlite", partitions)
                opened.callback(self.log.close)
                self.store = CheckpointedStore(MemoryStore(partitions), SqliteStore(path / "state.sqlite", partitions))
            except UnusableFile as fault:
                raise UsageError(str(fault)) from fault
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Checkpoint, close the files and let the folder go."""
        with self._opened:
            self.store.close()
