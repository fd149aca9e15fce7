"""Ad loads around the loop: logged over HTTP, learned, evaluated, served, and better in truth."""

from __future__ import annotations

import pytest

from load_tests.ad_load import CommandFailed, closed_loop, command, worlds_table


def test_a_policy_learned_from_the_servers_own_log_is_better_when_it_is_served():
    """World 1 from 10,000 fetches: to gain are .13 of r_beta, some .11 were gained."""
    loop = closed_loop(seed=1, rows=10_000, rows_after=2_500, alpha=0.2)
    assert loop["rows"] >= 10_000
    assert loop["predicted_low"] > 0
    assert loop["gain"] == pytest.approx(loop["after"] - loop["same_fetches"])
    assert loop["gain"] > 0.04
    assert loop["after"] > loop["before"] + 0.02
    assert loop["satisfaction"] > loop["logging_satisfaction"]
    assert loop["evaluated_low"] < loop["evaluated"] < loop["evaluated_high"]
    assert loop["evaluated"] == pytest.approx(loop["gain"], abs=0.12)


def test_a_world_is_learned_from_its_logging_policy_and_measured_against_its_truth():
    lines: list[str] = []
    (row,) = worlds_table((5,), 20_000, lines.append)
    assert row["world"] == 5
    assert row["logging"] < row["learned"] < row["best"]
    assert row["gap_closed"] == pytest.approx(
        (row["learned"] - row["logging"]) / (row["best"] - row["logging"]), abs=1e-12
    )
    assert 0 < row["to_logging_percent"] < 5
    assert 0 < row["gain_low"] < row["best"] - row["logging"]
    assert lines == [f"adload, world 5, 20,000 fetches: {row['gap_closed']:.2f} of the gap closed"]


def test_a_command_that_fails_is_told(tmp_path):
    with pytest.raises(CommandFailed, match="banditd learn ended with 2: .*must be a file"):
        command("learn", "ad-load", tmp_path / "none.parquet", "-o", tmp_path / "policy.json")
