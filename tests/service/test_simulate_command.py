"""banditd simulate: its JSON document, its table and its refusals."""

from __future__ import annotations

import argparse
import json

import pytest

from bandits.errors import UsageError
from service.commands import simulate


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return simulate.run(parser.parse_args(arguments))


@pytest.mark.parametrize("world", ["digits", "shop", "clusters"])
def test_json_is_one_document_that_adds_up(world: str, capsys: pytest.CaptureFixture[str]):
    """Digits has rewards without noise: there mean reward + regret / rounds is the upper bound, 1."""
    assert run(world, "--rounds", "400", "--seed", "3", "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert report.keys() == {"world", "policy", "rounds", "reward", "regret", "upper_bound", "baselines"}
    assert (report["world"], report["policy"], report["rounds"]) == (world, "diag_linucb", 400)
    assert report["regret"] < report["baselines"]["random"]["regret"]
    if world == "digits":
        assert report["reward"] + report["regret"] / 400 == pytest.approx(report["upper_bound"]) == 1.0


def test_uniform_is_the_random_baseline(capsys: pytest.CaptureFixture[str]):
    run("digits", "--policy", "uniform", "--rounds", "100", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["baselines"]["random"] == {"reward": report["reward"], "regret": report["regret"]}


def test_one_seed_prints_one_document(capsys: pytest.CaptureFixture[str]):
    printed = []
    for seed in ("1", "1", "2"):
        run("shop", "--policy", "full_linucb", "--rounds", "150", "--seed", seed, "--json")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]


def test_a_table_for_people_has_no_control_characters_off_a_terminal(capsys: pytest.CaptureFixture[str]):
    assert run("digits", "--policy", "diag_linucb:alpha=1,variant=published", "--rounds", "50") == 0
    text = capsys.readouterr().out
    for word in ("digits, 50 rounds", "diag_linucb:alpha=1,variant=published", "random", "upper bound", "regret"):
        assert word in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moon"], "WORLD must be one of digits, shop, clusters, got 'moon'"),
        (["digits", "--policy", "best"], "--policy: policy must be one of"),
        (["digits", "--policy", "diag_linucb:alpha=-1"], "--policy: alpha must be finite and >= 0"),
        (["digits", "--rounds", "0"], "--rounds must be >= 1, got 0"),
        (["digits", "--refresh", "0"], "--refresh must be >= 1, got 0"),
        (["digits", "--seed", "-1"], "--seed must be >= 0, got -1"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UsageError, match=message) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
