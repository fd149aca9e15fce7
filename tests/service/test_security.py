"""Keys: which of what is presented counts, and what it may do."""

from __future__ import annotations

from hashlib import sha256

import pytest
from starlette.routing import Mount, Route

from service.problems import Problem
from service.security import SCOPES, Keys
from service.settings.schema import KeySettings


async def nothing(request):
    raise AssertionError("no route is run here")


ROUTES = [
    Route("/v1/surfaces/{surface}", nothing),
    Route("/v1/surfaces/{surface}/cells", nothing),
    Route("/new", nothing, methods=["GET", "PUT"]),
    Mount("/files", routes=[Route("/all", nothing)]),
]


def entry(secret: bytes, *scopes: str) -> KeySettings:
    return KeySettings(secret.decode("latin-1"), sha256(secret).hexdigest(), scopes)


KEYS = Keys([entry(b"decides", "decide"), entry(b"feeds", "feedback"), entry(b"rules", "admin")], ROUTES)


def status(headers, path="/v1/recommend", method="POST", keys=KEYS):
    """What a request is refused with, and why; 200 where it is not."""
    try:
        keys.admit({"type": "http", "method": method, "path": path}, headers)
    except Problem as problem:
        return problem.status, problem.detail
    return 200, ""


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer decides"},
        {b"authorization": b"bearer   decides "},
        {b"authorization": b"BEARER decides"},
        {b"x-api-key": b"decides"},
        {b"ocp-apim-subscription-key": b" decides"},
        {b"authorization": b"Basic ZGVjaWRlcw==", b"x-api-key": b"decides"},
        {b"authorization": b"Bearer decides", b"x-api-key": b" decides", b"ocp-apim-subscription-key": b""},
    ],
)
def test_a_key_is_found_in_each_header(headers):
    assert status(headers) == (200, "")


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "an API key is needed"),
        ({b"authorization": b""}, "needed"),
        ({b"authorization": b"Bearer"}, "needed"),
        ({b"authorization": b"Bearer "}, "needed"),
        ({b"authorization": b"decides"}, "needed"),
        ({b"authorization": b"Basic decides"}, "needed"),
        ({b"x-api-key": b""}, "needed"),
        ({b"cookie": b"x-api-key=decides"}, "needed"),
        ({b"x-api-key": b"Decides"}, "unknown"),
        ({b"x-api-key": b"decides2"}, "unknown"),
        ({b"x-api-key": b"Bearer decides"}, "unknown"),
        ({b"x-api-key": sha256(b"decides").hexdigest().encode()}, "unknown"),
        ({b"x-api-key": b"\xff\xfe"}, "unknown"),
    ],
)
def test_no_key_and_an_unknown_one_are_told_apart_and_not_repeated(headers, says):
    code, detail = status(headers)
    assert code == 401
    assert says in detail
    presented = [value.decode("latin-1").removeprefix("Bearer").strip() for value in headers.values()]
    assert not [value for value in presented if value and value in detail]


@pytest.mark.parametrize("other", [b"unknown", b"rules"])
@pytest.mark.parametrize("known", [b"authorization", b"x-api-key", b"ocp-apim-subscription-key"])
def test_keys_that_differ_are_refused_whatever_they_may_do(known, other):
    headers = {b"authorization": b"Bearer " + other, b"x-api-key": other, b"ocp-apim-subscription-key": other}
    headers[known] = b"Bearer decides" if known == b"authorization" else b"decides"
    code, detail = status(headers)
    assert code == 401
    assert "disagree" in detail
    assert "decides" not in detail


def test_what_was_presented_is_hashed_as_its_bytes():
    secret = "schlüssel:ä".encode()
    keys = Keys([entry(secret, "decide")], ROUTES)
    assert status({b"x-api-key": secret}, keys=keys) == (200, "")


def test_the_scope_that_is_missing_is_named():
    assert status({b"x-api-key": b"feeds"}) == (403, "POST /v1/recommend needs the scope decide; this key has feedback")


def test_one_key_under_two_names_has_the_scopes_of_both():
    keys = Keys([entry(b"both", "decide"), entry(b"both", "feedback")], ROUTES)
    paths = ["/v1/recommend", "/v1/feedback"]
    assert [status({b"x-api-key": b"both"}, path, keys=keys) for path in paths] == [(200, "")] * 2
    assert status({b"x-api-key": b"both"}, "/v1/surfaces/home/cells", "GET", keys)[0] == 403


def test_admin_includes_the_others():
    for (method, path), _ in SCOPES.items():
        assert status({b"x-api-key": b"rules"}, path, method) == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/surfaces/home", 200),
        ("HEAD", "/v1/surfaces/home", 200),
        ("GET", "/v1/surfaces/home/cells", 403),
        ("HEAD", "/v1/surfaces/home/cells", 403),
        ("POST", "/v1/surfaces/home", 200),
        ("GET", "/new", 403),
        ("PUT", "/new", 403),
        ("DELETE", "/new", 200),
        ("GET", "/new\n", 403),
        ("GET", "/files/all", 403),
        ("GET", "/nowhere", 200),
        ("GET", "/v1/surfaces/home/cells/", 200),
    ],
)
def test_a_served_route_without_a_scope_needs_admin_and_what_is_not_served_any_key(method, path, expected):
    """Whoever has a key is told by 404 or 405 that nothing is served."""
    assert status({b"x-api-key": b"decides"}, path, method)[0] == expected
    assert status({b"x-api-key": b"rules"}, path, method)[0] == 200
    assert status({}, path, method)[0] == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_key(path):
    assert status({}, path, "GET") == (200, "")
    assert status({}, f"{path}/", "GET")[0] == 401
