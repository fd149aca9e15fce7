"""Keys over HTTP: every route with every scope and with none, on servers that ask for keys."""

from __future__ import annotations

import json
import logging
import signal
from hashlib import sha256

import pytest

from service import cli
from service.node import Node
from service.settings import load
from tests.service.harness import Server, answered, refused, running
from tests.service.processes import serving

SECRETS = {"decide": "d3cide-secret", "feedback": "f33dback-secret", "admin": "adm1n-secret"}
UNKNOWN = "unkn0wn-secret"


def entry(scope: str) -> str:
    hashed = sha256(SECRETS[scope].encode()).hexdigest()
    return f'[[keys]]\nname = "{scope}er"\nsha256 = "{hashed}"\nscopes = ["{scope}"]\n'


KEYED = "".join(map(entry, SECRETS)) + "[surfaces.home]\n"


def bearer(scope: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[scope]}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("keys") / "data", KEYED) as server:
        yield server


def routes_of(server: Server) -> set[tuple[str, str]]:
    """Method and path of every route that is served."""

    def walk(routes):
        for route in routes:
            inner = getattr(route, "original_router", None)
            yield from walk(inner.routes) if inner else [route]

    found = {("POST", path) for path in server.app.paths}
    for route in walk(server.app.app.router.routes):
        found |= {(method, route.path) for method in route.methods}
    return found


def needed(method: str, path: str) -> str | None:
    """The contract: what changes a surface or shows its cells is admin's; what only tells takes any key."""
    if path in ("/livez", "/readyz"):
        return None
    if path in ("/v1/recommend", "/v1/recommend/batch", "/v1/ad-load"):
        return "decide"
    if path == "/v1/feedback":
        return "feedback"
    return "any" if method in ("GET", "HEAD") and not path.endswith("/cells") else "admin"


def test_every_route_with_every_scope_and_with_none(server):
    routes = routes_of(server)
    assert {("POST", "/v1/feedback"), ("PUT", "/v1/surfaces/{surface}/graph"), ("GET", "/docs")} <= routes
    assert {path for _, path in routes} >= set(server.app.app.openapi()["paths"])
    before = len(server.frames())
    for method, path in sorted(routes):
        scope = needed(method, path)
        filled = path.replace("{surface}", "home")
        for headers in ({}, {"authorization": f"Bearer {UNKNOWN}"}):
            response = server.request(method, filled, headers=headers)
            assert (response.status_code == 401) == (scope is not None), (method, path)
            assert scope is None or response.headers["www-authenticate"] == "Bearer"
        for held in SECRETS:
            response = server.request(method, filled, headers=bearer(held))
            allowed = scope in (None, "any", held) or held == "admin"
            assert (response.status_code == 403) == (not allowed), (method, path, held)
            assert response.status_code != 401
            if not allowed and method != "HEAD":
                assert f"needs the scope {scope}" in refused(response, 403)["detail"]
    assert len(server.frames()) == before


def test_a_route_that_nobody_declared_needs_admin(tmp_path):
    with running(tmp_path / "data", KEYED) as server:
        server.app.app.add_api_route("/v1/new", lambda: {})
        assert server.request("GET", "/v1/new").status_code == 401
        refused(server.request("GET", "/v1/new", headers=bearer("decide")), 403)
        assert server.request("GET", "/v1/new", headers=bearer("admin")).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/feedback", 405)])
def test_what_is_not_served_is_told_to_whoever_has_a_key(server, method, path, status):
    refused(server.request(method, path), 401)
    refused(server.request(method, path, headers=bearer("decide")), status)


def test_the_loop_with_a_key_for_each_half(server):
    body = {"items": ["a"], "event_id": "e1"}
    decision = answered(server.request("POST", "/v1/recommend", json=body, headers=bearer("decide")), 200)
    for scope, status in (("decide", 403), ("feedback", 202), ("admin", 202)):
        for by in ({"receipt": decision["receipt"]}, {"event_id": "e1"}):
            sent = by | {"events": [{"kind": "reward", "value": 1.0}]}
            response = server.request("POST", "/v1/feedback", json=sent, headers=bearer(scope))
            assert response.status_code == status
    answered(server.request("GET", "/v1/surfaces/home/cells", headers={"x-api-key": SECRETS["admin"]}), 200)


def test_host_and_origin_do_not_matter_where_a_key_is_asked_for(server):
    foreign = {"host": "evil.example", "origin": "null"}
    answered(server.request("GET", "/v1/surfaces", headers=foreign | bearer("feedback")), 200)
    refused(server.request("GET", "/v1/surfaces", headers=foreign), 401)


def test_a_body_is_not_read_without_a_key(server):
    async def blocks():
        raise AssertionError("read")
        yield b""

    refused(server.request("POST", "/v1/recommend", content=blocks(), headers={"content-type": "text/plain"}), 401)


def test_without_keys_any_key_is_as_none(tmp_path):
    with running(tmp_path / "data") as server:
        answered(server.request("POST", "/v1/recommend", json={"items": []}, headers=bearer("decide")), 200)


def test_keys_of_the_environment(tmp_path):
    given = {"BANDITD_KEYS": "shop:decide+feedback:s1:x, ops:admin:s2"}
    server = Server(Node(load(None, given, {"server.data": str(tmp_path / "data")}).settings))
    server.start()
    try:
        for key, path, status in [
            ("s1:x", "/v1/surfaces", 200),
            ("s1:x", "/v1/surfaces/default/cells", 403),
            ("s2", "/v1/surfaces/default/cells", 200),
            ("s1", "/v1/surfaces", 401),
            ("shop", "/v1/surfaces", 401),
        ]:
            assert server.request("GET", path, headers={"x-api-key": key}).status_code == status
    finally:
        server.stop()


def test_a_key_that_was_taken_out_is_refused_after_a_restart(tmp_path):
    for toml, status in ((KEYED, 200), (entry("decide") + "[surfaces.home]\n", 401)):
        with running(tmp_path / "data", toml) as server:
            assert server.request("GET", "/v1/surfaces", headers=bearer("admin")).status_code == status
            answered(server.request("GET", "/v1/surfaces", headers=bearer("decide")), 200)


def test_no_key_or_secret_is_printed(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    signing = "5e" * 32
    toml = f'[receipts]\nsecret = "{signing}"\nuser_key = "{"7a" * 32}"\n{KEYED}'
    with running(tmp_path / "data", toml) as server:
        secrets = [*SECRETS.values(), UNKNOWN, signing, "7a" * 32]
        secrets += [sha256(secret.encode()).hexdigest() for secret in SECRETS.values()]
        texts = []
        for headers in ({"authorization": f"Bearer {UNKNOWN}"}, {"x-api-key": UNKNOWN}, *map(bearer, SECRETS)):
            for method, path in sorted(routes_of(server)):
                response = server.request(method, path.replace("{surface}", "home"), headers=headers)
                texts.append(response.text + str(response.headers))
        assert any("banditd_refused_total" in text for text in texts)
    texts += [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    texts.append(repr(server.node.settings.receipts))
    assert [secret for secret in secrets if any(secret in text for text in texts)] == []


def test_the_document_says_how_to_give_a_key_and_what_is_answered_without(server, tmp_path):
    document = answered(server.request("GET", "/openapi.json", headers=bearer("feedback")), 200)
    schemes = document["components"]["securitySchemes"]
    assert schemes["Bearer"] == {"type": "http", "scheme": "bearer"}
    headers = {one["name"] for one in schemes.values() if one["type"] == "apiKey"}
    assert headers == {"X-API-Key", "Ocp-Apim-Subscription-Key"}
    assert document["security"] == [{name: []} for name in schemes]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if needed(method.upper(), path) is None:
                assert operation["security"] == []
                assert "401" not in operation["responses"]
            else:
                assert {"401", "403"} <= operation["responses"].keys()
    for name in ("RecommendRequest", "FeedbackRequest"):
        assert "event_id" in document["components"]["schemas"][name]["properties"]
    with running(tmp_path / "open") as without:
        document = answered(without.get("/openapi.json"), 200)
        assert "securitySchemes" not in document["components"]
        assert "401" not in json.dumps(document)


def test_cells_sends_its_key_to_a_server_that_asks_for_one(tmp_path, monkeypatch, capsys):
    file = tmp_path / "keyed.toml"
    file.write_text(KEYED)
    with serving(tmp_path / "data", "--config", str(file)) as process:
        cells = ["cells", "--url", process.url, "--json"]
        for key, status, says in [
            (SECRETS["admin"], 0, ""),
            (SECRETS["decide"], 2, "needs the scope admin"),
            (None, 2, "an API key is needed"),
        ]:
            if key is None:
                monkeypatch.delenv("BANDITD_KEY")
            else:
                monkeypatch.setenv("BANDITD_KEY", key)
            assert cli.main(cells) == status
            out, err = capsys.readouterr()
            assert says in err
            assert status or json.loads(out)["surface"]["name"] == "home"
            assert key is None or key not in out + err
        assert process.end(signal.SIGTERM) == (0, "")
