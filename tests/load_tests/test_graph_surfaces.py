"""A surface with a graph served over HTTP, exported, and judged by its log and its graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandits.simulation import World, clusters, parse_policy, simulate
from bandits.simulation.encoding import Encoder
from bandits.simulation.policy import Request
from offline_eval.actions import Actions
from offline_eval.learners import learner
from offline_eval.replay.edges import edges_of
from service import cli
from tests.load_tests.test_replayed import level, replayed, served
from tests.offline_eval.logs import chunks


def small_world() -> World:
    """300 users; about 130 of 300 items are possible for each."""
    return clusters(0, n_users=300)


def graph_file(path: Path, world: World) -> Path:
    """Of the data directory."""
    assert world.graph is not None
    return path / "data" / "graphs" / f"{world.graph.version}.npz"


def said(capsys: pytest.CaptureFixture[str], *command: object, status: int = 0) -> dict[str, Any]:
    """The JSON document of a command."""
    capsys.readouterr()
    assert cli.main([*map(str, command), "--json"]) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def uniform_value(world: World) -> float:
    """Of the uniform policy: users come alike, and each gets any of its candidates alike."""
    encoder, users = Encoder(world), world.users(np.random.default_rng(0), 3_000)
    truth = world.mean_reward(users)
    possible = (encoder.context(u, users.embedding[i])[2] for i, u in enumerate(users.index.tolist()))
    return float(np.mean([truth[i, here].mean() for i, here in enumerate(possible)]))


def assert_sound(capsys: pytest.CaptureFixture[str], log: Path, graph: Path) -> None:
    checks = said(capsys, "validate", log, "--graph", graph)["checks"]
    assert [one for one in checks if not one["ok"]] == []
    (weight,) = [one["detail"] for one in checks if one["name"] == "mean weight"]
    assert "says nothing" not in weight
    (unknown,) = [one for one in said(capsys, "validate", log)["checks"] if one["name"] == "candidates"]
    assert graph.stem in unknown["detail"]
    assert "--graph" in unknown["detail"]


def test_a_uniform_surface_is_judged_with_its_graph(tmp_path, capsys):
    """12,000 requests of about 130 candidates, so that some 90 match; within 4 standard errors of the truth."""
    world = small_world()
    log, graph = served(tmp_path, world, 12_000, 500, {"POLICY": "uniform"}), graph_file(tmp_path, world)
    assert_sound(capsys, log, graph)
    found = said(capsys, "evaluate", log, "--policy", "uniform", "--graph", graph.parent)
    assert found["diagnostics"]["mean_weight"] == pytest.approx(1.0, abs=1e-12)
    low, high = found["estimates"][0]["interval"]
    assert abs(found["estimates"][0]["value"] - uniform_value(world)) < 4 * (high - low) / (2 * 1.96)
    blamed = said(capsys, "evaluate", log, "--policy", "uniform", status=3)["findings"]
    assert [one["name"] for one in blamed if one["level"] == "refuse"] == ["candidates"]
    again, _ = replayed(capsys, log, "diag_linucb", "--graph", str(graph))
    assert again["method"] == "rejection replay"
    assert abs(again["matched"] - 12_000 / candidates_of(log, graph)) < 4 * np.sqrt(12_000 / candidates_of(log, graph))
    encoder = Encoder(world)
    lives = [
        simulate(
            world,
            parse_policy("diag_linucb", len(world.item_ids), encoder.n_slots, encoder.edges),
            again["matched"],
            seed,
            encoder=encoder,
        ).reward
        for seed in range(10)
    ]
    low, high = again["interval"]
    assert abs(again["value"] - np.mean(lives)) < 4 * np.hypot((high - low) / (2 * 1.96), np.std(lives, ddof=1))


def candidates_of(log: Path, graph: Path) -> float:
    """Harmonic mean of how many each row has."""
    sizes = np.concatenate([np.diff(one.candidates.start) for one in chunks(log, graphs={graph.stem: graph})])
    return float(1.0 / np.mean(1.0 / sizes))


def test_a_learning_surface_tells_the_value_of_the_uniform_policy(tmp_path, capsys):
    """Half of its choices are uniform, so that no weight exceeds 2."""
    world = small_world()
    settings = {"SAMPLER__TEMPERATURE": "0.1", "SAMPLER__EPSILON": "0.5"}
    log, graph = served(tmp_path, world, 4_000, 100, settings), graph_file(tmp_path, world)
    assert_sound(capsys, log, graph)
    found = said(capsys, "evaluate", log, "--policy", "uniform", "--graph", graph)
    assert found["verdict"].startswith("supported")
    assert found["diagnostics"]["max_weight"] <= 2.0 + 1e-9
    for one in found["estimates"]:
        low, high = one["interval"]
        assert abs(one["value"] - uniform_value(world)) < 4 * (high - low) / (2 * 1.96)
    again, _ = replayed(capsys, log, "diag_linucb:temperature=.1,epsilon=.5", "--graph", str(graph))
    assert again["method"] == "dr replay"
    assert level(again, "candidates") == "ok"
    assert level(again, "mean weight") == "ok"
    assert any("joined to actions by the edges of its graph" in note for note in again["notes"])


def test_a_learner_with_the_graph_s_edges_has_the_law_that_the_service_logged(tmp_path):
    """Every reward was learned before the next request. At most 32 candidates, so that their law is logged."""
    world = clusters(0, n_users=50, n_items=60, n_clusters=16, per_cluster=8, top_k=4)
    log, graph = served(tmp_path, world, 150, 1, {"DIAG_LINUCB__VARIANT": "published"}), graph_file(tmp_path, world)
    actions = Actions.of(world.item_ids)
    edges = edges_of(graph, graph.stem, actions, np.arange(16))
    player = learner("diag_linucb:variant=published", 60, 16, 1.0, edges)
    assert 0.1 < edges.mean() < 0.2
    checked = 0
    for chunk in chunks(log, slots=True):
        ragged, slots = chunk.candidates, chunk.slots
        assert ragged is not None
        assert slots is not None
        assert ragged.value is not None
        assert slots.value is not None
        arm, number = actions.columns(ragged.names), np.array(slots.names, np.intp)
        served_arm = actions.columns(chunk.action.names)[chunk.action.code]
        for i in range(len(chunk)):
            here, there = slice(*slots.start[i : i + 2]), slice(*ragged.start[i : i + 2])
            request = Request(0, number[slots.code[here]], slots.value[here], arm[ragged.code[there]])
            np.testing.assert_allclose(player.probabilities(request), ragged.value[there], rtol=2e-4, atol=1e-6)
            player.learn(request, int(served_arm[i]), chunk.reward[i])
            checked += 1
    assert checked == 150
