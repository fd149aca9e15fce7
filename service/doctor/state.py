"""The check of the state: what is stored is f(log prefix), byte for byte."""

from __future__ import annotations

from collections.abc import Mapping

from bandits.kernels.fold import HOUR_US
from bandits.mirror import DEDUPE_KEY, DEDUPE_VALUE, Meta, stale_keys
from bandits.records import FOLD_VERSION
from bandits.tombstones import TOMBSTONE_KEY, TOMBSTONE_VALUE, TOTAL_KEY, tombstone_expired
from service.doctor.checks import Unsound, raise_first
from service.doctor.directory import Directory
from service.doctor.refold import Recomputed, Trimmed, refold
from service.doctor.words import Words
from service.snapshots import FOLDER, Snapshot
from service.stored_files import StoredLog

_ATTEMPTS = 10
_EXPIRING = {
    (b"d", DEDUPE_KEY.itemsize, DEDUPE_VALUE.itemsize): 0,
    (b"b", TOTAL_KEY.itemsize, 24): 16,
}
"""Byte of a value where its expiry stands, by the key's prefix and length and the value's length."""
_TOMBSTONE = (b"x", TOMBSTONE_KEY.itemsize, TOMBSTONE_VALUE.itemsize)


def state(directory: Directory) -> str:
    """Every partition holds what folding its log gives, from the log's beginning or from the newest snapshot."""
    faults: list[str] = []
    n_frames = n_beyond = 0
    bases: set[str] = set()
    for partition in range(directory.state.partitions):
        try:
            at, base = _check(directory, partition)
            n_frames += at
            n_beyond += directory.log.bounds(partition)[1] - at
            bases |= {base.path.name} if base is not None else set()
        except Unsound as fault:
            faults.append(str(fault))
    raise_first(faults)
    since = f", where the log was cut from {', '.join(sorted(bases))}" if bases else ""
    beyond = f"; {n_beyond:,} frames are not in it yet" if n_beyond else ""
    return f"the log's first {n_frames:,} frames give what is stored{since}{beyond}"


def _check(directory: Directory, partition: int) -> tuple[int, Snapshot | None]:
    for _ in range(_ATTEMPTS):
        # The state before the log: what it was folded from is there then, unless it is trimmed meanwhile.
        at, meta, values = directory.state.whole(partition)
        if meta is None:
            meta = Meta(topic=directory.log.topic_id)
        _check_meta(directory.log, partition, at, meta)
        try:
            base = _base(directory, partition, at)
            wanted = refold(directory.log, partition, base, at, directory.progress)
        except Trimmed:
            continue
        _compare(directory, partition, meta, values, wanted)
        return at, base
    raise Unsound(f"partition {partition}: the log was trimmed {_ATTEMPTS} times while it was read; run it once more")


def _check_meta(log: StoredLog, partition: int, at: int, meta: Meta) -> None:
    if meta.topic != log.topic_id:
        raise Unsound(
            f"partition {partition}: the state is of log {meta.topic.hex()}, this is {log.topic_id.hex()}; "
            "restore a snapshot of this log"
        )
    if meta.fold_version != FOLD_VERSION:
        raise Unsound(f"partition {partition}: folded by version {meta.fold_version}, this is {FOLD_VERSION}")
    if meta.next != at:
        raise Unsound(f"partition {partition}: the state stands at {at}, its key m at {meta.next}; restore a snapshot")
    stop = log.bounds(partition)[1]
    if at > stop:
        raise Unsound(f"partition {partition}: the log ends at {stop}, the state stands at {at}; restore the log")


def _base(directory: Directory, partition: int, at: int) -> Snapshot | None:
    """Where to fold from: nothing where the log holds all, else the newest snapshot that it continues."""
    log = directory.log
    start, _ = log.bounds(partition)
    if start == 0:
        return None
    for one in directory.snapshots:
        if one.header.begins(log, partition, at):
            return one
    raise Unsound(
        f"partition {partition}: the log begins at {start} and no snapshot in {directory.path / FOLDER} reaches it, so "
        f"the state cannot be recomputed; take one now, and one each time before server.retention_s has passed: "
        f"banditd snapshot --data {directory.path}"
    )


def _compare(
    directory: Directory, partition: int, meta: Meta, values: Mapping[bytes, bytes], wanted: Recomputed
) -> None:
    for name in ("checksum", "watermark"):
        stored, given = getattr(meta, name), getattr(wanted.meta, name)
        if stored != given:
            raise Unsound(
                f"partition {partition}: {name} at {meta.next} is {stored}, the log gives {given}; restore a snapshot"
            )
    ignored = wanted.revived.union(stale_keys(values, meta.next))
    held, given = _kept(values, meta.watermark), _kept(wanted.values, meta.watermark)
    differing = sorted(
        key for key in held.keys() | given.keys() if held.get(key) != given.get(key) and key not in ignored
    )
    if differing:
        words = Words(directory.surfaces, given | held)
        first = words.difference(differing[0], held.get(differing[0]), given.get(differing[0]))
        raise Unsound(
            f"partition {partition}: {first}; {len(differing)} of {len(given)} keys differ; restore a snapshot, "
            "or delete state.sqlite to fold the whole log again"
        )


def _kept(values: Mapping[bytes, bytes], watermark: int) -> dict[bytes, bytes]:
    """The keys that are f(prefix), but for those that may be deleted at this watermark."""
    return {
        key: value for key, value in values.items() if key[:1] not in (b"m", b"r") and not _old(key, value, watermark)
    }


def _old(key: bytes, value: bytes, watermark: int) -> bool:
    kind = key[:1], len(key), len(value)
    if kind == _TOMBSTONE:
        return tombstone_expired(value, watermark)
    at = _EXPIRING.get(kind)
    if at is None:
        return False
    return int.from_bytes(value[at : at + 8], "little", signed=True) < watermark - HOUR_US
