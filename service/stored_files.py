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
        # A damaged row may hold text, of any bytes, where bytes belong: it must not be taken for them.
        self._connection.text_factory = lambda raw: raw.decode(errors="replace")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def faults(self, pragma: str) -> list[str]:
        """What SQLite's own check of the file's structure finds, at most one line; empty where it is whole."""
        (found,) = self._row(f"PRAGMA {pragma}(1)")
        return [] if found == "ok" else [str(found)]

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
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # The second where SQLite quotes damaged text in its message.
            raise UnusableFile(f"{self.path}: {error}; {_MEND}") from error

    def _check(self, ok: bool, what: str) -> None:
        if not ok:
            raise UnusableFile(f"{self.path}: {what}; {_MEND}")


class StoredLog(StoredFile):
    """The frames of log.sqlite."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, log_sqlite.KIND)
        try:
            (topic_id,) = self._row("SELECT value FROM meta WHERE name = 'topic_id'")
            self._check(isinstance(topic_id, bytes) and len(topic_id) == 16, "its topic id is not 16 bytes")
        except UnusableFile:
            self.close()
            raise
        self.topic_id: bytes = topic_id

    def bounds(self, partition: int) -> tuple[int, int]:
        """(start, stop) of the offsets held; where nothing was ever trimmed, start is 0 even if frame 0 is gone."""
        floor, first, last = self._row(log_sqlite.BOUNDS, (partition,))
        held = (floor,) if first is None else (floor, first, last)
        self._check(all(map(_is_number, held)), f"partition {partition}: an offset is not a number")
        if first is None:
            return floor, floor
        return (first if floor else 0), max(last + 1, floor)

    def read(self, partition: int, start: int, max_frames: int) -> list[Frame]:
        """The next frames from an offset on, in their order; unlike a FeedbackLog's they may have holes."""
        frames = [Frame(*row) for row in self._rows(log_sqlite.SELECT, (partition, start, max_frames))]
        for frame in frames:
            whole = _is_number(frame.offset) and _is_number(frame.append_us) and isinstance(frame.body, bytes)
            where = f"partition {partition}: frame {frame.offset}"
            self._check(whole, f"{where}: its offset or time is not a number, or its body is not bytes")
        return frames

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
        self._check(not rows or _is_number(rows[0][0]), "the newest frame's time is not a number")
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
        rows = self._rows(f"SELECT key, value FROM value_{partition}")
        for row in rows:
            self._check_bytes(partition, row)
        return dict(rows)

    def each(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """The same, one by one in the order of the keys."""
        with self._named():
            for row in self._connection.execute(f"SELECT key, value FROM value_{partition} ORDER BY key"):
                self._check_bytes(partition, row)
                yield row

    def meta(self, partition: int) -> Meta | None:
        """Where a partition stands; None where nothing was folded yet."""
        rows = self._rows(f"SELECT key, value FROM value_{partition} WHERE key = ?", (META_KEY,))
        if not rows:
            return None
        self._check_bytes(partition, rows[0])
        return self._decoded(partition, rows[0][1])

    def whole(self, partition: int) -> tuple[int, Meta | None, dict[bytes, bytes]]:
        """Offset, meta and values of a partition as of one moment."""
        with self.one_moment():
            (at,) = self._row("SELECT next FROM partition WHERE partition = ?", (partition,))
            values = self.values(partition)
        self._check(_is_number(at), f"partition {partition}: the offset it stands at is not a number")
        raw = values.get(META_KEY)
        return at, None if raw is None else self._decoded(partition, raw), values

    def _check_bytes(self, partition: int, row: tuple[object, object]) -> None:
        if not (isinstance(row[0], bytes) and isinstance(row[1], bytes)):
            raise UnusableFile(f"{self.path}: partition {partition}: a key or value is not bytes; {_MEND}")

    def _decoded(self, partition: int, raw: bytes) -> Meta:
        try:
            return decode_meta(raw)
        except ValueError as fault:
            raise UnusableFile(f"{self.path}: partition {partition}: key m cannot be read: {fault}; {_MEND}") from fault


def _is_number(value: object) -> bool:
    return isinstance(value, int)
