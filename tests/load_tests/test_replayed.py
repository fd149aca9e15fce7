"""A world served over HTTP, exported, and replayed: what replay says beside what the policy earns when it plays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bandits.simulation import World, clusters, digits, parse_policy, simulate
from bandits.simulation.encoding import Encoder
from bandits.simulation.policy import Request
from load_tests.client import Client
from load_tests.server import serve
from load_tests.traffic import Traffic, play
from offline_eval.learners import learner
from service import cli
from tests.offline_eval.logs import chunks

SURFACE = "BANDITD_SURFACES__DEFAULT__"


def served(path: Path, world: World, n: int, batch: int, settings: Mapping[str, str]) -> Path:
    """The export of n requests, asked `batch` at a time, whose rewards were learned before the next were asked."""
    env = {f"{SURFACE}{name}": value for name, value in settings.items()} | {"BANDITD_SERVER__REFRESH_MS": "2"}
    with serve(path / "data", env=env) as server, Client(server.url) as client:
        traffic = Traffic(client, world, seed=5)
        if batch > 1:
            play(traffic, n, delay=batch, batch=batch)
        else:
            for _ in range(n):
                traffic.post(traffic.ask())
                traffic.wait_until_learned()
    log = path / "log.parquet"
    assert cli.main(["export", "--data", str(path / "data"), "--surface", "default", "-o", str(log)]) == 0
    return log


def replayed(
    capsys: pytest.CaptureFixture[str], log: Path, policy: str, *more: str, status: int = 0
) -> tuple[dict[str, Any], str]:
    """What banditd replay prints as JSON, and on stderr."""
    capsys.readouterr()
    assert cli.main(["replay", str(log), "--policy", policy, "--json", *more]) == status
    out, err = capsys.readouterr()
    found: dict[str, Any] = json.loads(out)
    return found, err


def lives(world: World, rounds: int, seeds: Sequence[int]) -> list[float]:
    """Mean reward of so many rounds of the default policy, in process, by seed."""
    encoder = Encoder(world)
    items, slots = len(world.item_ids), encoder.n_slots
    return [
        simulate(world, parse_policy("diag_linucb", items, slots, None), rounds, seed, encoder=encoder).reward
        for seed in seeds
    ]


def level(found: dict[str, Any], name: str) -> str:
    """Of the finding of that name."""
    (only,) = [one["level"] for one in found["diagnostics"]["findings"] if one["name"] == name]
    return str(only)


def test_a_uniform_surface_replayed_earns_what_the_learner_earns(tmp_path, capsys):
    """Digits, 6,000 requests, about 600 of which match: .77 where ten lives of as many rounds have .78 and deviate by
    .03; within 4 standard errors of the replay and a life together."""
    world = digits(0)
    log = served(tmp_path, world, 6_000, 250, {"POLICY": "uniform"})
    found, _ = replayed(capsys, log, "diag_linucb")
    assert (found["n"], found["method"], found["left_out"]) == (6_000, "rejection replay", {})
    assert abs(found["matched"] - 600) < 4 * np.sqrt(6_000 * 0.09)
    assert any("contexts are the 64 slots that the log's own learner saw" in note for note in found["notes"])
    truth = lives(world, found["matched"], range(10))
    low, high = found["interval"]
    error = np.hypot((high - low) / (2 * 1.96), np.std(truth, ddof=1))
    assert abs(found["value"] - np.mean(truth)) < 4 * error
    assert error < 0.05
    assert found["baseline"]["value"] < 0.2
    uniform, _ = replayed(capsys, log, "uniform")
    assert uniform["value"] == pytest.approx(uniform["baseline"]["value"], abs=1e-12)


def test_a_surface_that_explores_much_is_replayed_doubly_robust(tmp_path, capsys):
    """Temperature .1 and epsilon .5 log .47; the default policy lives at .84 for as long as the history was. Within 4
    standard errors and the .07 that a history cut off by 5 % costs."""
    world = digits(0)
    settings = {"SAMPLER__TEMPERATURE": "0.1", "SAMPLER__EPSILON": "0.5"}
    found, _ = replayed(capsys, served(tmp_path, world, 3_000, 25, settings), "diag_linucb")
    assert (found["n"], found["method"]) == (3_000, "dr replay")
    truth = lives(world, found["matched"], range(10))
    low, high = found["interval"]
    error = np.hypot((high - low) / (2 * 1.96), np.std(truth, ddof=1))
    assert abs(found["value"] - np.mean(truth)) < 4 * error + 0.07
    assert found["baseline"]["interval"][1] < 0.6 < 0.7 < low


def test_a_surface_that_hardly_explores_gives_a_value_near_the_truth_or_a_reservation(tmp_path, capsys):
    """The defaults: another path of the same policy prefers items that the log rarely serves, and cannot learn of them.
    Users in exploit mode are left out, and said so."""
    world = digits(0)
    log = served(tmp_path, world, 2_500, 25, {"EXPLORE_SHARE": "0.8"})
    found, err = replayed(capsys, log, "diag_linucb", "--min-ess", "0", status=_status(capsys, log))
    left = found["left_out"]["exploit mode"]
    assert found["n"] + left == 2_500
    assert 0 < left < 1_250
    assert err.splitlines()[0] == f"{left:,} rows left out: exploit mode"
    if found["verdict"].startswith("supported:"):
        assert abs(found["value"] - np.mean(lives(world, found["matched"], range(3)))) < 0.1
    else:
        assert found["reasons"]


def _status(capsys: pytest.CaptureFixture[str], log: Path) -> int:
    """Of a replay; either is sound here."""
    capsys.readouterr()
    status = cli.main(["replay", str(log), "--policy", "diag_linucb", "--min-ess", "0", "--json"])
    assert status in (0, 3)
    return status


def test_candidates_that_a_graph_alone_knows_are_a_refusal(tmp_path, capsys):
    log = served(tmp_path, clusters(0, n_users=300), 500, 250, {"POLICY": "uniform"})
    found, _ = replayed(capsys, log, "diag_linucb", "--min-ess", "0", status=3)
    assert found["value"] is None
    assert level(found, "candidates") == "refuse"
    assert any(reason.startswith("candidates: ") for reason in found["reasons"])


def test_a_learner_given_all_rows_has_the_law_that_the_service_logged(tmp_path):
    """Every reward was learned before the next request: slots, weights, sums, scores and sampler are the service's.
    Not centred, for there the service lets the centre lag by a share."""
    log = served(tmp_path, digits(0), 150, 1, {"DIAG_LINUCB__VARIANT": "published"})
    player = learner("diag_linucb:variant=published", 10, 64, 1.0)
    checked = 0
    for chunk in chunks(log, slots=True):
        ragged, slots = chunk.candidates, chunk.slots
        assert ragged is not None
        assert slots is not None
        assert ragged.value is not None
        assert slots.value is not None
        arm, number = np.array(ragged.names, np.intp), np.array(slots.names, np.intp)
        for i in range(len(chunk)):
            here, there = slice(*slots.start[i : i + 2]), slice(*ragged.start[i : i + 2])
            request = Request(0, number[slots.code[here]], slots.value[here], arm[ragged.code[there]])
            np.testing.assert_allclose(player.probabilities(request), ragged.value[there], rtol=2e-4, atol=1e-6)
            player.learn(request, int(chunk.action.names[chunk.action.code[i]]), chunk.reward[i])
            checked += 1
    assert checked == 150
