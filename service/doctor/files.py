"""Checks of the files of a data directory, but for what the log and the state mean."""

from __future__ import annotations

import json
import shutil
import stat
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from bandits.records import ENTRY_RECEIPT_AT, FOLD_VERSION, FRAME, FRAME_VERSION, RECEIPT_VERSION, RETIRE
from service import kept_sqlite, log_sqlite, store_sqlite
from service.data_directory import owned
from service.doctor.checks import Unsound, raise_first
from service.doctor.directory import Directory
from service.secret_files import read_secret
from service.snapshots import FOLDER, SUFFIX, Snapshot, SnapshotError, snapshots_of, utc_name
from service.stored_files import StoredFile

SECRETS = ("receipt_secret", "user_key")
MAX_CLOCK_LEAD_US = 300_000_000
ROOM_BYTES = 128 << 20
"""What the write-ahead logs of log and state may take for a while."""
_PIECE = 1 << 20


def files(directory: Directory) -> str:
    """Log, state and kept replies are there, of our kind, and whole as SQLite sees them."""
    log, state = directory.log, directory.state
    if log.partitions != state.partitions:
        raise Unsound(f"{log.path} has {log.partitions} partitions, {state.path} {state.partitions}: not of one server")
    _check_structure(directory, log, "quick_check")
    _check_structure(directory, state, "integrity_check")
    path = directory.path / "replies.sqlite"
    if path.exists():
        with closing(StoredFile(path, kept_sqlite.KIND)) as replies:
            _check_structure(directory, replies, "quick_check")
    return f"log.sqlite and state.sqlite are whole, {log.partitions} partitions"


def _check_structure(directory: Directory, file: StoredFile, pragma: str) -> None:
    directory.progress(f"{pragma} of {file.path.name}")
    raise_first([f"{file.path}: {fault}; restore it from a backup" for fault in file.faults(pragma)])


def permissions(directory: Directory) -> str:
    """Secrets are their owner's alone, and nobody else can put files in their place."""
    if directory.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Unsound(f"{directory.path}: others may write to it; run: chmod go-w {directory.path}")
    kept = [directory.path / name for name in SECRETS if (directory.path / name).exists()]
    for path in kept:
        read_secret(path)
    if not kept:
        return "no secret is kept here"
    return f"{', '.join(path.name for path in kept)}: for their owner alone"


def owner(directory: Directory) -> str:
    """Whether a server runs on the directory: either is right."""
    return "a server runs on it" if owned(directory.path) else "no server runs on it"


def disk(directory: Directory) -> str:
    """Room for write-ahead logs and for one more copy of the state."""
    sizes = {name: _bytes_of(directory.path, name) for name in ("log.sqlite", "state.sqlite")}
    free = shutil.disk_usage(directory.path).free
    said = f"{_mib(free)} free; log {_mib(sizes['log.sqlite'])}, state {_mib(sizes['state.sqlite'])}"
    needed = ROOM_BYTES + sizes["state.sqlite"]
    if free < needed:
        raise Unsound(f"{directory.path}: {said}: less than {_mib(needed)}; make room, or lower server.retention_s")
    return said


def clock(directory: Directory) -> str:
    """This machine's clock does not lie behind the log's append times."""
    metas = [directory.state.meta(partition) for partition in range(directory.state.partitions)]
    newest = max([directory.log.newest_append_us(), *(meta.watermark for meta in metas if meta is not None)])
    if not newest:
        return "the log is empty"
    lead_us = newest - directory.clock_us()
    if lead_us > MAX_CLOCK_LEAD_US:
        raise Unsound(
            f"this machine's clock is {lead_us / 1e6:.0f} s behind the log's newest append time: set it right"
        )
    return f"the log's newest append time is {utc_name(newest)}, {-lead_us / 1e6:.0f} s ago"


def versions(directory: Directory) -> str:
    """Layouts of the files, frames, receipts and fold are those of this program."""
    log, state = directory.log, directory.state
    for partition in range(log.partitions):
        meta = state.meta(partition)
        if meta is not None and meta.fold_version != FOLD_VERSION:
            raise Unsound(
                f"partition {partition}: folded by version {meta.fold_version}, this is {FOLD_VERSION}; "
                "run the banditd that wrote it, or delete the state and replay the log"
            )
        start, stop = log.bounds(partition)
        for frame in log.read(partition, stop - 1, 1) if stop > start else []:
            _check_versions(f"partition {partition}: frame {frame.offset}", frame.body)
    layouts = f"layout of log {log_sqlite.KIND.version} and state {store_sqlite.KIND.version}"
    return f"{layouts}, frame {FRAME_VERSION}, receipt {RECEIPT_VERSION}, fold {FOLD_VERSION}"


def _check_versions(where: str, body: bytes) -> None:
    version = int.from_bytes(body[2:4], "little")
    if version != FRAME_VERSION:
        raise Unsound(f"{where} has version {version}, this banditd reads {FRAME_VERSION}; run the one that wrote it")
    entry = body[FRAME.size :]
    if len(entry) > ENTRY_RECEIPT_AT and entry[0] != RETIRE and entry[ENTRY_RECEIPT_AT] != RECEIPT_VERSION:
        raise Unsound(
            f"{where} has receipts of version {entry[ENTRY_RECEIPT_AT]}, this banditd reads {RECEIPT_VERSION}; "
            "run the one that wrote them"
        )


def generations(directory: Directory) -> str:
    """What receipts that are out mean is known."""
    path = directory.path / "generations.json"
    if not path.exists() and any(directory.log.bounds(p)[1] for p in range(directory.log.partitions)):
        raise Unsound(f"{path}: not there; restore it: without it receipts that are out cannot be understood")
    surfaces = directory.generations().surfaces
    return f"generations.json names {', '.join(surfaces) or 'no surface'}"


def graphs(directory: Directory) -> str:
    """Each graph that a surface serves is there, and its bytes are those of its name."""
    return _content(directory, directory.path / "graphs", ".npz", "graph", "graphs")


def policies(directory: Directory) -> str:
    """Each ad-load policy that a surface serves is there, and its bytes are those of its name."""
    return _content(directory, directory.path / "policies", ".json", "policy", "policies")


def _content(directory: Directory, folder: Path, suffix: str, noun: str, nouns: str) -> str:
    pointers = folder / "current.json"
    if not pointers.exists():
        return f"no surface has a {noun}"
    try:
        served = json.loads(pointers.read_text())
        known = {surface: folder / f"{version}{suffix}" for surface, version in served.items()}
    except (ValueError, AttributeError, RecursionError) as fault:
        raise Unsound(f"{pointers}: cannot be read ({fault}); remove it and upload the {nouns} anew") from fault
    for surface, path in known.items():
        if not path.exists():
            raise Unsound(f"{path}: the {noun} that surface {surface} serves is gone; restore it, or upload one anew")
        directory.progress(f"sha256 of {path.name}")
        if _sha256(path) != path.stem:
            raise Unsound(f"{path}: the {noun} of surface {surface} was changed; restore it, or upload it anew")
    return f"{', '.join(known)}: each has the {noun} that it serves"


def snapshots(directory: Directory) -> str:
    """The snapshots that are kept are whole."""
    faults = []
    for path in sorted((directory.path / FOLDER).glob(f"*{SUFFIX}")):
        directory.progress(f"sha256 of {path.name}")
        try:
            Snapshot(path).close()
        except SnapshotError as fault:
            faults.append(str(fault))
    raise_first(faults)
    of_this_log = snapshots_of(directory.path, directory.log.topic_id)
    return f"{len(of_this_log)} of this log, the newest {of_this_log[0].name}" if of_this_log else "none"


def halts(directory: Directory) -> str:
    """No partition was halted by its owner."""
    for partition in range(directory.state.partitions):
        meta = directory.state.meta(partition)
        if meta is not None and meta.halt:
            raise Unsound(f"partition {partition} is halted: {meta.halt}")
    return "no partition is halted"


def _bytes_of(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in (folder / name, folder / f"{name}-wal") if path.exists())


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
