"""Deadlines of a connection, short ones here: who is slow, silent or does not read is told so, or let go of."""

from __future__ import annotations

import logging
import time

import pytest

from service.connection import Connection
from service.node import Node
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import answered, settings_of
from tests.service.raw import Listening, chunked, head, listening, post

LIVE = head("GET", "/livez")
GRAPH = "/v1/surfaces/default/graph"
NEVER = 3600.0
PATIENT = {"header_s": NEVER, "body_s": NEVER, "idle_s": NEVER, "unread_s": NEVER, "linger_s": NEVER, "sweep_s": 0.02}
CHUNKED = "transfer-encoding: chunked"
BIG = bytes(64 << 20)


@pytest.fixture
def serving(tmp_path):
    """A function that starts a server of which one deadline is short, and all others never pass."""
    started = []

    def start(**limits):
        server = Listening(Node(settings_of(tmp_path / "data")), **(PATIENT | limits))
        answering = server.app

        async def app(scope, receive, send):
            if scope["type"] == "http" and scope["path"] == "/big":
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]}
                )
                await send({"type": "http.response.body", "body": BIG})
            else:
                await answering(scope, receive, send)

        server.app = app
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(autouse=True)
def no_fault(caplog):
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def served(server, reason):
    """The connection that was let go of is counted, left no trace, and the next request is served."""
    while not server.counted("banditd_connections_closed_total", reason=reason):
        answered(server.get("/livez"), 200)
    assert server.frames() == []
    answered(server.post("/v1/recommend", {"items": ["a"]}), 200)


def test_the_limits_of_the_contract():
    assert (Connection.header_s, Connection.body_s, Connection.max_header_bytes) == (10.0, 30.0, 65_536)


def too_slow(raw, deadline):
    """The answer to who took longer than a deadline, after which the connection ends."""
    reply = raw.reply()
    assert (reply.status, reply.closes) == (408, True)
    assert deadline in reply.problem["detail"]
    assert raw.rest() == b""


@pytest.mark.parametrize("before", [b"", LIVE * 2])
def test_a_header_that_comes_byte_by_byte(serving, before):
    server = serving(header_s=0.2)
    with server.raw() as raw:
        raw.send(before)
        for _ in range(before.count(b"GET")):
            assert raw.reply().status == 200
        raw.drip(b"GET /livez HTTP/1.1\r\nx: " + b"y" * 100_000, 0.02)
        too_slow(raw, "0.2 s")
    served(server, "slow_header")


def test_empty_lines_are_no_header(serving):
    server = serving(header_s=0.2)
    with server.raw() as raw:
        raw.drip(b"\r\n" * 50_000, 0.02)
        assert raw.reply().status == 408
    served(server, "slow_header")


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("path", ["/v1/recommend", "/v1/feedback", "/v1/recommend/batch"])
def test_a_body_that_comes_byte_by_byte(serving, path, coding):
    server = serving(body_s=0.2)
    body = b'{"items":["a"]' + b" " * 100_000 + b"}"
    with server.raw() as raw:
        whole = post(path, body) if coding == "length" else post(path, chunked(body, 1), CHUNKED)
        raw.send(whole[:200])
        raw.drip(whole[200:], 0.02)
        too_slow(raw, "0.2 s")
    served(server, "slow_body")


def test_a_body_that_stops(serving):
    server = serving(body_s=0.1)
    with server.raw() as raw:
        raw.send(post("/v1/recommend", b'{"items":["a"]}', "content-length: 99"))
        assert raw.reply().problem["status"] == 408
    served(server, "slow_body")


def test_the_rest_of_a_body_that_was_refused_already(serving):
    """The answer comes at once; who goes on byte by byte is let go of without another."""
    server = serving(body_s=0.2)
    with server.raw() as raw:
        raw.send(post("/v1/recommend", b"x", "content-length: 99999", kind="text/plain"))
        assert raw.reply().problem["status"] == 415
        raw.drip(b"x" * 50_000, 0.02)
        assert raw.rest() == b""
    served(server, "slow_body")


def test_a_graph_may_take_longer_while_it_makes_progress(serving):
    """Twenty pieces with pauses that sum up to twice the deadline; then one byte at a time."""
    server = serving(body_s=1.0, upload_step=40)
    content = small_graph().to_bytes()
    lines = ["content-type: application/octet-stream", f"content-length: {len(content)}"]
    step = -(-len(content) // 20)
    assert step >= 40
    with server.raw() as raw:
        raw.send(head("PUT", GRAPH, *lines))
        for start in range(0, len(content), step):
            time.sleep(0.1)
            raw.send(content[start : start + step])
        assert raw.reply().status == 200
        raw.send(head("PUT", GRAPH, *lines))
        raw.drip(content[:30], 0.02)
        reply = raw.reply()
        assert (reply.status, reply.closes) == (408, True)
        assert "fewer than 40 bytes" in reply.problem["detail"]
    assert answered(server.get("/v1/surfaces/default"), 200)["graph_version"] == small_graph().version
    assert len(list((server.node.data.path / "graphs").glob("*.npz"))) == 1
    served(server, "slow_body")


def test_a_connection_that_says_nothing(serving):
    server = serving(header_s=0.1)
    with server.raw() as raw:
        assert raw.rest() == b""
    served(server, "idle")


def test_a_kept_connection_that_says_nothing_more(serving):
    server = serving(idle_s=0.1)
    with server.raw() as raw:
        raw.send(LIVE)
        assert raw.reply().status == 200
        assert raw.rest() == b""
    served(server, "idle")


@pytest.mark.parametrize("lines", [[], ["connection: close"]])
def test_a_client_that_does_not_read_its_answer(serving, lines):
    server = serving(unread_s=0.2)
    with server.raw() as raw:
        raw.send(head("GET", "/big", *lines))
        served(server, "unread")
        with pytest.raises((AssertionError, ConnectionError), match="reset|ended within"):
            raw.reply()


def test_a_client_that_reads_slowly_gets_it_all(serving):
    """Longer than any deadline in all, but never long without progress."""
    server = serving(unread_s=1.0, idle_s=1.0, header_s=1.0, body_s=1.0)
    with server.raw() as raw:
        raw.send(head("GET", "/big"))
        parts = []
        for _ in range(16):
            time.sleep(0.1)
            parts.append(raw.read(len(BIG) // 16))
        header, _, body = b"".join(parts).partition(b"\r\n\r\n")
        assert b" 200 " in header
        assert body + raw.read(len(BIG) - len(body)) == BIG


@pytest.mark.parametrize("limits", [{"linger_s": 0.2}, {"linger_bytes": 1 << 20}])
def test_a_refused_client_that_never_stops_sending(serving, limits):
    server = serving(**limits)
    with server.raw() as raw:
        raw.send(b"hello\r\n\r\n")
        assert raw.reply().status == 400
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            raw.flood()
    served(server, "malformed")


def test_more_connections_than_may_be_open(tmp_path):
    with listening(tmp_path / "data", max_connections=3, sweep_s=0.02) as server:
        kept = [server.raw() for _ in range(3)]
        for raw in kept:
            raw.send(LIVE)
            assert raw.reply().status == 200
        for _ in range(5):
            with server.raw() as further:
                further.send(LIVE)
                reply = further.reply()
                assert (reply.status, reply.closes) == (503, True)
                assert "3 connections are open" in reply.problem["detail"]
                assert reply.headers["retry-after"] == "1"
                assert further.rest() == b""
        kept.pop().close()
        while server.status(LIVE) == 503:
            pass
        for raw in kept:
            raw.send(LIVE)
            assert raw.reply().status == 200
            raw.close()
        assert server.counted("banditd_connections_closed_total", reason="limit") >= 5


def test_a_storm_of_connections_is_reset(tmp_path, monkeypatch):
    monkeypatch.setattr("service.connection.REFUSED_CONNECTIONS", 2)
    with listening(tmp_path / "data", max_connections=1) as server:
        opened = [server.raw() for _ in range(6)]
        assert [raw.end() for raw in opened[3:]] == [b""] * 3
        assert [raw.reply().status for raw in opened[1:3]] == [503] * 2
        opened[0].send(LIVE)
        assert opened[0].reply().status == 200
        for raw in opened:
            raw.close()


def test_a_server_that_stops_answers_what_it_has_and_refuses_halves(serving):
    server = serving()
    idle, half, headless, empty = (server.raw() for _ in range(4))
    idle.send(LIVE)
    assert idle.reply().status == 200
    half.send(post("/v1/recommend", b'{"items":["a"]}', "content-length: 99"))
    headless.send(LIVE[:20])
    while server.counted("banditd_connections") < 4:
        pass
    answered(server.get("/livez"), 200)
    server.stop()
    assert idle.rest() == empty.rest() == b""
    for raw in (half, headless):
        reply = raw.reply()
        assert (reply.status, reply.closes) == (503, True)
        assert "stopping" in reply.problem["detail"]
    for raw in (idle, half, headless, empty):
        raw.close()
    with listening(server.node.data.path) as again:
        assert again.frames() == []
