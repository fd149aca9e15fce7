"""Kept replies in one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from service.kept_replies import Kept, Key, RepliesFull, RepliesUnavailable
from service.sqlite_file import FileKind, open_file, transaction
from service.store_sqlite import batches

KIND = FileKind(
    name="file of kept replies",
    application_id=int.from_bytes(b"bdrp", "big"),
    version=1,
    schema=(
        "CREATE TABLE reply (key TEXT PRIMARY KEY NOT NULL, expires_us INTEGER NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX reply_expiry ON reply (expires_us)",
    ),
    partition_schema=(),
)
MAX_BYTES = 1 << 30
"""Some 300,000 replies of ten items: 40 a second for two hours."""
EXPIRE_ROWS = 500
BUSY_TIMEOUT_MS = 1000
"""Short: requests wait for it, whose clients can ask again."""
INSERT = "INSERT INTO reply VALUES "
# An expired reply gives its place to the new one; one that still holds stays, and its key is not returned.
UNLESS_KEPT = (
    " ON CONFLICT (key) DO UPDATE SET expires_us = excluded.expires_us, body = excluded.body"
    " WHERE reply.expires_us <= ? RETURNING key"
)
EXPIRE = "DELETE FROM reply WHERE rowid IN (SELECT rowid FROM reply WHERE expires_us <= ? ORDER BY expires_us LIMIT ?)"


class SqliteReplies:
    """KeptReplies in the file at path, created if missing; a call of keep is one synced transaction.

    max_bytes bounds the file, above which keep raises RepliesFull; space of expired replies is used again.
    Raises UnusableFile for a file that is not such a file, is damaged, or comes from a later version.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._connection = open_file(path, KIND, 1)
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        self._connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // page_bytes)}")
        self._lock = threading.Lock()

    def find(self, keys: Sequence[Key], now_us: int) -> list[bytes | None]:
        """The reply kept for each key; see KeptReplies.find."""
        with self._using() as connection:
            found = self._find(connection, [_text(key) for key in keys], now_us)
        return [found.get(_text(key)) for key in keys]

    def keep(self, replies: Sequence[Kept], now_us: int) -> list[bytes]:
        """Keep what is not kept yet; see KeptReplies.keep."""
        first: dict[str, Kept] = {}
        for kept in replies:
            first.setdefault(_text(kept.key), kept)
        rows = [(text, kept.expires_us, kept.reply) for text, kept in first.items()]
        with self._using() as connection, transaction(connection):
            new = {key for some in batches(rows) for key in self._insert(connection, some, now_us)}
            holding = self._find(connection, [text for text in first if text not in new], now_us)
        return [holding.get(text := _text(kept.key), first[text].reply) for kept in replies]

    def expire(self, now_us: int) -> int:
        """Remove at most EXPIRE_ROWS replies; see KeptReplies.expire."""
        with self._using() as connection:
            return connection.execute(EXPIRE, (now_us, EXPIRE_ROWS)).rowcount

    def close(self) -> None:
        """Close the file; a later call of any other method raises RepliesUnavailable."""
        with self._lock:
            self._connection.close()

    def _insert(self, connection: sqlite3.Connection, rows: list[tuple[str, int, bytes]], now_us: int) -> list[str]:
        """Insert new rows and take the places of expired ones; the keys of both."""
        places = ", ".join(["(?, ?, ?)"] * len(rows))
        given = [*chain.from_iterable(rows), now_us]
        return [key for (key,) in connection.execute(INSERT + places + UNLESS_KEPT, given)]

    def _find(self, connection: sqlite3.Connection, texts: list[str], now_us: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for some in batches(texts):
            places = ", ".join("?" * len(some))
            select = f"SELECT key, body FROM reply WHERE key IN ({places}) AND expires_us > ?"
            found.update(connection.execute(select, [*some, now_us]))
        return found

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
                raise (RepliesFull if full else RepliesUnavailable)(f"{self._path}: {error}") from error


def _text(key: Key) -> str:
    """Names of surfaces hold no slash."""
    return "/".join(key)
