"""SQLite files that are ours: opened, created and checked in one way, so that a wrong file is named and left alone."""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_BYTES = 4 << 20
# Reached only if the checkpointer, which cannot pass frames written meanwhile, never meets a pause.
WAL_LIMIT_PAGES = (64 << 20) // 4096


class UnusableFile(Exception):
    """A file cannot serve as what it should be. One line: where, what is wrong, how to mend it."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What a file of ours holds.

    name              for people, as in "feedback log"
    application_id    SQLite's application_id, 4 ASCII letters
    version           SQLite's user_version: the layout of the tables
    schema            statements run once at creation, after `meta(name, value)` exists
    partition_schema  statements run once for each partition, with {partition} for its index
    """

    name: str
    application_id: int
    version: int
    schema: tuple[str, ...]
    partition_schema: tuple[str, ...]


def open_file(path: Path, kind: FileKind, partitions: int) -> sqlite3.Connection:
    """Open or create a file of this kind for writing: WAL, every commit synced. Nothing foreign is ever written to.

    Raises UnusableFile if it is another kind of file, damaged, newer than this program, not writable, or was made with
    another number of partitions; ValueError if partitions < 1.
    """
    if partitions < 1:
        raise ValueError(f"partitions must be >= 1, got {partitions}")
    _check_not_lost(path, kind)
    try:
        connection = connect(path, partitions, mode="rwc")
    except sqlite3.Error as error:
        raise UnusableFile(f"{path}: {error}; check that the directory exists and can be written") from error
    try:
        _check_identity(connection, path, kind)
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        with transaction(connection):
            if _is_empty(connection):
                _create(connection, kind, partitions)
        _check_partitions(connection, path, kind, partitions)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise UnusableFile(f"{path}: {error}; {_mend(kind, error)}") from error
        raise
    return connection


def open_reader(path: Path, partitions: int) -> sqlite3.Connection:
    """Open a file that open_file has checked, for reading only."""
    connection = connect(path, partitions, mode="rw")
    connection.execute("PRAGMA query_only = 1")
    return connection


def connect(path: Path, partitions: int, mode: str) -> sqlite3.Connection:
    """Connect without implicit transactions; the caller sees to it that one thread at a time uses the connection."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=8 * partitions + 64,
    )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the block writes, or nothing of it if the block or the commit raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all reads of the block see one state of the file."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


class Checkpointer:
    """Copies the write-ahead log back into its file on a connection and thread of its own, so that commits need not.

    A failed copy is logged and tried again with the next one: until then the frames stay in the write-ahead log.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        writer.execute(f"PRAGMA wal_autocheckpoint = {WAL_LIMIT_PAGES}")
        self._path = path
        self._connection = connect(path, 1, mode="rw")
        self._due = threading.Event()
        self._stopped = False
        self._n_bytes = 0
        self._thread = threading.Thread(target=self._run, name="banditd-checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, n_bytes: int) -> None:
        """Count bytes committed by the writer; every 4 MiB a copy is due."""
        self._n_bytes += n_bytes
        if self._n_bytes >= CHECKPOINT_BYTES:
            self._n_bytes = 0
            self._due.set()

    def close(self) -> None:
        """Stop the thread, after a copy under way, and close its connection."""
        self._stopped = True
        self._due.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._stopped:
                return
            try:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error as error:
                logger.warning("%s: checkpoint failed, tried again later: %s", self._path, error)


def _check_not_lost(path: Path, kind: FileKind) -> None:
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size and not (path.exists() and path.stat().st_size):
        raise UnusableFile(f"{path}: missing or empty, while {wal.name} holds data; {_mend(kind)}")


def _check_identity(connection: sqlite3.Connection, path: Path, kind: FileKind) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id == 0 and _is_empty(connection):
        return
    if application_id != kind.application_id:
        raise UnusableFile(f"{path}: a SQLite file, but not a {kind.name} of banditd; {_mend(kind)}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != kind.version:
        raise UnusableFile(
            f"{path}: {kind.name} of layout {version}, this banditd knows {kind.version}; "
            "run the banditd that wrote it, or move the file away"
        )


def _check_partitions(connection: sqlite3.Connection, path: Path, kind: FileKind, partitions: int) -> None:
    (held,) = connection.execute("SELECT value FROM meta WHERE name = 'partitions'").fetchone()
    if held != partitions:
        raise UnusableFile(
            f"{path}: {kind.name} made with {held} partitions, {partitions} asked for; "
            f"set partitions to {held}: it is fixed for the life of the file"
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _create(connection: sqlite3.Connection, kind: FileKind, partitions: int) -> None:
    connection.execute(f"PRAGMA application_id = {kind.application_id}")
    connection.execute(f"PRAGMA user_version = {kind.version}")
    connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID")
    connection.execute("INSERT INTO meta VALUES ('partitions', ?)", (partitions,))
    for statement in kind.schema:
        connection.execute(statement)
    for partition in range(partitions):
        for statement in kind.partition_schema:
            connection.execute(statement.format(partition=partition))


def _mend(kind: FileKind, error: sqlite3.Error | None = None) -> str:
    if error is None or error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"restore the {kind.name} from a backup, or move the file away to begin with an empty one"
    return "check the disk, the permissions and that no other banditd uses the file"


def stored_partitions(path: Path) -> int:
    """Number of partitions that a file of ours was made with. Raises UnusableFile where it is none."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (partitions,) = connection.execute("SELECT value FROM meta WHERE name = 'partitions'").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise UnusableFile(f"{path}: {error}; this is not a file of a data directory, or it is damaged") from error
    return int(partitions)


def open_stored(path: Path, kind: FileKind) -> tuple[sqlite3.Connection, int]:
    """Open a file of this kind for reading only, beside its owner or without one, and say its number of partitions.

    Nothing is changed; SQLite may leave an empty write-ahead log beside it. Raises UnusableFile where the file is not
    there, of another kind, or damaged.
    """
    if not path.is_file():
        raise UnusableFile(f"{path}: not there; name the data directory of a server by --data")
    _check_not_lost(path, kind)
    try:
        connection = connect(path, 1, mode="ro")
    except sqlite3.Error as error:
        raise UnusableFile(f"{path}: {error}; {_mend(kind)}") from error
    try:
        _check_identity(connection, path, kind)
        (partitions,) = connection.execute("SELECT value FROM meta WHERE name = 'partitions'").fetchone()
        if not isinstance(partitions, int) or partitions < 1:
            raise UnusableFile(f"{path}: says that it has {partitions!r} partitions; {_mend(kind)}")
    except BaseException as error:
        connection.close()
        # SQLite may quote damaged text in its messages, which Python then cannot decode.
        if isinstance(error, sqlite3.Error | TypeError | UnicodeDecodeError):
            raise UnusableFile(f"{path}: {error}; {_mend(kind)}") from error
        raise
    return connection, partitions
