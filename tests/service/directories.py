"""Data directories of one or more partitions, made of frames that a test chooses, and what doctor says of them."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path

from bandits.mirror import Meta, decode_meta, encode_meta
from bandits.records import Entry, encode_frame
from service.cli import main
from service.doctor.checks import Check, examine
from service.doctor.directory import Directory
from service.doctor.registry import DIRECTORY
from service.log_sqlite import SqliteLog
from service.store_sqlite import SqliteStore
from service.updater import Updater
from tests.bandits.strategies import NOW_US, encode_entry
from tests.service.logs import decided, decision, rewarded


class Opened:
    """Log and state of a directory, whose clock stands at now_us."""

    def __init__(self, folder: Path, partitions: int) -> None:
        self.now_us = NOW_US
        self.log = SqliteLog(folder / "log.sqlite", partitions, clock_us=lambda: self.now_us)
        self.store = SqliteStore(folder / "state.sqlite", partitions)

    def put(self, entries: Iterable[Entry], partition: int = 0) -> None:
        """Append one frame."""
        self.put_bytes([encode_entry(entry) for entry in entries], partition)

    def put_bytes(self, entries: list[bytes], partition: int = 0) -> None:
        self.log.append([(partition, encode_frame(entries, self.log.topic_id))])

    def fold(self) -> list[Updater]:
        """Fold all that the log holds, each time by owners that start anew."""
        updaters = [Updater(self.log, self.store, p, clock_us=lambda: self.now_us) for p in range(self.log.partitions)]
        for updater in updaters:
            while updater.step():
                pass
        return updaters

    def close(self) -> None:
        self.log.close()
        self.store.close()


@contextmanager
def opened(folder: Path, partitions: int = 1) -> Iterator[Opened]:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "generations.json").write_text("[]")
    with closing(Opened(folder, partitions)) as made:
        yield made


def fill(folder: Path, n_frames: int = 4, partitions: int = 1) -> Path:
    """A sound directory: each frame a decision of the items a and b over three slots, and a reward of 1 for a."""
    with opened(folder, partitions) as made:
        for number in range(n_frames):
            receipt = decision(number, n_slots=3)
            made.put([decided(receipt), rewarded(receipt)], number % partitions)
        made.fold()
    return folder


def edit(path: Path, statement: str, *values: object) -> int:
    """Change a file behind its owner's back; the number of rows that were hit."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).rowcount


def stored(folder: Path, partition: int = 0) -> dict[bytes, bytes]:
    with closing(sqlite3.connect(folder / "state.sqlite")) as connection:
        return dict(connection.execute(f"SELECT key, value FROM value_{partition}"))


def put_value(folder: Path, key: bytes, value: bytes, partition: int = 0) -> None:
    edit(folder / "state.sqlite", f"INSERT OR REPLACE INTO value_{partition} VALUES (?, ?)", key, value)


def meta_of(folder: Path, partition: int = 0) -> Meta:
    return decode_meta(stored(folder, partition)[b"m"])


def change_meta(folder: Path, **changes: object) -> None:
    meta = meta_of(folder)
    for name, value in changes.items():
        setattr(meta, name, value)
    put_value(folder, b"m", encode_meta(meta))


def diagnosed(folder: Path, now_us: int = NOW_US) -> dict[str, Check]:
    with closing(Directory(folder, clock_us=lambda: now_us)) as directory:
        return {check.name: check for check in examine(DIRECTORY, directory)}


def faults(folder: Path, now_us: int = NOW_US) -> dict[str, str]:
    """What doctor finds wrong: nothing in a sound directory. Every fault is one line."""
    found = {name: check.detail for name, check in diagnosed(folder, now_us).items() if not check.ok}
    assert not [detail for detail in found.values() if "\n" in detail or not detail]
    return found


def take_snapshot(folder: Path) -> Path:
    """A snapshot in the directory, as the command makes it."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["snapshot", "--data", str(folder), "--json"]) == 0
    return Path(json.loads(out.getvalue())["file"])
