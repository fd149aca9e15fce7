"""A blocking HTTP/1.1 client over one kept-alive connection, cheap enough to measure a server from the same machine."""

from __future__ import annotations

import socket
from types import TracebackType
from urllib.parse import urlsplit

import httptools
import msgspec

RECEIVE_BYTES = 1 << 16


class Client:
    """Sends one request at a time to one plain-http server; not for use from several threads.

    A body is bytes, sent as they are, or an object, sent as JSON. An answer is its status and its whole body: every
    status is returned, none raised. A kept connection that the server closed while it was idle is opened again.
    Raises ConnectionError where the server cannot be reached or ends an answer early, TimeoutError after timeout_s.

    >>> Client("https://localhost")
    Traceback (most recent call last):
    ValueError: url must be http://HOST:PORT, got 'https://localhost'
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.path not in ("", "/"):
            raise ValueError(f"url must be http://HOST:PORT, got {url!r}")
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._address = (parts.hostname, parts.port or 80)
        self._host = parts.netloc
        self._socket: socket.socket | None = None

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        return self._request("GET", path, b"", "")

    def post(self, path: str, body: object) -> tuple[int, bytes]:
        """Status and body of a POST of JSON."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self._request("POST", path, content, "application/json")

    def put(self, path: str, body: object, content_type: str = "") -> tuple[int, bytes]:
        """Status and body of a PUT; bytes go as application/octet-stream, objects as JSON, unless content_type says."""
        if isinstance(body, bytes):
            return self._request("PUT", path, body, content_type or "application/octet-stream")
        return self._request("PUT", path, msgspec.json.encode(body), content_type or "application/json")

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _request(self, method: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        message = request_bytes(method, self._host, path, body, content_type)
        kept = self._socket is not None
        try:
            answer = self._exchange(message)
            if answer is None and kept:
                answer = self._exchange(message)
        except TimeoutError as fault:
            self.close()
            raise TimeoutError(f"{method} {self.url}{path}: no answer within {self.timeout_s} s") from fault
        except (OSError, httptools.HttpParserError) as fault:
            self.close()
            raise ConnectionError(f"{method} {self.url}{path}: {fault}") from fault
        if answer is None:
            raise ConnectionError(f"{method} {self.url}{path}: the server closed the connection without an answer")
        if not answer.keep_alive:
            self.close()
        return answer.status, answer.body

    def _exchange(self, message: bytes) -> Answer | None:
        """The answer to a message; None where the connection ended before its first byte."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self.timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = Answer()
        try:
            self._socket.sendall(message)
            received = self._socket.recv(RECEIVE_BYTES)
        except (BrokenPipeError, ConnectionResetError):
            received = b""
        if not received:
            self.close()
            return None
        while True:
            answer.feed(received)
            if answer.complete:
                return answer
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise ConnectionError("the server closed the connection within its answer")


class Answer:
    """One HTTP answer, parsed as it arrives."""

    __slots__ = ("_parser", "_parts", "complete", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.keep_alive = True
        self.complete = False
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    def feed(self, received: bytes) -> None:
        """Take what has arrived; raises httptools.HttpParserError where it is not HTTP."""
        self._parser.feed_data(received)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.keep_alive = self._parser.should_keep_alive()
        self.complete = self.status >= 200


def request_bytes(method: str, host: str, path: str, body: bytes, content_type: str) -> bytes:
    """A whole HTTP/1.1 request."""
    typed = f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n" if content_type else ""
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{typed}\r\n".encode("ascii") + body
