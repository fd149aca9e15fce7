"""Limits of a connection: what is too large or not HTTP is refused with a problem document that reaches its client."""

from __future__ import annotations

import gc
import json
import logging
import weakref

import pytest

from service.connection import Connection
from tests.service.harness import answered
from tests.service.raw import chunked, head, listening, post

LIVE = head("GET", "/livez")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with listening(tmp_path_factory.mktemp("connection") / "data") as server:
        yield server


@pytest.fixture
def raw(server):
    with server.raw() as raw:
        yield raw


@pytest.fixture(autouse=True)
def healthy(server, caplog):
    """Whatever was sent: nothing failed, and the next request is served."""
    yield
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    answered(server.get("/livez"), 200)


@pytest.fixture
def untouched(server):
    """A refused request leaves no trace in log or state."""
    before = len(server.frames()), server.sums()
    yield
    assert (len(server.frames()), server.sums()) == before


def noting(lost, method):
    """The method, which adds its object to those that were lost."""

    def noted(self, *given):
        lost.add(self)
        method(self, *given)

    return noted


def refused(raw, status):
    """A refusal that ends the connection; its detail."""
    reply = raw.reply()
    assert reply.status == status, reply
    assert reply.closes
    assert raw.rest() == b""
    return reply.problem["detail"]


def padded(size, target="/livez"):
    """A header of so many bytes, its request line and the empty line left out of the count as the server does."""
    empty = head("GET", target, "x: ")
    lines = empty.split(b"\r\n")[1:-2]
    counted = len(target) + sum(len(line) + 2 for line in lines)
    return head("GET", target, "x: " + "y" * (size - counted))


@pytest.mark.usefixtures("untouched")
class TestHeader:
    def test_64_kib_are_taken_and_a_byte_more_is_not(self, server):
        for size, status in ((65_536, 200), (65_537, 431)):
            with server.raw() as raw:
                raw.send(padded(size))
                assert raw.reply().status == status

    @pytest.mark.parametrize("before", [b"", LIVE, post("/livez", b"x" * 70_000)])
    def test_a_header_without_an_end(self, server, raw, before):
        """One long line, after an earlier request too, whose answer comes first."""
        raw.send(before, b"GET /livez HTTP/1.1\r\nx: ")
        raw.send(b"y" * 400_000)
        if before:
            assert raw.reply().status in (200, 405)
        assert "65536 bytes" in refused(raw, 431)

    def test_a_long_request_target_and_many_lines(self, server):
        for request in (head("GET", "/" + "x" * 70_000), head("GET", "/livez", *["a: b"] * 20_000)):
            with server.raw() as raw:
                raw.send(request)
                refused(raw, 431)

    def test_a_large_body_does_not_count_as_header(self, server, raw):
        """The body's end and the next header come in one piece."""
        body = b" " * 200_000
        for _ in range(3):
            raw.send(post("/v1/recommend", body), LIVE[:30])
            assert raw.reply().status == 422
            raw.send(LIVE[30:])
            assert raw.reply().status == 200

    def test_trailers_without_an_end(self, server, raw):
        raw.send(post("/v1/recommend", b"1\r\n{\r\n0\r\n", "transfer-encoding: chunked"))
        raw.send(b"a: b\r\n" * 60_000)
        refused(raw, 431)

    def test_a_few_trailers_are_dropped(self, server, raw):
        raw.send(
            post("/v1/recommend", b"1\r\n{\r\n0\r\ncontent-type: text/plain\r\n\r\n", "transfer-encoding: chunked")
        )
        assert raw.reply().status == 422


@pytest.mark.usefixtures("untouched")
class TestWhatIsNotHttp:
    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 of TLS\r\n\r\n",
            b"hello\r\n\r\n",
            b"get /livez HTTP/1.1\r\n\r\n",
            b"FOO /livez HTTP/1.1\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nx: a\x00b\r\n\r\n",
            b"GET /liv\xe9z HTTP/1.1\r\n\r\n",
            b"GET /li vez HTTP/1.1\r\n\r\n",
            b"GET livez HTTP/1.1\r\n\r\n",
            b"GET http://127.0.0.1 HTTP/1.1\r\n\r\n",
            b"GET http:// HTTP/1.1\r\n\r\n",
            b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n\r\n",
            b"CONNECT /livez HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            head("POST", "/v1/recommend", "content-length: 3", "content-length: 4") + b"{} ",
            head("POST", "/v1/recommend", "content-length: 3", "content-length: 3") + b"{} ",
            head("POST", "/v1/recommend", "content-length: 3", "transfer-encoding: chunked") + b"0\r\n\r\n",
            head("POST", "/v1/recommend", "transfer-encoding: chunked", "content-length: 3") + b"0\r\n\r\n",
            head("POST", "/v1/recommend", "content-length: x") + b"{}",
            head("POST", "/v1/recommend", "content-length: -1") + b"{}",
            head("POST", "/v1/recommend", "content-length: +2") + b"{}",
            head("POST", "/v1/recommend", "content-length: 1_0") + b"{}",
            head("POST", "/v1/recommend", "content-length: " + "9" * 30) + b"{}",
            head("POST", "/v1/recommend", "transfer-encoding: gzip") + b"{}",
            head("POST", "/v1/recommend", "transfer-encoding: chunked") + b"x\r\n",
            post("/v1/recommend", b"2\r\n{}x\r\n", "transfer-encoding: chunked"),
        ],
    )
    def test_is_a_problem(self, server, raw, request_bytes):
        before = server.counted("banditd_refused_total", status="400")
        raw.send(request_bytes)
        assert refused(raw, 400)
        assert server.counted("banditd_refused_total", status="400") == before + 1

    def test_earlier_requests_are_answered_before(self, server, raw):
        raw.send(LIVE * 3, b"hello\r\n\r\n")
        assert [raw.reply().status for _ in range(3)] == [200] * 3
        refused(raw, 400)

    def test_a_queued_request_whose_body_breaks_off(self, server, raw):
        raw.send(LIVE, post("/v1/recommend", b"zz\r\n", "transfer-encoding: chunked"))
        assert raw.reply().status == 200
        refused(raw, 400)


class TestWhatIsHttp:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (head("GET", "http://127.0.0.1/livez"), 200),
            (head("GET", "/%6Civez"), 200),
            (head("GET", "/livez?a=%ff"), 200),
            (head("GET", "/livez#part"), 200),
            (head("GET", "/%00%ff%0d%0a"), 404),
            (head("GET", "/v1/surfaces/%0d%0ax"), 404),
            (head("GET", "/v1/surfaces/%f0%9f%98%80/cells"), 404),
            (head("GET", "//livez"), 404),
            (head("GET", "/../livez"), 404),
            (head("OPTIONS", "*"), 404),
            (head("PROPFIND", "/livez"), 405),
            (head("M-SEARCH", "/v1/recommend"), 405),
            (b"GET /livez HTTP/1.0\r\n\r\n", 200),
            (b"\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", 200),
            (post("/v1/recommend", chunked(b'{"items":[]}', 1), "transfer-encoding: chunked"), 200),
            (post("/v1/recommend", b"3;a=b\r\n{ }\r\n0\r\n\r\n", "transfer-encoding: chunked"), 422),
        ],
    )
    def test_is_answered(self, server, request_bytes, status):
        with server.raw() as raw:
            raw.send(request_bytes)
            reply = raw.reply()
        assert reply.status == status
        if status != 200:
            assert reply.problem

    def test_pipelined_requests_are_answered_in_order(self, server, raw):
        paths = ["/livez", "/nowhere", "/v1/surfaces", "/livez"] * 20
        raw.send(*[head("GET", path) for path in paths])
        status = {"/nowhere": 404}
        assert [raw.reply().status for _ in paths] == [status.get(path, 200) for path in paths]

    def test_a_head_has_no_body_and_the_connection_goes_on(self, server, raw):
        for path, status in (("/livez", 200), ("/v1/surfaces", 405), ("/nowhere", 404), ("/v1/recommend", 405)):
            raw.send(head("HEAD", path))
            assert raw.reply(head=True).status == status
        raw.send(LIVE)
        assert raw.reply().status == 200

    def test_a_client_that_asks_first_is_told_to_go_on(self, server, raw):
        raw.send(
            head(
                "POST", "/v1/recommend", "content-type: application/json", "content-length: 12", "expect: 100-continue"
            )
        )
        assert raw.reply().status == 100
        raw.send(b'{"items":[]}')
        assert raw.reply().status == 200

    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (["content-type: application/json", "content-length: 60000000"], 413),
            (["content-type: text/plain", "content-length: 12"], 415),
        ],
    )
    def test_a_client_that_asks_first_is_refused_at_once(self, server, raw, lines, status):
        raw.send(head("POST", "/v1/recommend", *lines, "expect: 100-continue"))
        assert raw.reply().status == status
        assert raw.rest() == b""

    @pytest.mark.parametrize("protocol", ["h2c", "websocket"])
    def test_another_protocol_is_declined_and_the_request_answered(self, server, raw, protocol):
        """As Java's own client asks by default, and with the body beside it."""
        lines = [
            "connection: Upgrade, HTTP2-Settings",
            f"upgrade: {protocol}",
            "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        ]
        raw.send(post("/v1/recommend", b'{"items":[]}', "content-length: 12", *lines), LIVE)
        assert json.loads(raw.reply().body)["items"] == []
        assert raw.reply().status == 200
        raw.send(head("GET", "/livez", *lines))
        assert raw.reply().status == 200

    def test_another_protocol_within_a_pipeline(self, server, raw):
        raw.send(LIVE, head("GET", "/livez", "connection: upgrade", "upgrade: h2c") * 2)
        assert raw.reply().status == 200
        refused(raw, 400)


@pytest.mark.usefixtures("untouched")
class TestLargeBodies:
    @pytest.mark.parametrize("mb", [2, 60])
    @pytest.mark.parametrize("coding", ["length", "chunked"])
    @pytest.mark.parametrize("path", ["/v1/recommend", "/v1/feedback", "/v1/recommend/batch"])
    def test_a_client_that_sends_all_before_it_reads(self, server, raw, mb, coding, path):
        body = b" " * (mb * 10**6)
        if coding == "length":
            raw.send(post(path, body))
        else:
            raw.send(post(path, chunked(body), "transfer-encoding: chunked"))
        if mb == 2 and path != "/v1/recommend":
            assert raw.reply().status == 422
        else:
            refused(raw, 413)

    def test_a_body_that_nobody_reads_does_not_disturb_the_next_request(self, server, raw):
        for request, status in (
            (post("/v1/recommend", b"x" * 5_000_000, kind="text/plain"), 415),
            (post("/nowhere", b"x" * 5_000_000), 404),
            (post("/livez", chunked(b"x" * 5_000_000), "transfer-encoding: chunked"), 405),
        ):
            raw.send(request)
            assert raw.reply().problem["status"] == status
            raw.send(LIVE)
            assert raw.reply().status == 200

    def test_a_graph_beyond_2_gib_is_refused_by_its_length(self, server, raw):
        lines = ["content-type: application/octet-stream", f"content-length: {(2 << 30) + 1}"]
        raw.send(head("PUT", "/v1/surfaces/default/graph", *lines), bytes(20_000_000))
        refused(raw, 413)


@pytest.mark.usefixtures("untouched")
class TestClientsThatLeave:
    def test_their_connection_is_freed_at_once(self, server, monkeypatch):
        """Without the garbage collector, which looks at a server's objects seldom."""
        opened = weakref.WeakSet()
        monkeypatch.setattr(Connection, "connection_lost", noting(opened, Connection.connection_lost))
        gc.disable()
        try:
            for sent, status in (
                (LIVE, 200),
                (post("/v1/recommend", b"{"), 422),
                (b"hello\r\n\r\n", 400),
                (LIVE * 2, 200),
            ):
                assert server.status(sent) == status
            while server.counted("banditd_connections") > 1 or opened:
                answered(server.get("/livez"), 200)
        finally:
            gc.enable()

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            LIVE[:10],
            post("/v1/recommend", b'{"items":["a"]}', "content-length: 99"),
            head("PUT", "/v1/surfaces/default/graph", "content-length: 99") + b"PK",
            LIVE * 50,
        ],
    )
    def test_leave_nothing_behind(self, server, sent):
        for _ in range(5):
            with server.outliving(), server.raw() as raw:
                raw.send(sent)
        graphs = server.node.data.path / "graphs"
        while [path.name for path in graphs.iterdir()]:
            server.get("/livez")
