"""banditd restore: a data directory put back to a snapshot."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from pathlib import Path

from bandits.errors import UsageError

HELP = "put the state of a data directory back to a snapshot"
EXAMPLE = """example:
  banditd restore --data ./banditd-data                  the newest snapshot that the directory keeps
  banditd restore /backup/monday.snapshot --data ./banditd-data

The state that is there is kept beside as state.sqlite.TIME.replaced, and the log's later frames are folded again at the
next start. A directory without a log gets one that goes on where the snapshot ends: what came later is lost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="file that banditd snapshot wrote (the newest in DIR/snapshots of its log)",
    )
    parser.add_argument("--data", metavar="DIR", default="./banditd-data", help="data directory (./banditd-data)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Restore, and say what is lost or folded again. Raises UsageError, the directory being as it was."""
    from service.restore import restore
    from service.sqlite_file import UnusableFile
    from service.store import StoreUnavailable

    folder = Path(args.data)
    try:
        file = args.file or _newest(folder)
        done = restore(file, folder, time.time_ns() // 1000)
    except (UnusableFile, StoreUnavailable) as fault:
        raise UsageError(str(fault)) from fault
    except OSError as fault:
        raise UsageError(f"{fault.filename or folder}: {fault.strerror}; see to it and restore again") from fault
    if args.json:
        places = enumerate(zip(done.next, done.end, strict=True))
        report = {
            "file": str(file),
            "data": str(folder),
            "new_log": done.new_log,
            "replaced": None if done.replaced is None else str(done.replaced),
            "partitions": [{"partition": i, "next": at, "end": end} for i, (at, end) in places],
        }
        print(json.dumps(report))
        return 0
    print(f"{folder}: state of {file}, {len(done.next)} partitions")
    if done.replaced is not None:
        print(f"the state that was there is now {done.replaced}")
    if done.new_log:
        print("there was no log: what came after the snapshot is lost; graphs and policies are to be uploaded anew")
        print("receipts that are out stay good only with the old receipt_secret, or BANDITD_RECEIPT_SECRET")
    else:
        print(f"{sum(done.end) - sum(done.next):,} frames of the log are folded again at the next start")
    return 0


def _newest(folder: Path) -> Path:
    from service.snapshots import snapshots_of
    from service.stored_files import StoredLog

    path = folder / "log.sqlite"
    if not path.exists():
        raise UsageError(f"{path}: not there, so no snapshot can be found that belongs to it; name a FILE")
    with closing(StoredLog(path)) as log:
        kept = snapshots_of(folder, log.topic_id)
    if not kept:
        raise UsageError(f"{folder}: keeps no snapshot of its log; name a FILE")
    return kept[0]
