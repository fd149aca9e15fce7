"""The parameter store in one SQLite file."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from service.log import check_partition
from service.sqlite_file import FileKind, UnusableFile, open_file, open_reader, snapshot, transaction
from service.store import META_KEY, Claim, StoreUnavailable, check_holder, check_write, new_token

KIND = FileKind(
    name="parameter store",
    application_id=int.from_bytes(b"bdst", "big"),
    version=1,
    schema=("CREATE TABLE partition (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL, token BLOB)",),
    # Loaded at 5.4 us a key; WITHOUT ROWID, whose longer values spill out of their pages, 14.
    partition_schema=(
        "CREATE TABLE value_{partition} (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)",
        "INSERT INTO partition VALUES ({partition}, 0, NULL)",
    ),
)
MALFORMED = "database disk image is malformed"
MEND = "restore the parameter store from a backup, or move the file away to begin with an empty one"
T = TypeVar("T")
# Rows written or deleted by one statement: executemany takes the interpreter's lock anew for every row, and beside a
# busy thread 3,500 rows took up to 22 s, against 0.2 s like this.
STATEMENT_ROWS = 256


class SqliteStore:
    """ParameterStore in the file at path, created if missing; a write is one synced transaction.

    Raises UnusableFile for a file that is not such a store, is damaged, or has another number of partitions.
    """

    def __init__(self, path: Path, partitions: int) -> None:
        self._path = path
        self._partitions = partitions
        self._writer = open_file(path, KIND, partitions)
        self._reader = open_reader(path, partitions)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._check_pages()

    @property
    def partitions(self) -> int:
        """Number of partitions, fixed when the file was made."""
        return self._partitions

    def _check_pages(self) -> None:
        """Refuse a damaged file before anything is written to it: it is read as a whole, as its loading does anyway."""
        try:
            (found,) = self._reader.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            found = str(error)
        if found != "ok":
            self.close()
            what = " ".join(found.removeprefix(MALFORMED).split())
            raise UnusableFile(f"{self._path}: {MALFORMED}{what and f' ({what})'}; {MEND}")

    def claim(self, partition: int) -> Claim:
        """Take the partition; see ParameterStore.claim."""
        check_partition(partition, self._partitions)
        token = new_token()
        with self._writing() as connection:
            connection.execute("UPDATE partition SET token = ? WHERE partition = ?", (token, partition))
            _, at = self._holder(connection, partition)
            return Claim(token, at, self._value(connection, partition, META_KEY))

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys; see ParameterStore.read."""
        check_partition(partition, self._partitions)
        with self._reading() as connection:
            return [self._value(connection, partition, key) for key in keys]

    def apply(self, partition: int, token: bytes, values: Mapping[bytes, bytes], *, start: int, stop: int) -> None:
        """Write values and move from start to stop; see ParameterStore.apply."""
        check_write(len(values), start, stop)
        self.write(partition, token, values, start=start, stop=stop)

    def delete(self, partition: int, token: bytes, keys: Sequence[bytes], *, at: int) -> None:
        """Remove keys; see ParameterStore.delete."""
        check_write(len(keys), at, at)
        self.write(partition, token, dict.fromkeys(keys), start=at, stop=at)

    def write(
        self, partition: int, token: bytes, changes: Mapping[bytes, bytes | None], *, start: int, stop: int
    ) -> None:
        """Do as apply does for any number of keys, removing those whose value is None in the same transaction."""
        check_partition(partition, self._partitions)
        rows = [(key, value) for key, value in changes.items() if value is not None]
        removed = [key for key, value in changes.items() if value is None]
        with self._writing() as connection:
            holder, at = self._holder(connection, partition)
            check_holder(partition, token, start, holder=holder, at=at)
            for some in batches(rows):
                places = ", ".join(["(?, ?)"] * len(some))
                connection.execute(
                    f"INSERT INTO value_{partition} VALUES {places} "
                    "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    list(chain.from_iterable(some)),
                )
            for keys in batches(removed):
                places = ", ".join("?" * len(keys))
                connection.execute(f"DELETE FROM value_{partition} WHERE key IN ({places})", keys)
            connection.execute("UPDATE partition SET next = ? WHERE partition = ?", (stop, partition))

    def scan(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return every key and value; see ParameterStore.scan."""
        check_partition(partition, self._partitions)
        with self._reading() as connection:
            return connection.execute(f"SELECT key, value FROM value_{partition}").fetchall()

    def close(self) -> None:
        """Close the file; a later call of any other method raises StoreUnavailable."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            try:
                with transaction(self._writer):
                    yield self._writer
            except sqlite3.Error as error:
                raise StoreUnavailable(f"{self._path}: {error}") from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._read_lock:
            try:
                with snapshot(self._reader):
                    yield self._reader
            except sqlite3.Error as error:
                raise StoreUnavailable(f"{self._path}: {error}") from error

    def _holder(self, connection: sqlite3.Connection, partition: int) -> tuple[bytes | None, int]:
        row: tuple[bytes | None, int] = connection.execute(
            "SELECT token, next FROM partition WHERE partition = ?", (partition,)
        ).fetchone()
        return row

    def _value(self, connection: sqlite3.Connection, partition: int, key: bytes) -> bytes | None:
        row = connection.execute(f"SELECT value FROM value_{partition} WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])


def batches(items: list[T]) -> Iterator[list[T]]:
    """Cut items into lists of STATEMENT_ROWS, and the rest into powers of two.

    A connection keeps the statements that it has compiled, 1.4 kB a row: of any length they came to 60 MiB.
    """
    start = 0
    while start < len(items):
        rows = min(STATEMENT_ROWS, 1 << ((len(items) - start).bit_length() - 1))
        yield items[start : start + rows]
        start += rows
