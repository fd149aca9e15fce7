"""A data directory put back to a snapshot: nothing is overwritten, and the log's later frames are folded again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from bandits.errors import UsageError
from bandits.records import FOLD_VERSION
from service.data_directory import owning
from service.files import replace_file, sync_folder, whole_file
from service.log_sqlite import SqliteLog
from service.snapshots import FOLDER, SUFFIX, Snapshot, SnapshotError, utc_name
from service.sqlite_file import connect
from service.stored_files import StoredLog

_SUFFIXES = ("", "-wal", "-shm")
"""Of the files that SQLite keeps for one database, the database first: a start refuses a write-ahead log alone."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    next, end   of each partition: where its state stands now, and where its log ends
    replaced    where the state that was there has gone
    new_log     the directory had no log: frames after the snapshot are lost
    """

    next: list[int]
    end: list[int]
    replaced: Path | None
    new_log: bool


def restore(file: Path, folder: Path, now_us: int) -> Restored:
    """Put a snapshot's state in place of a directory's, or begin a directory with it; now_us names what is replaced.

    Raises UsageError, changing nothing, where a server owns the directory or the snapshot is damaged or does not
    belong to its log; UnusableFile where the log cannot be read.
    """
    with closing(Snapshot(file)) as snapshot:
        header = snapshot.header
        if header.fold_version != FOLD_VERSION:
            raise SnapshotError(
                f"{file}: folded by version {header.fold_version}, this is {FOLD_VERSION}; use the banditd that took it"
            )
        starts = [partition.next for partition in header.partitions]
        with owning(folder):
            new_log = not (folder / "log.sqlite").exists()
            if new_log:
                _refuse_lost_log(folder)
            ends = starts if new_log else _check_log(snapshot, folder)
            _keep_file(snapshot, folder)
            generations = folder / "generations.json"
            if not generations.exists():
                replace_file(generations, json.dumps(header.generations, indent=1).encode())
            if new_log:
                _begin_log(folder, bytes.fromhex(header.topic_id), starts)
            replaced = _put_state(snapshot, folder, utc_name(now_us))
    return Restored(starts, ends, replaced, new_log)


def _refuse_lost_log(folder: Path) -> None:
    wal = folder / "log.sqlite-wal"
    if wal.exists() and wal.stat().st_size:
        raise UsageError(f"{folder / 'log.sqlite'}: missing, while {wal.name} holds data; restore the log from a copy")


def _check_log(snapshot: Snapshot, folder: Path) -> list[int]:
    """Where each partition of the log ends; UsageError unless the log goes on where the snapshot stands."""
    header = snapshot.header
    with closing(StoredLog(folder / "log.sqlite")) as log:
        if log.topic_id.hex() != header.topic_id:
            raise UsageError(
                f"{snapshot.path}: of log {header.topic_id}, while {log.path} is {log.topic_id.hex()}; "
                "name a snapshot of this log, or another directory by --data"
            )
        if log.partitions != len(header.partitions):
            raise UsageError(
                f"{snapshot.path}: {len(header.partitions)} partitions, while {log.path} has {log.partitions}; "
                "name a snapshot of this log"
            )
        for partition, at in enumerate(header.partitions):
            start, stop = log.bounds(partition)
            where = f"{snapshot.path}: partition {partition} stands at {at.next}, while {log.path}"
            if start > at.next:
                raise UsageError(f"{where} begins at {start}: frames between are gone; name a newer snapshot")
            if stop < at.next:
                raise UsageError(f"{where} ends at {stop}: it lost frames; restore the log from a copy")
            if not log.continues(partition, at.next, at.checksum):
                raise UsageError(
                    f"{where} has another frame {at.next - 1} than was folded; name a snapshot of this log"
                )
        return [log.bounds(partition)[1] for partition in range(log.partitions)]


def _keep_file(snapshot: Snapshot, folder: Path) -> None:
    """Keep the snapshot in the directory: doctor recomputes the state from it once the log has been cut."""
    kept = folder / FOLDER / snapshot.path.name
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    if kept.exists() and kept.samefile(snapshot.path):
        return
    if kept.exists() or kept.suffix != SUFFIX:
        kept = kept.with_name(f"{utc_name(snapshot.header.created_us)}{SUFFIX}")
    with snapshot.path.open("rb") as source, whole_file(kept, 0o600) as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _begin_log(folder: Path, topic_id: bytes, starts: list[int]) -> None:
    fresh = folder / "log.sqlite.restoring"
    _remove(fresh)
    SqliteLog.beginning_at(fresh, topic_id, starts).close()
    fresh.rename(folder / "log.sqlite")
    sync_folder(folder)


def _put_state(snapshot: Snapshot, folder: Path, time: str) -> Path | None:
    fresh = folder / "state.sqlite.restoring"
    _remove(fresh)
    try:
        snapshot.write_state(fresh)
    except BaseException:
        _remove(fresh)
        raise
    replaced = _set_aside(folder / "state.sqlite", time)
    fresh.rename(folder / "state.sqlite")
    sync_folder(folder)
    return replaced


def _set_aside(path: Path, time: str) -> Path | None:
    """Move a state away under a name of its own, its write-ahead log merged or, where it is damaged, beside it."""
    if not any(path.with_name(path.name + suffix).exists() for suffix in _SUFFIXES):
        return None
    if path.exists():
        # What is damaged is set aside as it is: replacing it is what a restore is for.
        with suppress(sqlite3.Error), closing(connect(path, 1, mode="rw")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    aside = path.with_name(f"{path.name}.{time}.replaced")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
