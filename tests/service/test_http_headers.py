"""Headers: what two programs could read in two ways is refused, a coded body too; HEAD is GET without a body."""

from __future__ import annotations

from hashlib import sha256

import pytest

from tests.service.harness import HOT, refused, running
from tests.service.raw import head, listening, post

KEYED = "".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{sha256(name.encode()).hexdigest()}"\nscopes = ["{scope}"]\n'
    for name, scope in (("one", "decide"), ("two", "admin"))
)
KIND = ("content-type", "application/json")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with listening(tmp_path_factory.mktemp("headers") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    with running(tmp_path_factory.mktemp("headers") / "keyed", KEYED) as server:
        yield server


def answer(server, request):
    with server.raw() as raw:
        raw.send(request)
        return raw.reply()


class TestRepeated:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("host", "127.0.0.1"),
            ("Host", "evil.example"),
            ("origin", "http://127.0.0.1"),
            ("Content-Type", "application/json"),
            ("content-encoding", "identity"),
            ("authorization", "Bearer a"),
            ("x-api-key", "a"),
            ("ocp-apim-subscription-key", "a"),
        ],
    )
    def test_a_header_that_may_stand_once(self, server, name, value):
        before = server.counted("banditd_refused_total", status="400")
        lines = [f"{name}: {value}"] * (1 if name.lower() in ("host", "content-type") else 2)
        reply = answer(server, post("/v1/recommend", b'{"items":[]}', "content-length: 12", *lines))
        assert reply.status == 400
        assert f"header {name.lower()} was sent 2 times" in reply.problem["detail"]
        assert server.counted("banditd_refused_total", status="400") == before + 1

    @pytest.mark.parametrize("path", ["/livez", "/v1/surfaces", "/nowhere", "/v1/recommend"])
    def test_on_every_route(self, server, path):
        assert answer(server, head("GET", path, "host: 127.0.0.1")).status == 400

    def test_others_may_stand_twice(self, server):
        lines = ["content-length: 12", "accept: a", "accept: b", "cookie: a=1", "cookie: b=2", "x-own: 1", "x-own: 2"]
        assert answer(server, post("/v1/recommend", b'{"items":[]}', *lines)).status == 200

    def test_a_length_that_comes_twice_without_a_socket(self, keyed):
        """The parser of a connection refuses it first."""
        headers = [KIND, ("content-length", "2"), ("content-length", "2"), ("x-api-key", "one")]
        refused(keyed.request("POST", "/v1/recommend", content=b"{}", headers=headers), 400)


class TestKeys:
    def test_that_differ_are_refused_and_that_agree_are_taken(self, keyed):
        for by, status in [
            ([("authorization", "Bearer one"), ("x-api-key", "one")], 200),
            ([("authorization", "Bearer one"), ("x-api-key", "two")], 401),
            ([("x-api-key", "two"), ("ocp-apim-subscription-key", "one")], 401),
        ]:
            response = keyed.request("POST", "/v1/recommend", content=b'{"items":[]}', headers=[KIND, *by])
            assert response.status_code == status
            if status == 401:
                assert "disagree" in refused(response, 401)["detail"]


class TestCoding:
    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "aws-chunked", "x"])
    @pytest.mark.parametrize("path", HOT)
    def test_a_coded_body_is_refused(self, server, path, coding):
        reply = answer(server, post(path, b"{}", "content-length: 2", f"content-encoding: {coding}"))
        assert reply.status == 415
        assert coding in reply.problem["detail"]
        assert reply.headers["accept-encoding"] == "identity"

    @pytest.mark.parametrize("coding", ["identity", "Identity", ""])
    def test_identity_is_none(self, server, coding):
        lines = ["content-length: 12", f"content-encoding: {coding}"]
        assert answer(server, post("/v1/recommend", b'{"items":[]}', *lines)).status == 200

    def test_a_coded_graph_is_refused(self, server):
        headers = {"content-type": "application/octet-stream", "content-encoding": "gzip"}
        response = server.request("PUT", "/v1/surfaces/default/graph", content=b"PK", headers=headers)
        assert "gzip" in refused(response, 415)["detail"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_head_is_answered_as_get_without_a_body(server, path):
    with server.raw() as raw:
        raw.send(head("HEAD", path), head("GET", path))
        first, second = raw.reply(head=True), raw.reply()
    assert (first.status, second.status) == (200, 200)
    assert first.headers["content-type"] == second.headers["content-type"]
    assert second.body
    if path != "/metrics":
        assert first.headers["content-length"] == second.headers["content-length"]


def test_head_of_metrics_takes_any_key(keyed):
    assert keyed.request("HEAD", "/metrics").status_code == 401
    assert keyed.request("HEAD", "/metrics", headers={"x-api-key": "one"}).status_code == 200
    assert [keyed.request("HEAD", path).status_code for path in ("/livez", "/readyz")] == [200, 200]
