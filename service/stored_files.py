"""A data directory's log and state as files that are only looked at, beside a running server or without one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bandits.mirror import Meta, decode_meta
from bandits.records import RecordError, frame_checksum
from service import log_sqlite, store_sqlite
from service.log import Frame
from service.sqlite_file import FileKind, UnusableFile, open_stored, snapshot
from service.store import META_KEY

_MEND = "restore it from a backup, or the state by `banditd restore`"


class StoredFile:
    """One SQLite file of ours. Raises UnusableFile where it is no such file, or cannot be read any more."""

    def __init__(self, path: Path, kind: FileKind) -> None:
        self.path = path
        self._connection, self.partitions = open_stored(path, kind)
        # A damaged row may hold text where bytes belong.
        self._connection.text_factory = bytes

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def faults(self, pragma: str) -> list[str]:
        """What SQLite's own check of the file's structure finds, at most one line; empty where it is whole."""
        (found,) = self._row(f"PRAGMA {pragma}(1)")
        return [] if found == b"ok" else [found.decode(errors="replace")]

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        with self._named():
            return self._connection.execute(statement, values).fetchall()

    def _row(self, statement: str, values: Sequence[object] = ()) -> Any:
        rows = self._rows(statement, values)
        if not rows:
            raise UnusableFile(f"{self.path}: a row is missing that every such file has; {_MEND}")
        return rows[0]

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnusableFile(f"{self.path}: {error}; {_MEND}") from error


class StoredLog(StoredFile):
    """The frames of log.sqlite."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, log_sqlite.KIND)
        self.topic_id = bytes(self._row("SELECT value FROM meta WHERE name = 'topic_id'")[0])

    def bounds(self, partition: int) -> tuple[int, int]:
        """(start, stop) of the offsets held; where nothing was ever trimmed, start is 0 even if frame 0 is gone."""
        floor, first, last = self._row(log_sqlite.BOUNDS, (partition,))
        if first is None:
            return floor, floor
        return (first if floor else 0), max(last + 1, floor)

    def read(self, partition: int, start: int, max_frames: int) -> list[Frame]:
        """The next frames from an offset on, in their order; unlike a FeedbackLog's they may have holes."""
        return [Frame(*row) for row in self._rows(log_sqlite.SELECT, (partition, start, max_frames))]

    def continues(self, partition: int, next: int, checksum: int) -> bool:
        """Whether frame next - 1 is the one of this checksum, or is not held any more."""
        start, stop = self.bounds(partition)
        if not start < next <= stop:
            return True
        frames = self.read(partition, next - 1, 1)
        try:
            return bool(frames) and frames[0].offset == next - 1 and frame_checksum(frames[0].body) == checksum
        except RecordError:
            return False

    def newest_append_us(self) -> int:
        """Append time of the frame that was appended last; 0 where there is none."""
        rows = self._rows("SELECT append_us FROM frame ORDER BY seq DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0


class StoredState(StoredFile):
    """The last checkpoint, state.sqlite."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, store_sqlite.KIND)

    @contextlib.contextmanager
    def one_moment(self) -> Iterator[None]:
        """Let all reads of the block see one checkpoint; long ones keep the file's write-ahead log growing."""
        with self._named(), snapshot(self._connection):
            yield

    def values(self, partition: int) -> dict[bytes, bytes]:
        """Every key and value of a partition."""
        return dict(self._rows(f"SELECT key, value FROM value_{partition}"))

    def each(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """The same, one by one in the order of the keys."""
        with self._named():
            yield from self._connection.execute(f"SELECT key, value FROM value_{partition} ORDER BY key")

    def meta(self, partition: int) -> Meta | None:
        """Where a partition stands; None where nothing was folded yet."""
        rows = self._rows(f"SELECT value FROM value_{partition} WHERE key = ?", (META_KEY,))
        return self._decoded(partition, rows[0][0]) if rows else None

    def whole(self, partition: int) -> tuple[int, Meta | None, dict[bytes, bytes]]:
        """Offset, meta and values of a partition as of one moment."""
        with self.one_moment():
            (at,) = self._row("SELECT next FROM partition WHERE partition = ?", (partition,))
            values = self.values(partition)
        raw = values.get(META_KEY)
        return int(at), None if raw is None else self._decoded(partition, raw), values

    def _decoded(self, partition: int, raw: bytes) -> Meta:
        try:
            return decode_meta(raw)
        except ValueError as fault:
            raise UnusableFile(f"{self.path}: partition {partition}: key m cannot be read: {fault}") from fault
