"""Surfaces over HTTP: their cells, page by page, and the graph they serve."""

from __future__ import annotations

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bandits.errors import UsageError
from bandits.tables import GraphTable
from service.graphs import GraphFiles
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
            ("cursor=", "cursor"),
            ("cursor=1:2", "cursor"),
            ("cursor=1:2:100000000", "cursor"),
            ("cursor=-1:2:3", "cursor"),
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
        for flag in ("?all", "?all=", "?all=true", "?all=1"):
            assert server.sums(query=flag) == before
        for flag in ("?all=false", "?all=0"):
            assert server.sums(query=flag) == {}
        assert server.cells(query="?all=true")["surface"]["reward"] == 1.0

    def test_uploads_that_meet_leave_one_of_them_on_disk_and_in_the_scores(self, server):
        graphs = [small_graph(tau=0.1 * (i + 1)) for i in range(8)]
        with ThreadPoolExecutor(len(graphs)) as pool:
            replies = list(pool.map(server.upload, [graph.to_bytes() for graph in graphs]))
        assert [answered(reply, 200)["graph_version"] for reply in replies] == [graph.version for graph in graphs]
        served = server.get("/v1/surfaces/default").json()
        assert server.node.graph_files.pointers() == {"default": served["graph_version"]}
        assert served["generations"] == [g.key for g in server.node.generations.of("default")]

    def test_others_are_answered_while_a_graph_is_read(self, server, monkeypatch):
        """The upload waits in its thread until another request has been answered."""
        answered_meanwhile, load = threading.Event(), GraphFiles.load

        def waiting(self, path):
            assert answered_meanwhile.wait(30)
            return load(self, path)

        monkeypatch.setattr(GraphFiles, "load", waiting)
        with ThreadPoolExecutor(1) as pool:
            upload = pool.submit(server.upload, small_graph().to_bytes())
            server.recommend(items=["a"])
            answered_meanwhile.set()
            answered(upload.result(), 200)

    def test_an_upload_bakes_only_its_surface(self, tmp_path, monkeypatch):
        with running(tmp_path / "two", "[surfaces.home]\n[surfaces.shop]\n") as server:
            server.upload(small_graph().to_bytes(), "home")
            baked, refresh = [], GraphTable.refresh

            def noting(self, *given):
                baked.append(self.table)
                refresh(self, *given)

            monkeypatch.setattr(GraphTable, "refresh", noting)
            server.upload(small_graph().to_bytes(), "shop")
            assert baked == [server.node.surfaces["shop"].graph.table]

    def test_the_number_of_cells_without_an_edge_falls_back_to_nothing(self, server):
        """A surface learns an item that its next graph of the same centroids no longer has, then has it again."""

        def shown():
            (line,) = re.findall(r"cells_without_edge\{.*\} (\S+)", server.get("/metrics").text)
            return float(line)

        server.upload(small_graph().to_bytes())
        for _ in range(20):
            for item in server.recommend(embedding=[1.0, 0.0], n=4)["items"]:
                assert item["id"] in "abcd"
        server.settle()
        server.upload(small_graph(items=["w", "x", "y", "z"]).to_bytes())
        assert shown() > 0
        server.upload(small_graph().to_bytes())
        assert shown() == 0


def test_a_corrupt_list_of_graphs_is_named_and_refuses_the_start(tmp_path):
    with running(tmp_path / "data") as server:
        server.upload(small_graph().to_bytes())
    for corrupt in (b"{", b"[]", b'{"default": 3}', b"\xff"):
        (tmp_path / "data" / "graphs" / "current.json").write_bytes(corrupt)
        with pytest.raises(UsageError, match=r"graphs/current\.json: must name"), running(tmp_path / "data"):
            pass


def test_an_upload_that_was_cut_short_is_cleared_away_by_the_next_start(tmp_path):
    left = tmp_path / "data" / "graphs" / ".incoming-abc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"PK")
    with running(tmp_path / "data"):
        assert not left.exists()
