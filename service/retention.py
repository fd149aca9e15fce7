"""How long the log is kept: old frames go once they are checkpointed, and once a snapshot is there for doctor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from service.log_sqlite import SqliteLog, wall_clock_us
from service.snapshots import (
    UNASKED,
    Header,
    Snapshot,
    SnapshotError,
    default_path,
    kept_snapshots,
    snapshots_of,
    take_snapshot,
)
from service.store_checkpoint import CheckpointedStore
from service.stored_files import StoredLog

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
        self._whole: dict[tuple[Path, int, int, int], bool] = {}
        # Where partitions stood whose state does not fit their log: a snapshot helps them only once that has changed.
        self._in_vain: dict[int, int] = {}

    def trim(self) -> None:
        """Drop frames older than retention_s that the last checkpoint holds; call it from one thread at a time.

        The state cannot be folded from a log that was cut, so no frame goes that lies beyond the newest whole snapshot.
        A new one is taken where there is none of the last day, or of the last half of retention_s, where those that are
        there would keep old frames, or where those that the log was cut for are gone. Raises LogUnavailable,
        OutOfRange, UnusableFile, UsageError or OSError; then the frames stay.
        """
        now_us = self._clock_us()
        before_us = now_us - 1_000_000 * self._retention_s
        starts = [self._log.bounds(partition)[0] for partition in range(self._log.partitions)]
        due = [partition for partition, start in enumerate(starts) if self._is_due(partition, start, before_us)]
        cut = [partition for partition, start in enumerate(starts) if start and partition not in due]
        wanting = [partition for partition in due if not self._is_ready(partition, now_us, before_us)]
        wanting += [partition for partition in cut if self._reach(partition) is None]
        if any(self._in_vain.get(partition) != self._store.checkpointed(partition) for partition in wanting):
            self._take(now_us)
            at = {partition: self._store.checkpointed(partition) for partition in wanting}
            self._in_vain = {partition: at[partition] for partition in wanting if self._reach(partition) is None}
        for partition in due:
            stop = self._reach(partition)
            if stop is None:
                logger.warning("partition %d: no whole snapshot begins in the log, which is not cut", partition)
                continue
            needed = self._log.read(partition, stop, 1)
            self._log.trim(partition, min([before_us, *(frame.append_us for frame in needed)]))

    def _is_due(self, partition: int, at: int, before_us: int) -> bool:
        """Whether the frame at an offset is to go."""
        if at >= self._store.checkpointed(partition):
            return False
        frames = self._log.read(partition, at, 1)
        return bool(frames) and frames[0].append_us < before_us

    def _is_ready(self, partition: int, now_us: int, before_us: int) -> bool:
        """Whether the snapshots that are there are enough to cut a partition."""
        every_us = 1e6 * min(SNAPSHOT_EVERY_S, self._retention_s / 2)
        recent = (
            0 <= now_us - header.created_us < every_us and self._is_whole(path)
            for path, header in self._begun_from(partition)
        )
        reach = self._reach(partition)
        return any(recent) and reach is not None and not self._is_due(partition, reach, before_us)

    def _reach(self, partition: int) -> int | None:
        """The largest offset that a partition may be cut at; None where doctor can fold it from no whole snapshot."""
        found = [(header.partitions[partition].next, path) for path, header in self._begun_from(partition)]
        found.sort(reverse=True)
        return next((at for at, path in found if self._is_whole(path)), None)

    def _begun_from(self, partition: int) -> list[tuple[Path, Header]]:
        """Snapshots that a partition's state can be folded from if they are whole, the newest first."""
        at = self._store.checkpointed(partition)
        with closing(StoredLog(self._folder / "log.sqlite")) as log:
            kept = kept_snapshots(self._folder, log.topic_id)
            return [(path, header) for path, header in kept if header.begins(log, partition, at)]

    def _is_whole(self, path: Path) -> bool:
        """Whether a snapshot gives its checksum; a file that stays as it is is read once."""
        found = path.stat()
        known = (path, found.st_ino, found.st_size, found.st_mtime_ns)
        if known not in self._whole:
            try:
                Snapshot(path).close()
                self._whole[known] = True
            except SnapshotError as fault:
                logger.warning("%s", fault)
                self._whole[known] = False
        return self._whole[known]

    def _take(self, now_us: int) -> None:
        started = time.monotonic()
        path, _ = take_snapshot(self._folder, now_us, default_path(self._folder, now_us, UNASKED))
        # What others are let go for must be whole itself.
        Snapshot(path).close()
        logger.info("took snapshot %s in %.1f s, before the log is cut", path, time.monotonic() - started)
        others = [one for one in snapshots_of(self._folder, self._log.topic_id) if one.name.endswith(UNASKED)]
        others.remove(path)
        for old in others[SNAPSHOTS_KEPT - 1 :]:
            old.unlink()
