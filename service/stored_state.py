"""The state that a data directory holds, read beside a running server: the checkpoint, and the log folded beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from bandits.cells import CellTable, decode
from bandits.errors import UsageError
from bandits.mirror import Mirror, decode_meta
from bandits.records import RecordError
from bandits.tombstones import stale_keys
from service.cells_view import Learned
from service.log import OutOfRange
from service.log_sqlite import SqliteLog
from service.sqlite_file import UnusableFile, stored_partitions
from service.store_sqlite import SqliteStore

_FRAMES = 1024


@contextmanager
def open_stored(folder: Path) -> Iterator[tuple[SqliteLog, SqliteStore]]:
    """Log and state of a data directory; UsageError where they are not there or cannot be read."""
    log_path, state_path = folder / "log.sqlite", folder / "state.sqlite"
    for path in (log_path, state_path):
        if not path.is_file():
            raise UsageError(f"{path}: not there; name the data directory of a server by --data")
    try:
        partitions = stored_partitions(log_path)
        with closing(SqliteLog(log_path, partitions)) as log, closing(SqliteStore(state_path, partitions)) as store:
            yield log, store
    except UnusableFile as fault:
        raise UsageError(str(fault)) from fault


def stored_state(log: SqliteLog, store: SqliteStore) -> Learned:
    """The whole of what the log has taught up to its end; UsageError where log and state do not fit."""
    total = CellTable()
    totals: dict[int, tuple[int, int]] = {}
    names: dict[int, str] = {}
    partitions = []
    for partition in range(log.partitions):
        values, at = _folded(log, store, partition)
        CellTable().replace(decode({k: v for k, v in values.items() if k[:1] == b"c"}), total)
        for key, value in values.items():
            if key[:1] == b"t":
                table = int.from_bytes(key[1:], "little")
                impressions, rewards = np.frombuffer(value, np.int64).tolist()
                before = totals.get(table, (0, 0))
                totals[table] = (before[0] + impressions, before[1] + rewards)
            elif key[:1] == b"n":
                names[int.from_bytes(key[1:], "little")] = value.decode()
        partitions.append({"partition": partition, "next": at, "end": at, "topic_id": log.topic_id.hex()})
    return Learned(total, lambda table: totals.get(table, (0, 0)), names, partitions, lambda table, slot: None)


def _folded(log: SqliteLog, store: SqliteStore, partition: int) -> tuple[dict[bytes, bytes], int]:
    values = dict(store.scan(partition))
    raw = values.get(b"m")
    meta = None if raw is None else decode_meta(raw)
    at = 0 if meta is None else meta.next
    if meta is not None and meta.topic != log.topic_id:
        raise UsageError(f"partition {partition}: the state is of another log; restore the files that belong together")
    for key in stale_keys(values, at):
        del values[key]
    mirror = Mirror()
    mirror.load(values.items(), 0 if meta is None else meta.watermark)
    try:
        while frames := log.read(partition, at, _FRAMES):
            for frame in frames:
                mirror.fold(frame.body, frame.append_us, frame.offset + 1)
                at = frame.offset + 1
    except (OutOfRange, RecordError) as fault:
        raise UsageError(f"partition {partition}: the log cannot be read from {at} on: {fault}") from fault
    values |= mirror.take_changes()
    for key in mirror.take_dropped():
        values.pop(key, None)
    return values, at
