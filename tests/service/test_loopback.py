"""Host and Origin: what a page in a browser could send to a server on this machine is refused before all else."""

from __future__ import annotations

import pytest

from service.loopback import Loopback
from service.problems import Problem
from service.settings.schema import ServerSettings
from tests.service.harness import answered, refused, running

LISTED = ("bandit.example", "proxy.example:8443", "localhost:3000")
ROUTES = [
    ("GET", "/livez"),
    ("GET", "/metrics"),
    ("POST", "/v1/recommend"),
    ("GET", "/nowhere"),
    ("PUT", "/v1/feedback"),
]


def status(host, origin=None, *, listed=LISTED, bound="127.0.0.1"):
    """What a request with these headers is refused with; 200 where it is not."""
    headers = {b"host": host.encode()} if host is not None else {}
    if origin is not None:
        headers[b"origin"] = origin.encode()
    try:
        Loopback(ServerSettings(host=bound, hosts=listed)).admit(headers)
    except Problem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:1", "LocalHost:8080", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:8080"),
        *("bandit.example", "Bandit.Example:99", "proxy.example:8443", None),
    ],
)
def test_a_host_that_is_answered(host):
    assert status(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", ""),
        *("proxy.example", "proxy.example:1", "localhost:x", "::1", "[::1", "user@localhost", "localhost:1:2", "\xff"),
    ],
)
def test_a_host_that_is_foreign(host):
    assert status(host) == 421


def test_the_address_listened_on_is_answered():
    assert status("192.0.2.1:80") == 421
    assert status("192.0.2.1:80", bound="192.0.2.1") == 200
    assert status("[2001:db8::1]:80", bound="2001:db8::1") == 200
    assert status("localhost:80", bound="0.0.0.0") == 200


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", 200),
        ("localhost", "https://LOCALHOST", 200),
        ("127.0.0.1:8080", "http://127.0.0.1:3000", 403),
        ("127.0.0.1:8080", "http://localhost:8080", 403),
        ("127.0.0.1:8080", "http://127.0.0.1", 403),
        ("127.0.0.1:8080", "http://localhost:3000", 200),
        ("127.0.0.1:8080", "https://bandit.example", 200),
        ("127.0.0.1:8080", "https://bandit.example:9", 200),
        ("127.0.0.1:8080", "https://proxy.example:8443", 200),
        ("127.0.0.1:8080", "https://proxy.example", 403),
        ("127.0.0.1:8080", "https://evil.example", 403),
        ("127.0.0.1:8080", "null", 403),
        ("127.0.0.1:8080", "", 403),
        ("127.0.0.1:8080", "file://", 403),
        ("127.0.0.1:8080", "ftp://127.0.0.1:8080", 403),
        ("127.0.0.1:8080", "127.0.0.1:8080", 403),
        (None, "http://127.0.0.1:8080", 403),
        ("evil.example", "http://evil.example", 421),
    ],
)
def test_an_origin(host, origin, expected):
    assert status(host, origin) == expected


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("loopback") / "data", '[server]\nhosts = ["bandit.example"]\n') as server:
        yield server


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_and_counts(server, method, path):
    def counted(status):
        return server.node.metrics.registry.get_sample_value("banditd_refused_total", {"status": str(status)}) or 0.0

    before = counted(421), counted(403)
    assert "evil.example" in refused(server.request(method, path, headers={"host": "evil.example"}), 421)["detail"]
    assert "null" in refused(server.request(method, path, headers={"origin": "null"}), 403)["detail"]
    assert (counted(421), counted(403)) == (before[0] + 1, before[1] + 1)


def test_what_is_refused_leaves_no_trace(server):
    before = len(server.frames())
    for headers in ({"host": "evil.example"}, {"origin": "http://127.0.0.1:3000"}):
        answer = server.request("POST", "/v1/recommend", json={"items": ["a"]}, headers=headers)
        assert answer.status_code in (403, 421)
    assert len(server.frames()) == before


def test_a_page_of_an_admitted_host_is_answered(server):
    headers = {"host": "bandit.example", "origin": "https://bandit.example"}
    answered(server.request("POST", "/v1/recommend", json={"items": ["a"]}, headers=headers), 200)
