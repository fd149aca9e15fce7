"""From a row any decision's candidates can be rebuilt, and from the logged law how they were drawn."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.graph import Graph
from bandits.sampling import Sampler
from service import cli
from tests.bandits.graphs import graph as small_graph
from tests.service.exporting import read
from tests.service.harness import running

ITEMS = [f"i{k}" for k in range(6)]
EAST = {"embedding": [1.0, 0.1]}
"""Clusters 0 and 1 of the graphs here."""


def large_graph():
    """Three clusters on the axes; rows of 60 and 40 items that share 10, and a third one of 5 others."""
    rows = [range(60), range(50, 90), range(90, 95)]
    return Graph.of(
        np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
        0.5,
        2,
        [f"g{k}" for k in range(95)],
        np.cumsum([0, *map(len, rows)]),
        np.concatenate([np.array(row, np.int32) for row in rows]),
    )


def exported(folder, file, surface="default"):
    """Rows by decision."""
    assert cli.main(["export", "--data", str(folder), "--surface", surface, "-o", str(file)]) == 0
    decisions = {}
    for row in read(file):
        decisions.setdefault(row["decision_id"], []).append(row)
    return decisions


def candidates(first, graphs):
    """The decision's candidates, from its first row and the data directory's graphs alone."""
    if first["candidates"] is not None:
        return first["candidates"]
    graph = Graph.load((graphs / f"{first['graph']}.npz").read_bytes(), 1 << 30)
    found = [graph.items[i] for i in graph.candidates(np.array(first["slots"], np.uint32))]
    return [item for item in found if item not in first["exclude"]]


def assert_rebuilt(rows, reply, graphs):
    first = rows[0]
    found = candidates(first, graphs)
    assert len(set(found)) == len(found) == reply["n_candidates"]
    assert [row["item"] for row in rows] == [item["id"] for item in reply["items"]]
    assert [row["propensity"] for row in rows] == [item["propensity"] for item in reply["items"]]
    assert {row["item"] for row in rows} <= set(found)
    for row in rows[1:]:
        once = ("candidates", "graph", "exclude", "distribution", "item_features")
        assert {row[name] for name in once} == {None}
    return found


def teach(server, items, **request):
    for k, item in enumerate(items):
        for _ in range(10):
            server.reward(server.recommend(items=[item], **request), k / len(items))
    server.settle()


def assert_is_the_law(rows, found, sampler=None):
    """With all candidates served, their scores are all recorded, and the sampler gives the distribution by them."""
    score = {row["item"]: row["score"] for row in rows}
    assert set(score) == set(found)
    law = (sampler or Sampler()).first_position(np.array([score[item] for item in found], np.float32))
    assert rows[0]["distribution"] == pytest.approx(law.tolist(), abs=1e-9)
    assert rows[0]["propensity"] == pytest.approx(law[found.index(rows[0]["item"])], abs=1e-9)
    assert max(law) > 1.01 * min(law)


@pytest.mark.parametrize("exclude", [[], ["i2", "other"]])
def test_of_explicit_items(tmp_path, exclude):
    with running(tmp_path / "data") as server:
        teach(server, ITEMS, features={"age": 0.5})
        reply = server.recommend(items=ITEMS, exclude=exclude, user="u", n=6, features={"age": 0.5})
        server.settle()
        rows = exported(tmp_path / "data", tmp_path / "rows.parquet")[reply["decision_id"]]
    found = assert_rebuilt(rows, reply, tmp_path / "data" / "graphs")
    assert found == [item for item in ITEMS if item not in exclude]
    assert (rows[0]["graph"], rows[0]["exclude"], rows[0]["features"]) == (None, exclude, {"age": 0.5})
    assert_is_the_law(rows, found)


def test_of_more_explicit_items_than_have_their_law_logged(tmp_path):
    items = [f"x{k}" for k in range(65)]
    with running(tmp_path / "data") as server:
        reply = server.recommend(items=items, exclude=["x0"], n=3)
        more = server.recommend(items=items, n=3)
        server.settle()
        decisions = exported(tmp_path / "data", tmp_path / "rows.jsonl")
    assert assert_rebuilt(decisions[reply["decision_id"]], reply, None) == items[1:]
    assert assert_rebuilt(decisions[more["decision_id"]], more, None) == items
    assert decisions[more["decision_id"]][0]["distribution"] is None


@pytest.mark.parametrize(("exclude", "expected"), [([], ["a", "c"]), (["c", "nowhere"], ["a"])])
def test_of_a_small_graph(tmp_path, exclude, expected):
    with running(tmp_path / "data") as server:
        assert server.upload(small_graph().to_bytes()).status_code == 200
        teach(server, ["a", "c"], **EAST)
        reply = server.recommend(exclude=exclude, **EAST)
        named = server.recommend(items=["c", "d", "new"], n=3, **EAST)
        server.settle()
        decisions = exported(tmp_path / "data", tmp_path / "rows.parquet")
    graphs = tmp_path / "data" / "graphs"
    rows = decisions[reply["decision_id"]]
    assert assert_rebuilt(rows, reply, graphs) == expected
    assert rows[0]["graph"] == small_graph().version
    graph = Graph.load((graphs / f"{rows[0]['graph']}.npz").read_bytes(), 1 << 30)
    again = [graph.items[i] for i in graph.candidates(np.array(rows[0]["slots"], np.uint32))]
    assert [item for item in again if item not in exclude] == expected
    if not exclude:
        assert_is_the_law(rows, expected)
    rows = decisions[named["decision_id"]]
    assert_is_the_law(rows, assert_rebuilt(rows, named, graphs))


def test_of_a_large_graph_by_slots_and_exclude_also_after_another_took_its_place(tmp_path):
    """Clusters 0 and 1 have 90 items, of which one is excluded."""
    graph = large_graph()
    with running(tmp_path / "data") as server:
        assert server.upload(graph.to_bytes()).status_code == 200
        reply = server.recommend(exclude=["g55", "g94"], n=5, **EAST)
        assert server.upload(small_graph().to_bytes()).status_code == 200
        server.settle()
        rows = exported(tmp_path / "data", tmp_path / "rows.jsonl.zst")[reply["decision_id"]]
    found = assert_rebuilt(rows, reply, tmp_path / "data" / "graphs")
    assert found == [f"g{k}" for k in range(90) if k != 55]
    assert (rows[0]["candidates"], rows[0]["distribution"]) == (None, None)
    assert (rows[0]["graph"], rows[0]["exclude"]) == (graph.version, ["g55", "g94"])


def test_scores_are_in_reward_units_and_the_law_is_of_scaled_ones(tmp_path):
    """Rewards of 0..4 have scale 4: temperatures are of a quarter of the score."""
    toml = "[surfaces.home]\n[[surfaces.home.rewards]]\nrange = [0.0, 4.0]\n"
    with running(tmp_path / "data", toml) as server:
        teach(server, ITEMS)
        reply = server.recommend(items=ITEMS, n=6)
        server.settle()
        rows = exported(tmp_path / "data", tmp_path / "rows.parquet", "home")[reply["decision_id"]]
    assert_is_the_law(rows, ITEMS, Sampler(temperature=4 * Sampler().temperature))
