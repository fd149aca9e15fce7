"""banditd serve as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from service.cli import main; sys.exit(main())", *arguments]


def environment() -> dict[str, str]:
    """This process's, without any configuration of banditd."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BANDITD_")}


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A start that ends by itself."""
    words = command("serve", *arguments)
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=120)


@dataclass
class Process:
    """A server that is ready at url."""

    url: str
    process: subprocess.Popen[str]

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(self.url + path, json=body)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Exit status and what was written to stderr after the server was ready."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def serving(data: Path, *arguments: str) -> Iterator[Process]:
    words = command("serve", "--port", "0", "--data", str(data), *arguments)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("banditd serves on http://"), line + process.stderr.read()
        yield Process(line.split()[-1], process)
    finally:
        process.kill()
        process.communicate()
