"""A data directory as checks look at it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from bandits.errors import UsageError
from service.rewards import Generations
from service.snapshots import Snapshot, SnapshotError, snapshots_of
from service.stored_files import StoredLog, StoredState


class Directory:
    """Opens files when a check first needs them, for reading only; to be closed.

    progress   takes a line on what is being done
    clock_us   UTC microseconds
    """

    def __init__(
        self,
        path: Path,
        *,
        progress: Callable[[str], None] = lambda line: None,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.path, self.progress, self.clock_us = path, progress, clock_us
        self._log: StoredLog | None = None
        self._state: StoredState | None = None
        self._snapshots: dict[Path, Snapshot | None] = {}

    @property
    def log(self) -> StoredLog:
        """The log. Raises UnusableFile."""
        if self._log is None:
            self._log = StoredLog(self.path / "log.sqlite")
        return self._log

    @property
    def state(self) -> StoredState:
        """The last checkpoint. Raises UnusableFile."""
        if self._state is None:
            self._state = StoredState(self.path / "state.sqlite")
        return self._state

    @property
    def snapshots(self) -> list[Snapshot]:
        """The whole ones of this log, the newest first; the check `snapshots` names the others."""
        return [whole for path in snapshots_of(self.path, self.log.topic_id) if (whole := self._snapshot(path))]

    def _snapshot(self, path: Path) -> Snapshot | None:
        if path not in self._snapshots:
            try:
                self._snapshots[path] = Snapshot(path)
            except SnapshotError:
                self._snapshots[path] = None
        return self._snapshots[path]

    @property
    def surfaces(self) -> dict[int, str]:
        """Surface of each table key and totals key, as far as generations.json says; it has a check of its own."""
        path = self.path / "generations.json"
        try:
            entries = json.loads(path.read_text()) if path.exists() else []
            return {int(entry[key], 16): entry["surface"] for entry in entries for key in ("table", "totals")}
        except (ValueError, TypeError, LookupError, RecursionError):
            return {}

    def generations(self) -> Generations:
        """What receipts that are out may name. Raises UsageError."""
        path = self.path / "generations.json"
        try:
            return Generations(path)
        except (AttributeError, ArithmeticError, RecursionError) as fault:
            raise UsageError(f"{path}: cannot be read; restore it ({fault!r})") from fault

    def close(self) -> None:
        """Close what was opened."""
        for file in (self._log, self._state, *self._snapshots.values()):
            if file is not None:
                file.close()
