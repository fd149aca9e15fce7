"""A server process of its own, started for a test or a measurement and stopped after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO

READY = " serves on http://"
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 30.0
LOST_WITHIN_S = 2.0
"""How long a server whose connection failed may take to end before it counts as alive."""
SHOWN_LINES = 40


class ServerFailed(Exception):
    """A server did not start, or did not end well; the message holds the end of its stderr."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `url`, and its process."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def serve(
    data: Path | None = None, config: str | None = None, env: Mapping[str, str] | None = None, args: Sequence[str] = ()
) -> Iterator[Server]:
    """A `banditd serve` on a free port of 127.0.0.1, stopped by SIGTERM at the end.

    data    its data directory; None: one that is deleted afterwards
    config  text of its TOML file; None: the defaults
    env     variables beside those of this process
    args    further flags

    Raises ServerFailed where it does not get ready, or ends with another status than 0.
    """
    with tempfile.TemporaryDirectory(prefix="banditd-") as scratch:
        flags = ["--port", "0", "--data", str(data or Path(scratch, "data"))]
        if config is not None:
            path = Path(scratch, "banditd.toml")
            path.write_text(config, encoding="utf-8")
            flags += ["--config", str(path)]
        command = [sys.executable, "-m", "service.cli", "serve", *flags, *args]
        with run(command, env=env) as server:
            yield server


@contextmanager
def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Any server that prints `NAME serves on http://HOST:PORT` on stderr when it is ready. Raises as serve."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **(env or {})})
    if process.stderr is None:
        raise RuntimeError("the process has no stderr although a pipe was asked for")
    lines: list[str] = []
    ready: Queue[str | None] = Queue()
    reader = Thread(target=_read, args=(process.stderr, lines, ready), daemon=True)
    reader.start()
    alive = True
    try:
        try:
            url = ready.get(timeout=READY_WITHIN_S)
        except Empty:
            raise ServerFailed(_story(f"not ready within {READY_WITHIN_S:.0f} s", lines)) from None
        if url is None:
            raise ServerFailed(_story(f"ended with status {process.wait()} before it was ready", lines))
        try:
            yield Server(url, process)
        except Exception as fault:
            if _has_ended(process, LOST_WITHIN_S if isinstance(fault, OSError) else 0.0):
                reader.join()
                raise ServerFailed(_story(f"ended with status {process.returncode} while in use", lines)) from fault
            raise
        alive = process.poll() is None
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        process.stderr.close()
    if not alive or process.returncode != 0:
        raise ServerFailed(_story(f"ended with status {process.returncode}", lines))


def _has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _read(stderr: IO[bytes], lines: list[str], ready: Queue[str | None]) -> None:
    for raw in stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line)
        if READY in line:
            ready.put(line.rpartition(" ")[2])
    ready.put(None)


def _story(what: str, lines: Sequence[str]) -> str:
    return "\n".join([f"the server {what}; its stderr:", *lines[-SHOWN_LINES:]])
