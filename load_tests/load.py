"""Closed-loop load from a process of its own: every connection sends its next request when its answer has come."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import cast
from urllib.parse import urlsplit

import msgspec
import numpy as np
import uvloop

from load_tests.client import Answer, request_bytes

ENDS_WITHIN_S = 10.0


class Plan(msgspec.Struct):
    """What to send: POSTs of the bodies in turn, JSON texts made ahead, until `requests` are answered."""

    url: str
    path: str
    bodies: list[str]
    connections: int
    requests: int


class Outcome(msgspec.Struct):
    """What came back.

    requests_s      answers a second, whatever their status
    p50_ms, p99_ms  from sending a request to its whole answer
    answer_bytes    mean size of an answer's body
    errors          number of answers by status, of those that are not 2xx
    cpu_us          CPU time of the load process a request
    """

    requests: int
    seconds: float
    requests_s: float
    p50_ms: float
    p99_ms: float
    answer_bytes: float
    errors: dict[str, int]
    cpu_us: float


class LoadFailed(Exception):
    """The load process ended, or the server closed a connection on it."""


class Loader:
    """The load process, waiting for plans."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, plan: Plan) -> Outcome:
        """Carry a plan out; raises LoadFailed where the server went away, having shown why on stderr."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the load process needs pipes")
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"the load process ended with status {self._process.wait()}; its stderr says why")
        return msgspec.json.decode(line, type=Outcome)


@contextmanager
def loader() -> Iterator[Loader]:
    """A load process, ended after use."""
    command = [sys.executable, "-m", "load_tests.load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Loader(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


class _Connection(asyncio.Protocol):
    """One of the connections of a run; asks for the next request as soon as an answer is whole."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._sent_s = 0.0
        self._answer = Answer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """Send the run's next request; close when there is none."""
        if self._transport is None:
            raise RuntimeError("send before the connection was made")
        message = self._run.next_message()
        if message is None:
            self._transport.close()
            return
        self._sent_s = perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._answer.feed(data)
        if self._answer.complete:
            self._run.note(self._answer, perf_counter() - self._sent_s)
            self._answer = Answer()
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.closed(exc)


class _Run:
    """The state that the connections of one plan share."""

    def __init__(self, plan: Plan, done: asyncio.Future[None]) -> None:
        host = urlsplit(plan.url).netloc
        self._messages = [
            request_bytes("POST", host, plan.path, body.encode(), "application/json") for body in plan.bodies
        ]
        self._plan, self.done = plan, done
        self._sent = 0
        self._n_bytes = 0
        self._errors: Counter[str] = Counter()
        self._seconds: list[float] = []

    def next_message(self) -> bytes | None:
        if self._sent == self._plan.requests:
            return None
        self._sent += 1
        return self._messages[self._sent % len(self._messages)]

    def note(self, answer: Answer, seconds: float) -> None:
        self._seconds.append(seconds)
        self._n_bytes += len(answer.body)
        if not 200 <= answer.status < 300:
            self._errors[str(answer.status)] += 1
        if len(self._seconds) == self._plan.requests:
            self.done.set_result(None)

    def closed(self, fault: Exception | None) -> None:
        """A connection ended: at the end of the run that is how it should be."""
        if self.done.done() or (self._sent == self._plan.requests and fault is None):
            return
        self.done.set_exception(LoadFailed(f"{self._plan.url} closed a connection: {fault}"))

    def outcome(self, seconds: float, cpu_s: float) -> Outcome:
        n = len(self._seconds)
        p50, p99 = np.percentile(self._seconds, (50, 99)) * 1000
        return Outcome(
            n, seconds, n / seconds, float(p50), float(p99), self._n_bytes / n, dict(self._errors), cpu_s / n * 1e6
        )


async def _carry_out(plan: Plan) -> Outcome:
    loop = asyncio.get_running_loop()
    run = _Run(plan, loop.create_future())
    parts = urlsplit(plan.url)
    host, port = parts.hostname or "", parts.port or 80
    n_connections = min(plan.connections, plan.requests)
    opening = [loop.create_connection(lambda: _Connection(run), host, port) for _ in range(n_connections)]
    connections = [connection for _, connection in await asyncio.gather(*opening)]
    started, cpu = perf_counter(), process_time()
    for connection in connections:
        connection.send()
    await run.done
    return run.outcome(perf_counter() - started, process_time() - cpu)


def main() -> None:
    """Read plans, one JSON document a line, and answer each with its outcome."""
    decode = msgspec.json.Decoder(Plan).decode
    for line in sys.stdin.buffer:
        outcome = uvloop.run(_carry_out(decode(line)))
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
