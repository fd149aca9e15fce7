"""The feedback log in one SQLite file, for a single process that writes and any number that read."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from service.log import Appended, Frame, LogFull, LogUnavailable, OutOfRange, check_partition
from service.sqlite_file import Checkpointer, FileKind, open_file, open_reader, transaction

KIND = FileKind(
    name="feedback log",
    application_id=int.from_bytes(b"bdlg", "big"),
    version=1,
    schema=(
        "INSERT INTO meta VALUES ('topic_id', randomblob(16))",
        # No offset below floor is given again: it outlives the frames that retention deletes.
        "CREATE TABLE partition (partition INTEGER PRIMARY KEY, floor INTEGER NOT NULL)",
        # One table in the order of appends, so that one statement, inserting at the right-hand end only, is one append:
        # 128 us of CPU for eight frames of 2 kB, against 146 with a table per partition and 228 keyed by partition.
        # Beside a busy thread the difference grows, as every statement takes the interpreter's lock anew.
        "CREATE TABLE frame (seq INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, "
        "append_us INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE UNIQUE INDEX frame_offset ON frame (partition, offset)",
    ),
    partition_schema=("INSERT INTO partition VALUES ({partition}, 0)",),
)
INSERT = "INSERT INTO frame (partition, offset, append_us, body) VALUES "
SELECT = "SELECT offset, append_us, body FROM frame WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?"
BOUNDS = (
    "SELECT floor, (SELECT min(offset) FROM frame WHERE partition = ?1), "
    "(SELECT max(offset) FROM frame WHERE partition = ?1) FROM partition WHERE partition = ?1"
)
FIRST_KEPT = "SELECT offset FROM frame WHERE partition = ? AND offset < ? AND append_us >= ? ORDER BY offset LIMIT 1"
STATEMENT_FRAMES = 32
"""Also bounds how many statements there are, which the connection keeps once they are compiled."""
TRIM_FRAMES = 64
TRIM_PAUSE_S = 0.001


def wall_clock_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class SqliteLog:
    """FeedbackLog in the file at path, created if missing; an append is one synced transaction.

    clock_us gives append times. max_bytes bounds the file, above which appends raise LogFull; without it the disk does.
    Space of trimmed frames is used again, not given back. Raises UnusableFile for a file that is not such a log.
    """

    def __init__(
        self,
        path: Path,
        partitions: int,
        *,
        clock_us: Callable[[], int] = wall_clock_us,
        max_bytes: int | None = None,
    ) -> None:
        self._path = path
        self._partitions = partitions
        self._clock_us = clock_us
        self._writer = open_file(path, KIND, partitions)
        (page_bytes,) = self._writer.execute("PRAGMA page_size").fetchone()
        if max_bytes is not None:
            self._writer.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")
        self._reader = open_reader(path, partitions)
        self._checkpointer = Checkpointer(path, self._writer)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._closed = False
        (self._topic_id,) = self._writer.execute("SELECT value FROM meta WHERE name = 'topic_id'").fetchone()
        self._following = self._find_following()

    @classmethod
    def beginning_at(cls, path: Path, topic_id: bytes, starts: Sequence[int]) -> SqliteLog:
        """A new log of a given topic id whose partitions begin at given offsets, their earlier frames being lost.

        Raises ValueError where there is a file.
        """
        if path.exists():
            raise ValueError(f"{path} must not exist")
        writer = open_file(path, KIND, len(starts))
        with contextlib.closing(writer), transaction(writer):
            writer.execute("UPDATE meta SET value = ? WHERE name = 'topic_id'", (topic_id,))
            for partition, start in enumerate(starts):
                writer.execute("UPDATE partition SET floor = ? WHERE partition = ?", (start, partition))
        return cls(path, len(starts))

    @property
    def topic_id(self) -> bytes:
        """16 bytes, made with the file."""
        return bytes(self._topic_id)

    @property
    def partitions(self) -> int:
        """Number of partitions, fixed when the file was made."""
        return self._partitions

    def append(self, frames: Sequence[tuple[int, bytes]]) -> list[Appended]:
        """Append all frames in one synced transaction, or none; see FeedbackLog.append."""
        for partition, _ in frames:
            check_partition(partition, self._partitions)
        if not frames:
            return []
        with self._write_lock:
            following = self._following.copy()
            append_us = self._clock_us()
            appended = []
            for partition, _ in frames:
                appended.append(Appended(partition, following[partition], append_us))
                following[partition] += 1
            try:
                self._insert(frames, appended)
            except sqlite3.IntegrityError as error:
                self._following = self._find_following()
                raise LogUnavailable(f"{self._path}: another process appended to it") from error
            except sqlite3.Error as error:
                raise self._failure(error) from error
            self._following = following
            self._checkpointer.wrote(sum(len(body) for _, body in frames))
        return appended

    def read(self, partition: int, start: int, max_frames: int) -> list[Frame]:
        """Return at most max_frames frames from start on; see FeedbackLog.read."""
        check_partition(partition, self._partitions)
        with self._read_lock:
            try:
                rows = self._reader.execute(SELECT, (partition, start, max_frames)).fetchall()
                if rows and rows[0][0] == start:
                    return [Frame(*row) for row in rows]
                first, stop = self._find_bounds(self._reader, partition)
            except sqlite3.Error as error:
                raise self._failure(error) from error
        if rows or not first <= start <= stop:
            raise OutOfRange(f"{self._path}: partition {partition} holds offsets [{first}, {stop}), asked for {start}")
        return []

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return (start, stop) of the offsets held; see FeedbackLog.bounds."""
        check_partition(partition, self._partitions)
        with self._read_lock:
            try:
                return self._find_bounds(self._reader, partition)
            except sqlite3.Error as error:
                raise self._failure(error) from error

    def trim(self, partition: int, before_us: int) -> int:
        """Delete the oldest frames up to the first whose append_us >= before_us; return the first offset still held.

        Works in transactions of a few frames with pauses between, so that appends of other threads get their turn.
        Raises LogUnavailable; what was deleted by then stays deleted.
        """
        check_partition(partition, self._partitions)
        while True:
            with self._write_lock:
                try:
                    with transaction(self._writer):
                        start, more = self._trim_some(partition, before_us)
                except sqlite3.Error as error:
                    raise self._failure(error) from error
            if not more:
                return start
            time.sleep(TRIM_PAUSE_S)

    def close(self) -> None:
        """Close the file; a later call of any other method raises LogUnavailable."""
        with self._write_lock, self._read_lock:
            if not self._closed:
                self._closed = True
                self._checkpointer.close()
                self._reader.close()
                self._writer.close()

    def _insert(self, frames: Sequence[tuple[int, bytes]], appended: list[Appended]) -> None:
        rows = [(at.partition, at.offset, at.append_us, body) for at, (_, body) in zip(appended, frames, strict=True)]
        if len(rows) <= STATEMENT_FRAMES:
            self._insert_rows(rows)
            return
        with transaction(self._writer):
            for start in range(0, len(rows), STATEMENT_FRAMES):
                self._insert_rows(rows[start : start + STATEMENT_FRAMES])

    def _insert_rows(self, rows: list[tuple[int, int, int, bytes]]) -> None:
        places = ", ".join(["(?, ?, ?, ?)"] * len(rows))
        self._writer.execute(INSERT + places, list(chain.from_iterable(rows)))

    def _trim_some(self, partition: int, before_us: int) -> tuple[int, bool]:
        start, stop = self._find_bounds(self._writer, partition)
        end = min(start + TRIM_FRAMES, stop)
        kept = self._writer.execute(FIRST_KEPT, (partition, end, before_us)).fetchone()
        cut = kept[0] if kept else end
        self._writer.execute("DELETE FROM frame WHERE partition = ? AND offset < ?", (partition, cut))
        self._writer.execute("UPDATE partition SET floor = ? WHERE partition = ?", (stop, partition))
        return cut, kept is None and cut < stop

    def _find_following(self) -> list[int]:
        return [self._find_bounds(self._writer, partition)[1] for partition in range(self._partitions)]

    def _find_bounds(self, connection: sqlite3.Connection, partition: int) -> tuple[int, int]:
        floor, first, last = connection.execute(BOUNDS, (partition,)).fetchone()
        return (floor, floor) if first is None else (first, last + 1)

    def _failure(self, error: sqlite3.Error) -> LogUnavailable:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return LogFull(f"{self._path}: {error}") if full else LogUnavailable(f"{self._path}: {error}")
