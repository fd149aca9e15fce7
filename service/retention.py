"""How long the log is kept: old frames go once they are checkpointed, and once a snapshot is there for doctor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from service.log_sqlite import SqliteLog, wall_clock_us
from service.snapshots import UNASKED, default_path, read_header, snapshots_of, take_snapshot
from service.store_checkpoint import CheckpointedStore

logger = logging.getLogger(__name__)

SNAPSHOT_EVERY_S = 86_400.0
SNAPSHOTS_KEPT = 2
"""Of those taken here; snapshots that somebody asked for stay."""


class Retention:
    """Trims the log of a data directory."""

    def __init__(
        self,
        folder: Path,
        log: SqliteLog,
        store: CheckpointedStore,
        retention_s: int,
        clock_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self._folder, self._log, self._store = folder, log, store
        self._retention_s, self._clock_us = retention_s, clock_us

    def trim(self) -> None:
        """Drop frames older than retention_s that the last checkpoint holds; call it from one thread at a time.

        The state cannot be folded from a log that was cut, so a snapshot is taken first, at least daily and twice in
        retention_s while there is something to drop. Raises LogUnavailable, OutOfRange, UnusableFile, UsageError or
        OSError; then the frames stay.
        """
        before_us = self._clock_us() - 1_000_000 * self._retention_s
        partitions = [p for p in range(self._log.partitions) if self._is_due(p, before_us)]
        if not partitions:
            return
        self._snapshot()
        for partition in partitions:
            needed = self._log.read(partition, self._store.checkpointed(partition), 1)
            self._log.trim(partition, min([before_us, *(frame.append_us for frame in needed)]))

    def _is_due(self, partition: int, before_us: int) -> bool:
        start, _ = self._log.bounds(partition)
        first = self._log.read(partition, start, 1)
        return bool(first) and first[0].append_us < before_us and start < self._store.checkpointed(partition)

    def _snapshot(self) -> None:
        now_us, kept = self._clock_us(), snapshots_of(self._folder, self._log.topic_id)
        every_us = 1e6 * min(SNAPSHOT_EVERY_S, self._retention_s / 2)
        if kept and now_us - read_header(kept[0]).created_us < every_us:
            return
        started = time.monotonic()
        path, _ = take_snapshot(self._folder, now_us, default_path(self._folder, now_us, UNASKED))
        logger.info("took snapshot %s in %.1f s, before the log is cut", path, time.monotonic() - started)
        unasked = [one for one in snapshots_of(self._folder, self._log.topic_id) if one.name.endswith(UNASKED)]
        for old in unasked[SNAPSHOTS_KEPT:]:
            old.unlink()
