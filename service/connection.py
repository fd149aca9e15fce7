"""HTTP connections with limits and deadlines, whose refusals reach a client that is still sending."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.metrics import Metrics
from service.problems import Problem, problem_response

OPENED, IDLE, HEADER, BODY, UPLOAD, ANSWER, REFUSED, LINGER, CLOSING = range(9)
"""What a connection is at: nothing received yet, between requests, receiving one's header, body or graph, answering it;
or a refusal waits for earlier answers, the client may finish sending, the rest of an answer is on its way out."""
CHUNK_FRAMING_BYTES = 32
"""Of a chunked body, for each chunk's size and line ends."""

REFUSED_CONNECTIONS = 64
"""Open at a time while they take their 503; further ones are reset."""


class Connection(HttpToolsProtocol):
    """One connection; `of` makes the class for a server. All times are in seconds.

    max_connections   open at a time; a further one gets 503
    max_header_bytes  of request line and header; beyond: 431
    header_s          from the first byte to the end of the header; beyond: 408. Also until the first byte: closed
    body_s            from there to the end of the body; beyond: 408. Of a graph: for each upload_step bytes
    idle_s            between an answer and the next request; beyond: closed
    unread_s          in which a client must take some of its answer; beyond: reset
    linger_s, linger_bytes  how long and how much a refused client may go on sending before it is reset
    sweep_s           how often deadlines are looked at
    """

    max_connections = 4096
    max_header_bytes = 64 << 10
    header_s, body_s, idle_s, unread_s, linger_s, sweep_s = 10.0, 30.0, 60.0, 30.0, 30.0, 1.0
    upload_step, linger_bytes = 64 << 10, 256 << 20
    metrics: Metrics
    sweep: Sweep

    @classmethod
    def of(cls, metrics: Metrics, **limits: float) -> type[Connection]:
        """A class of connections, for one server, that counts in metrics; limits replace the attributes above."""
        return cast(type[Connection], type(cls.__name__, (cls,), {"metrics": metrics, "sweep": Sweep(), **limits}))

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._phase = OPENED
        self._since = self.loop.time()
        self._reason = "ended"
        self._shares_chunk = False
        self._chunk_bytes = 0
        self._header_bytes = 0
        self._body_bytes = 0
        self._excess_bytes = 0
        self._unread_bytes = 0
        self._refusal: Problem | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._socket = transport
        self._outlet = _Outlet(transport, self._finish, self._is_ending)
        self.transport = self._outlet  # type: ignore[assignment]
        self.metrics.connections.inc()
        self.sweep.start(self)
        if len(self.connections) > self.max_connections:
            if len(self.connections) > self.max_connections + REFUSED_CONNECTIONS:
                self._abort("limit")
            else:
                detail = f"{self.max_connections} connections are open, which is the limit"
                self._refuse(_closing(503, detail, {"Retry-After": "1"}), "limit")

    def connection_lost(self, exc: Exception | None) -> None:
        self._phase = CLOSING
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)
        self._outlet.let_go(self._socket)
        self.metrics.connections.dec()
        self.metrics.connections_closed.labels(self._reason).inc()

    def shutdown(self) -> None:
        """End the connection with its server: a request that is all there is answered first."""
        if self._phase in (HEADER, BODY, UPLOAD):
            self._refuse(_closing(503, "the server is stopping", {"Retry-After": "1"}), "stopping")
            # One more sweep is all the time that is left to the client.
            self._since -= self.linger_s
        elif self._phase in (ANSWER, REFUSED):
            self.cycle.keep_alive = False
        elif self._phase != CLOSING:
            self._enter(CLOSING)
            self._socket.close()

    def data_received(self, data: bytes) -> None:
        if self._phase >= REFUSED:
            self._discard(len(data))
            return
        if self._phase <= IDLE:
            self._header_bytes = 0
            self._enter(HEADER)
        rest: bytes | None = data
        while rest:
            rest = self._feed(rest)

    def _feed(self, data: bytes) -> bytes | None:
        """Parse data; what is left of it where a request asked for another protocol."""
        self._chunk_bytes = len(data)
        self._header_bytes += len(data)
        if self._phase == BODY or self._phase == UPLOAD:
            self._count_body(len(data))
        self._shares_chunk = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as fault:
            self._refuse(*_told(fault))
            return None
        self._excess_bytes = max(self._excess_bytes, 0)
        if self._phase == HEADER:
            if self._shares_chunk:
                self._header_bytes = self._read_header_bytes()
            if self._header_bytes > self.max_header_bytes:
                self._refuse(*self._too_large())
        elif self._excess_bytes > self.max_header_bytes and self._phase in (BODY, UPLOAD):
            self._refuse(*self._too_large())
        return None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._phase != HEADER:
            # The first bytes of this chunk are of an earlier request.
            self._shares_chunk = True
            self._header_bytes = self._chunk_bytes
            self._enter(HEADER)

    def on_headers_complete(self) -> None:
        if self._header_bytes > self.max_header_bytes and self._read_header_bytes() > self.max_header_bytes:
            raise self._too_large()[0]
        if self.parser.should_upgrade():
            if self._unanswered or self.parser.get_method() == b"CONNECT":
                raise _closing(400, "another protocol is asked for where that cannot be")
            return
        super().on_headers_complete()
        # The scope keeps the other list: trailers of a chunked body are dropped.
        self.headers = []
        self._unanswered.append(self.cycle)
        upload = self.scope["method"] == "PUT" and self.scope["path"].endswith("/graph")
        self._enter(UPLOAD if upload else BODY)

    def on_body(self, body: bytes) -> None:
        self._excess_bytes -= len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._excess_bytes -= CHUNK_FRAMING_BYTES

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._excess_bytes = 0
        self._enter(IDLE if self.cycle.response_complete else ANSWER)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._unanswered.popleft()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            task = self.loop.create_task(cycle.run_asgi(app))
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)
        elif self._refusal is not None:
            self._answer(self._refusal)
        elif self._phase == ANSWER:
            self._enter(IDLE)
        elif self._phase in (BODY, UPLOAD):
            if self.expect_100_continue:
                # Nobody can know whether the client sends its body or the next request.
                self._linger()
            else:
                self._enter(BODY)

    def check(self, now: float) -> None:
        """Do what a deadline that has passed asks for."""
        phase, waited = self._phase, now - self._since
        if phase == LINGER:
            if waited > self.linger_s:
                self._abort(self._reason)
        elif phase == CLOSING or self.flow.write_paused:
            self._check_unread(now)
        elif self.flow.read_paused:
            self._since = now
        elif (phase == OPENED and waited > self.header_s) or (phase == IDLE and waited > self.idle_s):
            self._abort("idle")
        elif phase == HEADER and waited > self.header_s:
            self._refuse(_closing(408, f"the header took more than {self.header_s:g} s"), "slow_header")
        elif phase == BODY and waited > self.body_s:
            self._refuse(_closing(408, f"the body took more than {self.body_s:g} s"), "slow_body")
        elif phase == UPLOAD and waited > self.body_s:
            detail = f"fewer than {self.upload_step} bytes came in {self.body_s:g} s"
            self._refuse(_closing(408, detail), "slow_body")

    def _check_unread(self, now: float) -> None:
        unread = self._socket.get_write_buffer_size()
        if unread != self._unread_bytes:
            self._unread_bytes, self._since = unread, now
        elif now - self._since > self.unread_s:
            self._abort("unread")

    def _enter(self, phase: int) -> None:
        self._phase, self._since = phase, self.loop.time()

    def _count_body(self, n_bytes: int) -> None:
        self._excess_bytes += n_bytes
        if self._phase == UPLOAD:
            self._body_bytes += n_bytes
            if self._body_bytes >= self.upload_step:
                self._body_bytes, self._since = 0, self.loop.time()

    def _read_header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> tuple[Problem, str]:
        return _closing(431, f"request line and header may have {self.max_header_bytes} bytes"), "large_header"

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request that asked for another protocol as one that does not, and what follows it."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._header_bytes = 0
        return b"\r\n".join([*lines, b"", rest])

    def _refuse(self, problem: Problem, reason: str) -> None:
        """Answer the request that is being received with problem, after those before it."""
        self._reason = reason
        if self._phase in (BODY, UPLOAD) and not self._drop_received():
            return
        self.metrics.refused.labels(str(problem.status)).inc()
        if self._unanswered:
            self._refusal = problem
            self._enter(REFUSED)
        else:
            self._answer(problem)

    def _drop_received(self) -> bool:
        """Take the request being received from the application; whether it can still be refused."""
        cycle = self.cycle
        if cycle.response_complete:
            self._linger()
            return False
        self._unanswered.pop()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return True
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:
            self._abort(self._reason)
        return not cycle.response_started

    def _answer(self, problem: Problem) -> None:
        status, content, headers = problem_response(problem)
        lines = [b"%s: %s\r\n" % header for header in [*self.server_state.default_headers, *headers]]
        head_only = self._phase in (BODY, UPLOAD) and self.scope["method"] == "HEAD"
        self._socket.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", b"" if head_only else content]))
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more is sent, and let the client finish: a close now could take its answer from it."""
        self._enter(LINGER)
        self._body_bytes = 0
        if not self._socket.is_closing():
            self.flow.resume_reading()
            self._socket.write_eof()

    def _discard(self, n_bytes: int) -> None:
        self._body_bytes += n_bytes
        if self._phase == LINGER and self._body_bytes > self.linger_bytes:
            self._abort(self._reason)

    def _finish(self) -> None:
        """Close after the answer."""
        if HEADER <= self._phase <= UPLOAD or self._phase == REFUSED:
            self._linger()
        elif self._phase < REFUSED:
            self._enter(CLOSING)
            self._socket.close()

    def _is_ending(self) -> bool:
        return self._phase >= LINGER or self._socket.is_closing()

    def _abort(self, reason: str) -> None:
        self._reason = reason
        self._phase = CLOSING
        self._socket.abort()


class Sweep:
    """Looks at the deadlines of all connections of a server, while there are any: a timer for each would cost more."""

    def __init__(self) -> None:
        self._running = False

    def start(self, connection: Connection) -> None:
        if not self._running:
            self._running = True
            self._again(connection.loop, connection.connections, connection.sweep_s)

    def _again(self, loop: asyncio.AbstractEventLoop, connections: set[Any], sweep_s: float) -> None:
        loop.call_later(sweep_s, self._run, loop, connections, sweep_s)

    def _run(self, loop: asyncio.AbstractEventLoop, connections: set[Any], sweep_s: float) -> None:
        self._running = bool(connections)
        if self._running:
            self._again(loop, connections, sweep_s)
        now = loop.time()
        for connection in list(connections):
            connection.check(now)


class _Outlet:
    """The transport as an answer sees it, whose close is the connection's."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]) -> None:
        self.write, self.close, self.is_closing = transport.write, close, is_closing

    def let_go(self, transport: asyncio.Transport) -> None:
        """Refer to the connection no more, or only the garbage collector could free it."""
        self.close, self.is_closing = transport.close, transport.is_closing


def _closing(status: int, detail: str, headers: dict[str, str] | None = None) -> Problem:
    return Problem(status, detail, headers={"Connection": "close", **(headers or {})})


def _told(fault: httptools.HttpParserError) -> tuple[Problem, str]:
    """The problem that a parser's fault is, and the reason that is counted."""
    inner = fault.__context__
    if isinstance(inner, Problem):
        return inner, "large_header" if inner.status == 431 else "malformed"
    if isinstance(fault, httptools.HttpParserCallbackError):
        return _closing(400, "not HTTP: the request target cannot be read"), "malformed"
    return _closing(400, f"not HTTP: {fault}"), "malformed"
