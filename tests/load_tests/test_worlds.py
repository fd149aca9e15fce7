"""Simulated worlds over HTTP beside their truth."""

from __future__ import annotations

import pytest

from load_tests.worlds import delay_over_http, worlds_table


@pytest.mark.parametrize(("world", "least"), [("clusters", 0.3), ("shop", 0.4)])
def test_a_server_gains_on_a_random_choice_and_its_regret_is_smaller(world, least):
    """2,000 requests of seed 0 gained .44 (clusters) and .52 (shop) of what there was to gain."""
    lines: list[str] = []
    (row,) = worlds_table((world,), (0,), requests=2_000, batch=50, progress=lines.append)
    assert (row["world"], row["seed"], row["requests"], row["batch"]) == (world, 0, 2_000, 50)
    assert least < row["gained"] < 1.0
    possible = row["upper_bound"] - row["random_reward"]
    assert row["reward"] == pytest.approx(row["random_reward"] + row["gained"] * possible)
    assert row["regret"] < row["random_regret"]
    assert lines == [f"{world}, seed 0: reward {row['reward']:.3f} of {row['upper_bound']:.3f}"]


def test_delay_is_measured_for_the_default_sampler_and_for_argmax():
    rows = delay_over_http((0,), requests=400, delay=200, batch=100)
    assert [row["sampler"] for row in rows] == ["plackett_luce (default)", "argmax"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["reward_delayed"] / row["reward_1"])
        assert 0.0 < row["reward_delayed"] < row["upper_bound"] < 1.0
