"""The HTTP contract: every fault has its status, its document and its path, and leaves no trace."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest

from service.node import Node
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import HOT, JSON, SURFACES, Server, answered, refused, running, settings_of


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all requests that are refused; it serves two surfaces."""
    with running(tmp_path_factory.mktemp("http") / "data", SURFACES) as server:
        yield server


@pytest.fixture
def untouched(server):
    """A refused request leaves no trace in log or state."""
    before = len(server.frames()), server.sums("home"), server.sums("shop")
    yield
    assert (len(server.frames()), server.sums("home"), server.sums("shop")) == before


def send(server, path, body):
    return server.request("POST", path, content=body, headers=JSON)


def reward(item="a", value=1.0, **more):
    return {"kind": "reward", "item": item, "value": value, **more}


@pytest.mark.usefixtures("untouched")
class TestBodies:
    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ('{"n": 1e999}', "n"),
            ('{"features": {"country=IN": 1e999}, "items": ["a"]}', 'features["country=IN"]'),
            ('{"features": {"country=IN": "yes"}, "items": ["a"]}', 'features["country=IN"]'),
            ('{"features": {"country=IN": 16.5}, "items": ["a"]}', 'features["country=IN"]'),
            ('{"features": {"a": 1, "b": true}, "items": ["a"]}', 'features["b"]'),
            ('{"features": {"a": ' + "9" * 400 + '}, "items": ["a"]}', 'features["a"]'),
            ('{"features": {"a": ' + "9" * 5000 + '}, "items": ["a"]}', 'features["a"]'),
            ('{"embedding": [0.5, -1e999], "items": ["a"]}', "embedding[1]"),
            ('{"embedding": [0.5, "x"], "items": ["a"]}', "embedding[1]"),
            ('{"embedding": [0.5, 17], "items": ["a"]}', "embedding[1]"),
            ('{"embedding": [1], "features": {}, "items": ["a"]}', "features"),
            ('{"items": ["a", ""]}', "items[1]"),
            ('{"items": ["a", "b", "a"]}', "items[2]"),
            ('{"items": ["a", "tab\\t"]}', "items[1]"),
            ('{"items": ["' + "x" * 129 + '"]}', "items[0]"),
            ('{"items": [{"id": "a", "colour": 1}]}', "items[0].colour"),
            ('{"items": [{"features": {}}]}', "items[0].id"),
            ('{"items": "a"}', "items"),
            ('{"items": ["a"], "exclude": ["b", 3]}', "exclude[1]"),
            ('{"items": ["a"], "exclude": ["b", "\\u200b"]}', "exclude[1]"),
            ('{"items": ["a"], "user": ""}', "user"),
            ('{"items": ["a"], "user": "a\\nb"}', "user"),
            ('{"items": ["a"], "user": 7}', "user"),
            ('{"items": ["a"], "n": 0}', "n"),
            ('{"items": ["a"], "n": 101}', "n"),
            ('{"items": ["a"], "n": 2.5}', "n"),
            ('{"items": ["a"], "deferred": "yes"}', "deferred"),
            ('{"items": ["a"], "colour": 1}', "colour"),
            ("[]", "$"),
            ("null", "$"),
        ],
    )
    def test_what_is_wrong_is_named(self, server, body, path):
        refused(send(server, "/v1/recommend", body), 422, path)

    def test_too_many_items_exclusions_features_and_components(self, server):
        many = [f"i{k}" for k in range(1001)]
        for body, path in [
            ({"items": many}, "items"),
            ({"items": ["a"], "exclude": many}, "exclude"),
            ({"items": ["a"], "features": {name: 1.0 for name in many[:257]}}, "features"),
            ({"items": ["a"], "embedding": [1.0] * 129}, "embedding"),
        ]:
            refused(server.post("/v1/recommend", body), 422, path)
        refused(server.post("/v1/recommend/batch", {"requests": [{"items": ["a"]}] * 1025}), 422, "requests")

    @pytest.mark.parametrize("path", HOT)
    @pytest.mark.parametrize(
        ("body", "byte"),
        [
            (b"", 0),
            (b'{"items": ["a"', 14),
            (b'{"n": NaN}', 6),
            (b'{"n": -Infinity}', 6),
            (b'{"n": 1} {}', 9),
            (b'{"user": "\xff"}', 10),
            (b'{"user": "\xff", "other": 1}', 10),
            (b"\xef\xbb\xbf{}", 0),
            (b'{"n": 01}', None),
            (b"{'n': 1}", 1),
        ],
    )
    def test_what_is_not_json_is_told_with_its_byte(self, server, path, body, byte):
        problem = refused(send(server, path, body), 422, "$")
        (found,) = re.findall(r"byte (\d+)", problem["errors"][0]["message"])
        assert byte is None or abs(int(found) - byte) <= 1

    @pytest.mark.parametrize("path", HOT)
    @pytest.mark.parametrize(
        "body",
        [
            b"[" * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
            b'{"features": {"a": ' + b"[" * 3000 + b"]" * 3000 + b"}}",
        ],
    )
    def test_what_is_nested_too_deep_is_not_json(self, server, path, body):
        problem = refused(send(server, path, body), 422, "$")
        assert re.search(r"byte \d+", problem["errors"][0]["message"])

    def test_any_depth_is_answered(self, server):
        """Around the interpreter's own bound too, wherever that lies."""
        for depth in range(20, 1100, 13):
            for body in (b'{"x": ' + b"[" * depth + b"1e999" + b"]" * depth + b"}", b'{"x": ' + b'{"a":' * depth):
                assert send(server, "/v1/recommend", body).status_code == 422


@pytest.mark.usefixtures("untouched")
class TestRoutes:
    @pytest.mark.parametrize("path", HOT)
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
    def test_another_method_on_a_hot_route(self, server, path, method):
        response = server.request(method, path)
        assert response.headers["allow"] == "POST"
        if method == "HEAD":
            assert response.status_code == 405
        else:
            refused(response, 405)

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/livez", "GET"),
            ("DELETE", "/v1/surfaces", "GET"),
            ("POST", "/v1/surfaces/home", "GET"),
            ("GET", "/v1/surfaces/home/graph", "PUT"),
            ("PUT", "/v1/surfaces/home/cells", "GET"),
        ],
    )
    def test_another_method_on_any_other_route(self, server, method, path, allowed):
        response = server.request(method, path)
        refused(response, 405)
        assert response.headers["allow"] == allowed

    def test_an_unknown_route(self, server):
        for path in ("/", "/v1", "/v1/recommend/", "/v1/recommend/other", "/v2/recommend"):
            if path != "/":
                refused(server.get(path), 404)

    def test_an_unknown_surface(self, server):
        for response in (
            server.post("/v1/recommend", {"surface": "nope", "items": ["a"]}),
            server.post("/v1/feedback", {"receipt": "x", "surface": "nope", "events": []}),
            server.get("/v1/surfaces/nope"),
            server.get("/v1/surfaces/nope/cells"),
            server.upload(small_graph().to_bytes(), "nope"),
        ):
            assert "nope" in refused(response, 404)["detail"]

    @pytest.mark.parametrize("path", HOT)
    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
    def test_another_content_type(self, server, path, kind):
        refused(server.request("POST", path, content=b"{}", headers={"content-type": kind}), 415)

    @pytest.mark.parametrize("path", HOT)
    def test_no_content_type(self, server, path):
        """A page in a browser can send such a body unasked."""
        assert "got none" in refused(server.request("POST", path, content=b"{}"), 415)["detail"]
        refused(server.request("POST", path), 422, "$")

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v1/recommend", 405),
            ("GET", "/v1/nowhere", 404),
            ("DELETE", "/livez", 405),
            ("GET", "/v1/surfaces/nope", 404),
            ("GET", "/v1/surfaces/home/cells?limit=0", 422),
        ],
    )
    def test_every_refusal_is_counted(self, server, method, path, status):
        def counted():
            name = "banditd_refused_total"
            return server.node.metrics.registry.get_sample_value(name, {"status": str(status)}) or 0.0

        before = counted()
        assert server.request(method, path).status_code == status
        assert counted() == before + 1

    def test_a_graph_has_a_content_type_of_its_own(self, server):
        refused(server.request("PUT", "/v1/surfaces/home/graph", content=b"{}", headers=JSON), 415)

    @pytest.mark.parametrize(("path", "mib"), [("/v1/recommend", 1), ("/v1/feedback", 16), ("/v1/recommend/batch", 16)])
    def test_a_body_over_the_limit(self, server, path, mib):
        """With its length announced, and without."""
        body = b" " * ((mib << 20) + 1)
        refused(send(server, path, body), 413)

        async def blocks():
            for _ in range(mib + 1):
                yield b" " * (1 << 20)

        refused(server.request("POST", path, content=blocks(), headers=JSON), 413)
        refused(send(server, path, body[:-1]), 422, "$")


class TestWhatIsAccepted:
    def test_null_is_as_absent(self, server):
        names = ("surface", "user", "event_id", "embedding", "features", "exclude", "n", "deferred", "explain")
        answered(server.post("/v1/recommend", {"items": [], **dict.fromkeys(names)}), 200)
        refused(server.post("/v1/recommend", {"items": None}), 422, "items")
        refused(server.post("/v1/feedback", {"receipt": None, "batch": None, "events": []}), 422, "receipt")

    @pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
    def test_parameters_and_case_of_the_content_type_do_not_matter(self, server, kind):
        sent = server.request("POST", "/v1/recommend", content=b'{"items": []}', headers={"content-type": kind})
        assert sent.status_code == 200

    def test_a_body_in_pieces_is_one_body(self, server):
        async def pieces():
            for piece in (b'{"ite', b"", b'ms": []', b"}"):
                yield piece

        assert server.request("POST", "/v1/recommend", content=pieces(), headers=JSON).status_code == 200


class TestOperations:
    def test_liveness_and_readiness(self, server):
        assert answered(server.get("/livez"), 200) == {"status": "ok"}
        assert answered(server.get("/readyz"), 200)["status"] == "ready"

    def test_before_it_is_ready_only_liveness_answers(self, tmp_path):
        async def ask():
            transport = httpx.ASGITransport(app=Server(Node(settings_of(tmp_path / "data"))).app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                paths = ["/readyz", "/metrics", "/v1/surfaces", "/v1/surfaces/default"]
                answers = [await client.get("/livez"), *[await client.get(path) for path in paths]]
                return answers, [await client.post(path, json={}) for path in HOT]

        (live, ready, *others), hot = asyncio.run(ask())
        assert live.status_code == 200
        assert (ready.status_code, ready.json()["status"]) == (503, "starting")
        for response in others + hot:
            refused(response, 503)
            assert response.headers["retry-after"] == "1"

    def test_metrics_are_text_and_name_what_the_contract_names(self, server):
        server.recommend(surface="home", items=["a"])
        response = server.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        for line in (
            'banditd_decisions_total{mode="explore",surface="home"}',
            "banditd_events_total",
            "banditd_request_seconds_bucket",
            "banditd_feedback_to_score_seconds_count",
            "banditd_params_age_seconds",
            "banditd_decisions_lost_total 0.0",
            'banditd_log_lag{partition="7"}',
            "banditd_nolearn_total",
        ):
            assert line in response.text

    def test_feedback_is_timed_until_it_is_in_the_scores(self, tmp_path):
        with running(tmp_path / "data") as server:
            server.reward(server.recommend(items=["a"]), 1.0)
            server.settle()
            server.settle()
            while "feedback_to_score_seconds_count 1.0" not in server.get("/metrics").text:
                pass
            assert 'banditd_events_total{kind="reward"} 1.0' in server.get("/metrics").text

    def test_the_hot_routes_stand_in_the_openapi_document(self, server):
        document = answered(server.get("/openapi.json"), 200)
        assert {*HOT, "/livez", "/readyz", "/metrics", "/v1/surfaces", "/v1/surfaces/{surface}/graph"} <= set(
            document["paths"]
        )
        schemas = document["components"]["schemas"]
        for path, status in zip(HOT, ("200", "200", "202"), strict=True):
            operation = document["paths"][path]["post"]
            assert {"422", "503", status} <= set(operation["responses"])
            for content in (operation["requestBody"], operation["responses"][status]):
                name = content["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert schemas[name]["properties"]
        referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
        assert referred <= set(schemas)

    def test_surfaces_say_what_they_serve(self, server):
        home, shop = answered(server.get("/v1/surfaces"), 200)["surfaces"]
        assert (home["name"], shop["name"]) == ("home", "shop")
        assert home == server.get("/v1/surfaces/home").json()
        assert (home["policy"], home["variant"], home["graph_version"]) == ("diag_linucb", "centred", None)
        assert [one["name"] for one in shop["rewards"]] == ["click", "stars", "seconds"]
