"""Uploads that fail beside the generation that is served: nothing of it is retired."""

from __future__ import annotations

import json

import pytest

from service import rewards as rewards_file
from service.graphs import GraphFiles
from service.settings.surface import RewardSettings
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import answered, running
from tests.service.test_retirement import keep_house, tables_of, up_to


@pytest.mark.parametrize("full", ["keep", "disk"])
def test_graphs_that_cannot_be_kept_do_not_retire_the_one_that_is_served(tmp_path, monkeypatch, full):
    """Three uploads into a full disk; one old generation is kept, and that is not one of those."""
    data = tmp_path / "data"
    graphs = [small_graph(tau=0.1 * (i + 1)) for i in range(6)]

    def no_room(*given):
        raise OSError(28, "No space left on device")

    with running(data, up_to(1.0, kept=1)) as server:
        for graph in graphs[:2]:
            answered(server.upload(graph.to_bytes()), 200)
        old, served = tables_of(server), server.recommend(embedding=[1.0, 0.0])
        for graph in graphs[2:5]:
            monkeypatch.setattr("service.content_files.replace_file", no_room)
            if full == "disk":
                keep, replace = GraphFiles.keep, rewards_file.replace_file

                def keep_without_room(self, *given, keep=keep):
                    monkeypatch.setattr(rewards_file, "replace_file", no_room)
                    keep(self, *given)

                monkeypatch.setattr(GraphFiles, "keep", keep_without_room)
            assert server.upload(graph.to_bytes()).status_code >= 500
            if full == "disk":
                monkeypatch.setattr(GraphFiles, "keep", keep)
                monkeypatch.setattr(rewards_file, "replace_file", replace)
            keep_house(server)
            assert tables_of(server) == old
            server.reward(served, 1.0, served["items"][0]["id"])
        monkeypatch.undo()
    with running(data, up_to(1.0, kept=1)) as server:
        assert tables_of(server) == old
        server.reward(served, 1.0, served["items"][1]["id"])
        answered(server.upload(graphs[5].to_bytes()), 200)
        server.reward(served, 1.0, served["items"][-1]["id"])
        entries = json.loads((data / "generations.json").read_text())
        assert [entry["current"] for entry in entries if "retired" not in entry].count(True) == 2


def test_a_generation_that_is_prepared_is_known_and_not_retired_until_it_is_taken_back(tmp_path):
    path, now = tmp_path / "generations.json", iter(range(100))
    generations = rewards_file.Generations(path, lambda: next(now))
    rewards = rewards_file.Rewards([RewardSettings("reward")])
    made = [rewards_file.Generation("s", "diag_linucb", f"g{i}", i, 10 + i, rewards) for i in range(4)]

    def keys():
        return [{g.key for g in one.of("s", every=True)} for one in (generations, rewards_file.Generations(path))]

    for one in made[:3]:
        generations.use("s", [one])
    assert generations.retire("s", 1, lambda found: None) == [made[0]]
    for new, again in ((made[3], {"g1", "g2"}), (made[0], {"g1", "g2"}), (made[1], {"g1", "g2"})):
        generations.prepare(new)
        assert keys() == [{"g1", "g2", new.key}] * 2
        assert generations.retire("s", 1, lambda found: None) == []
        generations.take_back(new)
        assert keys() == [again] * 2
    assert generations.known(10).key == rewards_file.Generations(path).known(10).key == "g0"
    generations.prepare(made[0])
    crashed = rewards_file.Generations(path)
    crashed.use("s", [made[2]])
    assert {g.key for g in crashed.of("s", every=True)} == {"g1", "g2"}
    generations.use("s", [made[0]])
    assert keys() == [{"g0", "g1", "g2"}] * 2
    assert generations.retire("s", 1, lambda found: None) == [made[1]]
