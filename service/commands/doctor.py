"""banditd doctor: whether what was learned is what the log says."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bandits.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.doctor.checks import Check

HELP = "check that the stored state is what the log gives, and all that it stands on"
EXAMPLE = """example:
  banditd doctor --data ./banditd-data

Exit status 1 where a check fails. Reads only, also beside a running server; --url asks a server how it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data", metavar="DIR", default="./banditd-data", help="data directory; also beside a running server"
    )
    source.add_argument("--url", metavar="URL", help="a running server; its key in BANDITD_KEY")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Make every check and print it; 1 where one fails."""
    found = _of_server(args.url) if args.url else _of_directory(Path(args.data))
    ok = all(check.ok for check in found)
    if args.json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in found]}))
    else:
        for check in found:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<12} {check.detail}")
    return 0 if ok else 1


def _of_directory(path: Path) -> list[Check]:
    from service.doctor.checks import examine
    from service.doctor.directory import Directory
    from service.doctor.registry import DIRECTORY

    if not path.is_dir():
        raise UsageError(f"{path}: not there; name the data directory of a server by --data")
    with _progress() as progress, closing(Directory(path, progress=progress)) as directory:
        return examine(DIRECTORY, directory)


def _of_server(url: str) -> list[Check]:
    import httpx

    from service.client_key import key_headers
    from service.doctor.checks import examine
    from service.doctor.registry import SERVER
    from service.doctor.server import Server

    try:
        client = httpx.Client(base_url=url, headers=key_headers(), timeout=10, trust_env=False)
    except httpx.InvalidURL as fault:
        raise UsageError(f"--url {url}: {fault}") from fault
    with client:
        return examine(SERVER, Server(client))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows one line that changes, where stderr is a terminal that takes control characters."""
    if not sys.stderr.isatty() or "NO_COLOR" in os.environ:
        yield lambda line: None
        return
    try:
        yield lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
