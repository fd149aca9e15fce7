"""The Open Bandit sample: known values of its own policies, and a sound log that is not refused.

Bernoulli Thompson sampling (bts) is valued on the log of the uniformly random policy. Its distribution is the empirical
one of its own log by position: how often it showed each of the 80 items at each of the 3 positions.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from offline_eval import BanditLog, evaluate
from tests.offline_eval.engine import OBD, document, finding, values

RANDOM, BTS = OBD / "all-random.parquet", OBD / "all-bts.parquet"
IPS, SNIPS, TRUTH = 0.005035, 0.005253, 0.0042
"""Campaign "all"; the truth is the mean click of the bts log."""


def columns(path):
    table = pq.read_table(path, columns=["item_id", "position", "click", "propensity_score"])
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.fixture(scope="module")
def shown():
    """float64 (80, 3): share of each item in what bts showed at each position."""
    bts = columns(BTS)
    times = np.zeros((80, 3))
    np.add.at(times, (bts["item_id"], bts["position"] - 1), 1)
    return times / times.sum(axis=0)


def test_bts_from_random_in_python(shown):
    random = columns(RANDOM)
    log = BanditLog(None, random["item_id"], random["click"], random["propensity_score"], 80)
    report = evaluate(log, shown.T[random["position"] - 1], ("ips", "snips"))
    assert report.estimates["ips"].value == pytest.approx(IPS, abs=5e-7)
    assert report.estimates["snips"].value == pytest.approx(SNIPS, abs=5e-7)
    assert all(one.interval[0] < TRUTH < one.interval[1] for one in report.estimates.values())
    assert columns(BTS)["click"].mean() == TRUTH


@pytest.mark.parametrize("by_position", [True, False])
def test_bts_from_random_on_the_command_line(by_position, shown, tmp_path, capsys):
    position = columns(RANDOM)["position"] - 1
    dist = np.repeat(shown[None], len(position), axis=0) if by_position else shown.T[position]
    np.savez(tmp_path / "bts.npz", action_dist=dist)
    found = document(capsys, "evaluate", RANDOM, "--policy", tmp_path / "bts.npz", "--estimators", "ips,snips")
    assert values(found)["ips"][0] == pytest.approx(IPS, abs=5e-7)
    assert values(found)["snips"][0] == pytest.approx(SNIPS, abs=5e-7)
    assert {one["interval_method"] for one in found["estimates"]} == {"cressie-read"}
    assert found["diagnostics"]["mean_weight"] == pytest.approx(0.9586, abs=5e-5)
    assert found["verdict"].startswith("supported")


@pytest.mark.parametrize("path", [RANDOM, BTS])
def test_the_sound_sample_passes(path, capsys):
    checked = document(capsys, "validate", path)
    assert checked["ok"]
    assert {"schema", "duplicates", "propensities", "support"} <= {one["name"] for one in checked["checks"]}
    found = document(capsys, "evaluate", path, "--policy", "uniform")
    assert list(values(found)) == ["ips", "snips", "dr"]
    assert finding(found, "duplicates")["level"] == "ok"


def test_always_item_7_is_what_a_filter_finds(capsys):
    random = columns(RANDOM)
    clicks = random["click"][random["item_id"] == 7]
    found = document(capsys, "evaluate", RANDOM, "--policy", "constant:7", "--estimators", "replay")
    assert values(found)["replay"][0] == pytest.approx(clicks.mean(), abs=1e-15)
    assert found["diagnostics"]["ess"] == pytest.approx(len(clicks))


def test_scaled_propensities_of_the_sample_are_caught(tmp_path, capsys):
    table = pq.read_table(RANDOM)
    at = table.column_names.index("propensity_score")
    scaled = table.set_column(at, "propensity_score", [table["propensity_score"].to_numpy() * 0.8])
    pq.write_table(scaled, tmp_path / "scaled.parquet")
    found = document(capsys, "evaluate", tmp_path / "scaled.parquet", "--policy", "uniform", status=3)
    assert any("propensities are wrong" in reason for reason in found["reasons"])
