"""Whether intervals cover what they should, on few logs; the published table has 500 a row."""

from __future__ import annotations

import numpy as np
import pytest

from load_tests.coverage import WORLDS, coverage_table, least_coverage


@pytest.fixture(scope="module")
def table():
    return coverage_table((2000,), 60, methods=("normal", "empirical-bernstein", "cressie-read", "confseq"))


@pytest.mark.parametrize("name", list(WORLDS))
def test_the_truth_of_a_world_is_its_mean_weighted_reward(name):
    world = WORLDS[name]
    weight, reward, _, _ = world.draw(np.random.default_rng(0), 4_000_000)
    error = (weight * reward).std() / 2000
    assert (weight * reward).mean() == pytest.approx(world.truth, abs=4 * error)
    assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / 2000)
    assert weight.max() <= world.largest_weight * (1 + 1e-12)


def test_cressie_read_covers_in_every_world(table):
    assert least_coverage(table, "cressie-read") >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 60)


def test_the_normal_interval_is_flagged_where_it_fails_and_only_there(table):
    of = {(row["world"], row["estimator"]): row for row in table if row["interval"] == "normal"}
    assert of["heavy", "ips"]["coverage"] < 0.5
    assert of["heavy", "ips"]["flagged"] == 1.0
    assert of["spread", "ips"]["flagged"] == 1.0
    assert of["easy", "ips"]["coverage"] >= 0.85
    assert of["easy", "ips"]["flagged"] == 0.0


def test_where_they_all_hold_cressie_read_is_the_narrowest_of_those_for_ips(table):
    width = {row["interval"]: row["width"] for row in table if (row["world"], row["estimator"]) == ("easy", "ips")}
    assert min(width, key=width.__getitem__) == "cressie-read"
    assert width["empirical-bernstein"] < width["confseq"] * 1.2
