"""Surfaces over HTTP: their cells, page by page, and the graph they serve."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.bandits.graphs import graph as small_graph
from tests.bandits.graphs import parts
from tests.service.harness import answered, refused, running


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Four items of surface home, each served once in the same context and rewarded with 1."""
    with running(tmp_path_factory.mktemp("cells") / "data", "[surfaces.home]\n[surfaces.shop]\n") as server:
        features = {"age": 0.5, "country=IN": 1.0, "hour": -2.0}
        for item in "abcd":
            server.reward(server.recommend(items=[item], features=features), 1.0)
        server.settle()
        yield server


class TestCells:
    def test_cells_are_in_reward_units_with_their_names(self, learned):
        found = learned.cells("home")
        assert found["surface"] == {"name": "home", "impressions": 4, "reward": 4.0}
        assert found["cursor"] is None
        assert [(p["partition"], p["next"] == p["end"]) for p in found["partitions"]] == [(p, True) for p in range(8)]
        cells = {(cell["arm"], cell["feature"]): cell for cell in found["cells"]}
        assert len(cells) == 12
        hour = cells["c", "hour"]
        assert (hour["weight_sq_sum"], hour["weight_sum"], hour["reward_sum"]) == (4.0, -2.0, -2.0)
        assert learned.cells("shop")["cells"] == []

    @pytest.mark.parametrize("limit", [1, 5, 12, 100_000])
    def test_pages_make_up_the_whole(self, learned, limit):
        whole = learned.cells("home")["cells"]
        pages, cursor = [], ""
        while cursor is not None:
            page = learned.cells("home", f"?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
            assert 0 < len(page["cells"]) <= limit
            pages += page["cells"]
            cursor = page["cursor"]
        assert pages == whole

    @pytest.mark.parametrize(
        ("query", "path"),
        [
            ("limit=0", "limit"),
            ("limit=100001", "limit"),
            ("limit=many", "limit"),
            ("cursor=x", "cursor"),
            ("all=perhaps", "all"),
        ],
    )
    def test_a_wrong_query_is_named(self, learned, query, path):
        refused(learned.get(f"/v1/surfaces/home/cells?{query}"), 422, path)


class TestGraph:
    @pytest.fixture
    def server(self, tmp_path):
        with running(tmp_path / "data") as server:
            yield server

    def test_a_good_graph_is_served_and_described(self, server):
        graph = small_graph()
        assert answered(server.upload(graph.to_bytes()), 200) == {
            "graph_version": graph.version,
            "generation": server.get("/v1/surfaces/default").json()["generations"][1],
            "clusters": 3,
            "items": 4,
            "edges": 5,
        }
        assert server.get("/v1/surfaces/default").json()["graph_version"] == graph.version
        decision = server.recommend(embedding=[1.0, 0.0])
        assert decision["graph_version"] == graph.version

    def test_a_bad_graph_is_refused_and_the_previous_stays(self, server):
        good = small_graph()
        server.upload(good.to_bytes())
        whole = small_graph(items=["a", "b", "c", "e"]).to_bytes()
        for bad in (b"", b"PK", whole[: len(whole) // 2], b"\0" * 1000):
            refused(server.upload(bad), 422, "$")
        assert server.get("/v1/surfaces/default").json()["graph_version"] == good.version
        assert server.recommend(embedding=[1.0, 0.0])["graph_version"] == good.version
        kept = {path.name for path in (server.node.data.path / "graphs").iterdir()}
        assert kept == {f"{good.version}.npz", "current.json"}

    def test_a_graph_whose_content_is_wrong_is_refused_with_the_rule(self, server):
        file = io.BytesIO()
        members = {k: np.asarray(v) for k, v in parts(row_start=np.array([0, 2, 2, 9], np.int64)).items()}
        np.savez(file, **members)
        problem = refused(server.upload(file.getvalue()), 422, "$")
        assert "row_start[3] must be 5" in problem["detail"]
        assert server.get("/v1/surfaces/default").json()["graph_version"] is None

    def test_all_shows_generations_that_are_no_longer_served(self, server):
        server.upload(small_graph().to_bytes())
        server.reward(server.recommend(embedding=[1.0, 0.0]), 1.0)
        server.settle()
        before = server.sums()
        server.upload(small_graph(tau=0.4).to_bytes())
        assert before
        assert server.sums() == {}
        assert server.sums(query="?all=true") == before
        assert server.cells(query="?all=true")["surface"]["reward"] == 1.0
