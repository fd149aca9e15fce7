"""The closed loop over HTTP learns to tell digits, and its table says by whom and how well."""

from __future__ import annotations

import pytest

from bandits.simulation import digits
from load_tests.client import Client
from load_tests.digits import VARIANT_KEY, digits_run, digits_table
from load_tests.server import serve
from load_tests.traffic import Traffic, check, play


def test_a_server_with_default_settings_learns_the_digits_within_a_thousand_requests():
    """Random is .10; on five seeds the first 50 had .16 to .34 and requests 1,000 to 1,500 .92 to .95."""
    with serve() as server, Client(server.url) as client:
        rewards = play(Traffic(client, digits(0), seed=0), 1_500).rewards
    assert rewards[:50].mean() < 0.6
    assert rewards[-500:].mean() > 0.85


def test_table_has_a_row_for_each_variant_and_reference():
    lines: list[str] = []
    rows = digits_table(2, 300, ("published",), ("full_linucb", "uniform"), progress=lines.append)
    served, full, uniform = rows
    assert [(row["policy"], row["over"]) for row in rows] == [
        ("diag_linucb published", "HTTP"),
        ("full_linucb", "in process"),
        ("uniform", "in process"),
    ]
    assert len(lines) == 6
    for row in rows:
        assert (row["runs"], row["requests"]) == (2, 300)
        assert row["first_2000_min"] <= row["first_2000"] <= row["first_2000_max"]
        assert row["first_2000"] == pytest.approx((row["first_2000_min"] + row["first_2000_max"]) / 2)
        assert row["first_2000"] == row["last_2000"] == row["mean"]
    assert uniform["mean"] < 0.2 < served["mean"]
    assert full["mean"] > 0.4


def test_variant_of_a_row_is_the_one_that_its_server_has():
    with serve(env={VARIANT_KEY: "weights"}) as server, Client(server.url) as client:
        assert check(client.get("/v1/surfaces/default"), 200)["variant"] == "weights"
        run = digits_run(server.url, seed=1, requests=40)
        assert check(client.get("/v1/surfaces/default"), 200)["graph_version"] == digits(1).graph.version
    assert run["first_2000"] == run["mean"]
