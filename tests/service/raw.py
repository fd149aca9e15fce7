"""A server on a real socket in this process, and a client that sends what no library would."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
import uvloop

from service.commands.serve import listen
from service.connection import Connection
from service.node import Node
from tests.service.harness import Server, settings_of

PATIENCE_S = 60.0
"""How long a test waits for what has to come."""


class Listening(Server):
    """A server whose requests go through a socket of 127.0.0.1, with limits in place of the connections' own ones."""

    def __init__(self, node: Node, **limits: float) -> None:
        super().__init__(node)
        self._limits, self._socket = limits, listen("127.0.0.1", 0)
        self.port: int = self._socket.getsockname()[1]
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S)
        self._thread = threading.Thread(target=lambda: uvloop.run(self._live()), daemon=True)

    def start(self) -> None:
        super().start()
        while not self._uvicorn.started:
            self._started.wait(0.001)

    def stop(self) -> None:
        self._http.close()
        self._uvicorn.should_exit = True
        self.join()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            self.app, http=Connection.of(self.node.metrics, **self._limits), ws="none", log_config=None, lifespan="on"
        )
        self._uvicorn = uvicorn.Server(config)

        def ended() -> None:
            self._uvicorn.should_exit = True
            self._started.set()

        self.node.on_ready, self.node.on_end = self._started.set, ended
        await self._uvicorn.serve([self._socket])

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self._http.request(method, path, **given)

    def raw(self) -> Raw:
        return Raw(self.port)

    def status(self, request: bytes) -> int:
        """What a request is answered with on a connection of its own."""
        with self.raw() as raw:
            raw.send(request)
            return raw.reply().status

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        return self.node.metrics.registry.get_sample_value(name, labels) or 0.0

    @contextmanager
    def outliving(self, n: int = 1) -> Iterator[None]:
        """Wait in the end until the server has seen n connections end as agreed, or by their clients."""
        before = self.counted("banditd_connections_closed_total", reason="ended")
        yield
        while self.counted("banditd_connections_closed_total", reason="ended") < before + n:
            time.sleep(0.002)


@contextmanager
def listening(data: Path, toml: str = "", **limits: float) -> Iterator[Listening]:
    """A server on a data directory and a socket, ready, and stopped in the end."""
    server = Listening(Node(settings_of(data, toml)), **limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Reply:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document of a refusal, whose form is checked."""
        assert self.headers["content-type"] == "application/problem+json", self
        document: dict[str, Any] = msgspec.json.decode(self.body)
        assert document["status"] == self.status
        assert document["title"]
        assert document["detail"]
        return document

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Raw:
    """One connection, byte for byte."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts))

    def drip(self, data: bytes, pause_s: float) -> None:
        """Send a byte at a time until something comes back, or the end."""
        self._socket.settimeout(pause_s)
        for i in range(len(data)):
            try:
                self._socket.sendall(data[i : i + 1])
                self._received += self._socket.recv(1 << 16)
                break
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
        self._socket.settimeout(PATIENCE_S)

    def flood(self) -> None:
        """Send for as long as the connection lasts."""
        while True:
            self.send(bytes(4096))

    def reply(self, head: bool = False) -> Reply:
        """The next answer, interim ones too; head: it has no body, whatever its length says."""
        while b"\r\n\r\n" not in self._received:
            assert self._more(), f"the connection ended after {self._received!r}"
        first, _, self._received = self._received.partition(b"\r\n\r\n")
        line, *lines = first.decode().split("\r\n")
        headers = dict(one.split(": ", 1) for one in lines)
        length = 0 if head else int(headers.get("content-length", "0"))
        while len(self._received) < length:
            assert self._more(), f"the connection ended within {first!r}"
        body, self._received = self._received[:length], self._received[length:]
        return Reply(int(line.split()[1]), headers, body)

    def read(self, size: int) -> bytes:
        """The next size bytes, whatever they are."""
        while len(self._received) < size:
            assert self._more(), f"the connection ended {size - len(self._received)} bytes early"
        read, self._received = self._received[:size], self._received[size:]
        return read

    def rest(self) -> bytes:
        """What comes until the server ends the connection."""
        while self._more():
            pass
        return self._received

    def end(self) -> bytes:
        """The same where the server may reset it."""
        try:
            return self.rest()
        except ConnectionResetError:
            return self._received

    def _more(self) -> bool:
        received = self._socket.recv(1 << 16)
        self._received += received
        return bool(received)


def post(path: str, body: bytes, *lines: str, kind: str = "application/json") -> bytes:
    """A whole POST; lines replace its Content-Length."""
    return head("POST", path, f"content-type: {kind}", *(lines or (f"content-length: {len(body)}",))) + body


def head(method: str, target: str, *lines: str) -> bytes:
    """Request line and header."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *lines, "", ""]).encode("latin-1")


def chunked(body: bytes, size: int = 1 << 16) -> bytes:
    """A body in chunks of size bytes."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
