"""The cost of a slow refresh, measured as the published table measures it."""

from __future__ import annotations

import pytest

from load_tests.delay import delay_table


def test_default_sampler_keeps_four_fifths_at_a_delay_of_2000_and_more_than_argmax():
    default, argmax = delay_table([0])
    assert (default["sampler"], argmax["sampler"]) == ("plackett_luce (default)", "argmax")
    assert default["ratio"] >= 0.8
    assert default["ratio"] > argmax["ratio"]


def test_at_delay_1_there_is_nothing_to_lose():
    for row in delay_table([1], rounds=300, delay=1):
        assert row["ratio"] == pytest.approx(1.0)
        assert 0.0 < row["reward_1"] < row["upper_bound"] < 1.0
