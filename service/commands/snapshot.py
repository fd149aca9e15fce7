"""banditd snapshot: the learned state in one file."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from bandits.errors import UsageError

HELP = "copy the learned state to one file, from which it can be restored"
EXAMPLE = """example:
  banditd snapshot --data ./banditd-data -o /backup/monday.snapshot

Reads the last checkpoint, also beside a running server. Secrets are not in it: keep receipt_secret, or set
BANDITD_RECEIPT_SECRET, so that receipts that are out stay good after a restore elsewhere."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", default="./banditd-data", help="data directory (./banditd-data)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (DIR/snapshots/TIME.snapshot)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Write the snapshot whole or not at all, and say what it holds. Raises UsageError."""
    from service.snapshots import default_path, take_snapshot
    from service.sqlite_file import UnusableFile

    folder, created_us = Path(args.data), time.time_ns() // 1000
    path = args.output or default_path(folder, created_us)
    try:
        _, header = take_snapshot(folder, created_us, path)
    except UnusableFile as fault:
        raise UsageError(str(fault)) from fault
    except OSError as fault:
        raise UsageError(f"{path}: cannot be written: {fault.strerror}; name another file by -o") from fault
    keys, size = sum(p.keys for p in header.partitions), path.stat().st_size
    if args.json:
        partitions = [{"partition": i, "next": p.next, "keys": p.keys} for i, p in enumerate(header.partitions)]
        report = {"file": str(path), "topic_id": header.topic_id, "bytes": size, "partitions": partitions}
        print(json.dumps(report))
    else:
        print(f"{path}: {keys:,} keys of {len(header.partitions)} partitions, {size:,} bytes")
    return 0
