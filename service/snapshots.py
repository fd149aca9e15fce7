"""Snapshots: the state of every partition in one file, each standing at its own offset of the log.

magic, version u16, sha256 of all that follows; header length u32, header (JSON); then for each partition its keys in
order: key length u16, value length u32, key, value. Little-endian. Key `m` and the ring are not kept: what they say of
the log stands in the header, the rest belongs to a running owner.
"""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from bandits.errors import UsageError
from bandits.mirror import Meta, encode_meta
from bandits.records import FOLD_VERSION
from service.files import whole_file
from service.store import META_KEY
from service.store_sqlite import SqliteStore
from service.stored_files import StoredLog, StoredState

FOLDER, SUFFIX = "snapshots", ".snapshot"
UNASKED = f"-unasked{SUFFIX}"
"""How the names end of snapshots that the server took by itself, and lets go by itself."""
MAGIC, VERSION = b"BDSN", 1
_HEAD = struct.Struct("<4sH32s")
_LENGTH = struct.Struct("<I")
_PAIR = struct.Struct("<HI")
_PIECE = 1 << 20
_KEYS_AT_A_TIME = 20_000
_NOT_KEPT = frozenset((b"m", b"r"))


class SnapshotError(UsageError):
    """A file that is no snapshot to rely on, or state that none can be taken of."""


class PartitionHeader(msgspec.Struct, frozen=True):
    """Where a partition stands, and how many keys and bytes of it the file holds; see Meta."""

    next: int
    checksum: int
    watermark: int
    keys: int
    bytes: int


class Header(msgspec.Struct, frozen=True):
    """What a snapshot says of itself; topic_id in hex, generations as generations.json has them."""

    created_us: int
    topic_id: str
    fold_version: int
    partitions: list[PartitionHeader]
    generations: list[dict[str, Any]]

    def meta(self, partition: int) -> Meta:
        """Key `m` of a partition that no owner holds."""
        at = self.partitions[partition]
        return Meta(
            next=at.next,
            checksum=at.checksum,
            topic=bytes.fromhex(self.topic_id),
            fold_version=self.fold_version,
            watermark=at.watermark,
        )

    def begins(self, log: StoredLog, partition: int, at: int) -> bool:
        """Whether folding the log on from here gives the state of a partition that stands at an offset."""
        if self.fold_version != FOLD_VERSION or len(self.partitions) != log.partitions:
            return False
        held = self.partitions[partition]
        return log.bounds(partition)[0] <= held.next <= at and log.continues(partition, held.next, held.checksum)


def write_snapshot(
    state: StoredState, topic_id: bytes, generations: Sequence[dict[str, Any]], created_us: int, path: Path
) -> Header:
    """Copy the last checkpoint to a file, readable by its owner alone, all partitions as of one moment.

    Raises SnapshotError where the state is not of this log, or of another fold.
    """
    with state.one_moment(), whole_file(path, 0o600) as file:
        header = Header(
            created_us,
            topic_id.hex(),
            FOLD_VERSION,
            [_described(state, partition, topic_id) for partition in range(state.partitions)],
            list(generations),
        )
        head = msgspec.json.encode(header)
        file.write(bytes(_HEAD.size))
        digest = hashlib.sha256()
        for piece in _pieces(head, state):
            digest.update(piece)
            file.write(piece)
        file.seek(0)
        file.write(_HEAD.pack(MAGIC, VERSION, digest.digest()))
    return header


def take_snapshot(folder: Path, created_us: int, path: Path) -> tuple[Path, Header]:
    """Copy the last checkpoint of a data directory, also beside its server, to a file.

    Raises UnusableFile or UsageError where the directory's files cannot be read or do not fit, OSError where the
    snapshot cannot be written.
    """
    with closing(StoredLog(folder / "log.sqlite")) as log, closing(StoredState(folder / "state.sqlite")) as state:
        if path.parent == folder / FOLDER:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        return path, write_snapshot(state, log.topic_id, _generations(folder), created_us, path)


def _generations(folder: Path) -> list[dict[str, Any]]:
    path = folder / "generations.json"
    try:
        entries: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes()) if path.exists() else []
    except ValueError as fault:
        raise UsageError(f"{path}: cannot be read; restore it ({fault})") from fault
    return entries


def _pieces(head: bytes, state: StoredState) -> Iterator[bytes]:
    yield _LENGTH.pack(len(head)) + head
    for partition in range(state.partitions):
        gathered = bytearray()
        for key, value in state.each(partition):
            if key[:1] not in _NOT_KEPT:
                gathered += _PAIR.pack(len(key), len(value)) + key + value
            if len(gathered) > _PIECE:
                yield bytes(gathered)
                gathered.clear()
        yield bytes(gathered)


def _described(state: StoredState, partition: int, topic_id: bytes) -> PartitionHeader:
    meta = state.meta(partition)
    keys = size = 0
    for key, value in state.each(partition):
        if key[:1] not in _NOT_KEPT:
            keys += 1
            size += _PAIR.size + len(key) + len(value)
    if meta is None:
        return PartitionHeader(0, 0, 0, keys, size)
    if meta.topic != topic_id:
        raise SnapshotError(
            f"{state.path}: partition {partition}: the state is of log {meta.topic.hex()}, not of {topic_id.hex()}; "
            "run banditd doctor"
        )
    if meta.fold_version != FOLD_VERSION:
        raise SnapshotError(
            f"{state.path}: partition {partition}: folded by version {meta.fold_version}, this is {FOLD_VERSION}; "
            "take the snapshot by the banditd that folded it"
        )
    return PartitionHeader(meta.next, meta.checksum, meta.watermark, keys, size)


class Snapshot:
    """A snapshot file, whole and of this version; SnapshotError where it is not. To be closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as fault:
            raise SnapshotError(f"{path}: {fault.strerror}; name a snapshot file") from fault
        try:
            checksum, self.header = _read_head(self._file, path)
            self._first = self._file.tell()
            self._file.seek(_HEAD.size)
            digest = hashlib.sha256()
            while piece := self._file.read(_PIECE):
                digest.update(piece)
            if digest.digest() != checksum:
                raise SnapshotError(f"{path}: damaged or cut, its bytes do not give its checksum; take another one")
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def each(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a partition, one by one in the order of the keys."""
        self._file.seek(self._first + sum(before.bytes for before in self.header.partitions[:partition]))
        for _ in range(self.header.partitions[partition].keys):
            key, value = _PAIR.unpack(self._file.read(_PAIR.size))
            yield self._file.read(key), self._file.read(value)

    def write_state(self, path: Path) -> None:
        """Make a new state file of what the snapshot holds."""
        partitions = self.header.partitions
        store = SqliteStore(path, len(partitions))
        try:
            for partition, at in enumerate(partitions):
                token = store.claim(partition).token
                some: dict[bytes, bytes | None] = {}
                for key, value in self.each(partition):
                    some[key] = value
                    if len(some) == _KEYS_AT_A_TIME:
                        store.write(partition, token, some, start=0, stop=0)
                        some.clear()
                if at.next:
                    some[META_KEY] = encode_meta(self.header.meta(partition))
                store.write(partition, token, some, start=0, stop=at.next)
        finally:
            store.close()


def read_header(path: Path) -> Header:
    """What a snapshot file says of itself, its checksum not looked at. Raises SnapshotError."""
    try:
        with path.open("rb") as file:
            return _read_head(file, path)[1]
    except OSError as fault:
        raise SnapshotError(f"{path}: {fault.strerror}; name a snapshot file") from fault


def _read_head(file: BinaryIO, path: Path) -> tuple[bytes, Header]:
    raw = file.read(_HEAD.size)
    if len(raw) < _HEAD.size or raw[:4] != MAGIC:
        raise SnapshotError(f"{path}: not a snapshot of banditd; name a file that banditd snapshot wrote")
    _, version, checksum = _HEAD.unpack(raw)
    if version != VERSION:
        raise SnapshotError(
            f"{path}: a snapshot of version {version}, this banditd reads {VERSION}; use the banditd that wrote it"
        )
    try:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        return checksum, msgspec.json.decode(file.read(length), type=Header)
    except (struct.error, ValueError) as fault:
        raise SnapshotError(f"{path}: damaged or cut, its header cannot be read ({fault}); take another one") from fault


def kept_snapshots(folder: Path, topic_id: bytes) -> list[tuple[Path, Header]]:
    """Snapshots of this log that a data directory keeps and whose header can be read, the newest first.

    The newest is the one that stands furthest in the log: clocks may have been wrong.
    """
    found = []
    for path in (folder / FOLDER).glob(f"*{SUFFIX}"):
        try:
            header = read_header(path)
        except SnapshotError:
            continue
        if header.topic_id == topic_id.hex():
            found.append((sum(at.next for at in header.partitions), header.created_us, path, header))
    found.sort(key=lambda one: one[:3], reverse=True)
    return [(path, header) for _, _, path, header in found]


def snapshots_of(folder: Path, topic_id: bytes) -> list[Path]:
    """The files of kept_snapshots."""
    return [path for path, _ in kept_snapshots(folder, topic_id)]


def remedy(folder: Path, topic_id: bytes) -> str:
    """How to go back to the newest snapshot of this log, or that there is none: for the line of a halt."""
    kept = snapshots_of(folder, topic_id)
    if not kept:
        return "there is no snapshot of this log in the data directory; restore one from elsewhere, or a copy of all"
    return f"run banditd restore {kept[0]} --data {folder}"


def default_path(folder: Path, created_us: int, suffix: str = SUFFIX) -> Path:
    """Where a snapshot of a data directory is kept, by its time in UTC."""
    return folder / FOLDER / f"{utc_name(created_us)}{suffix}"


def utc_name(at_us: int) -> str:
    """A time as part of a file's name; names sort as the times do."""
    whole = time.strftime("%Y%m%dT%H%M%S", time.gmtime(at_us // 1_000_000))
    return f"{whole}.{at_us % 1_000_000:06d}Z"
