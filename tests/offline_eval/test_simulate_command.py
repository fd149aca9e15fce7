"""banditd simulate: its JSON document, its table and its refusals."""

from __future__ import annotations

import argparse
import json
import re

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bandits.errors import UsageError
from offline_eval.commands import simulate
from service.cli import main
from tests.bandits.ad_load_policies import FILE


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
        (["moon"], "WORLD must be one of digits, shop, clusters, adload, got 'moon'"),
        (["digits", "--policy", "best"], "--policy: policy must be one of"),
        (["digits", "--policy", "diag_linucb:alpha=-1"], "--policy: alpha must be finite and >= 0"),
        (["digits", "--rounds", "0"], "--rounds must be >= 1, got 0"),
        (["digits", "--refresh", "0"], "--refresh must be >= 1, got 0"),
        (["digits", "--seed", "-1"], "--seed must be >= 0, got -1"),
        (
            ["adload", "--policy", "diag_linucb"],
            "--policy must be learned | logging | uniform | constant:K | FILE.json",
        ),
        (["adload", "--policy", "constant:9"], "--policy constant:K: K must be one of 0, 1, 2, 3, got '9'"),
        (["adload", "--policy", "none.json"], "--policy none.json: No such file"),
        (["adload", "--refresh", "5"], "--refresh: the policies of adload do not learn"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def ad_load(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run("adload", "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_a_policy_is_learned_by_default_in_the_ad_load_world(capsys: pytest.CaptureFixture[str]):
    """Learned, logging and random keep their order by regret, and reward + regret / rounds is near the upper bound."""
    report = ad_load(capsys, "--rounds", "5000", "--seed", "2")
    assert report.keys() == {"world", "policy", "rounds", "reward", "regret", "upper_bound", "baselines"}
    assert (report["world"], report["policy"], report["rounds"]) == ("adload", "learned", 5000)
    assert list(report["baselines"]) == ["logging", "random"]
    logging, random = (report["baselines"][name] for name in ("logging", "random"))
    assert report["regret"] < 0.7 * logging["regret"] < logging["regret"] < random["regret"]
    assert report["reward"] + report["regret"] / 5000 == pytest.approx(report["upper_bound"], abs=0.05)


def test_the_baselines_of_the_ad_load_world_are_policies_too(capsys: pytest.CaptureFixture[str]):
    flags = ("--rounds", "500", "--seed", "1", "--policy")
    logging, uniform, constant = (ad_load(capsys, *flags, name) for name in ("logging", "uniform", "constant:2"))
    assert logging["baselines"]["logging"] == {"reward": logging["reward"], "regret": logging["regret"]}
    assert uniform["baselines"]["random"] == {"reward": uniform["reward"], "regret": uniform["regret"]}
    assert constant["baselines"] == logging["baselines"]
    assert constant["regret"] > 0


def test_a_policy_file_is_played(tmp_path, capsys: pytest.CaptureFixture[str]):
    """One that always scores load 0 far above load 2, with a floor of 0, is constant:0."""
    path = tmp_path / "policy.json"
    model = {"type": "linear", "weights": [[0.0, 0.0], [0.0, 0.0]], "bias": [900.0, 0.0]}
    path.write_text(json.dumps(FILE | {"model": model, "floor": 0.0}))
    flags = ("--rounds", "300", "--policy")
    file, constant = (ad_load(capsys, *flags, name) for name in (str(path), "constant:0"))
    assert (file["reward"], file["regret"]) == (constant["reward"], constant["regret"])
    path.write_text(json.dumps(FILE | {"loads": [1, 2]}))
    with pytest.raises(UsageError, match="with 0, which is always allowed; got \\[1, 2\\]"):
        run("adload", "--policy", str(path))
    path.write_text("{}")
    with pytest.raises(UsageError, match="version: missing"):
        run("adload", "--policy", str(path))


def test_a_log_of_the_ad_load_world_is_sound_and_can_be_learned_from(tmp_path, capsys):
    """Allowed loads are in it, so the test of each load's propensities knows which rows could have had it."""
    log, policy = tmp_path / "ads.parquet", tmp_path / "policy.json"
    assert main(["simulate", "adload", "--policy", "logging", "--rounds", "8000", "--write-log", str(log)]) == 0
    assert main(["validate", str(log), "--json"]) == 0
    assert main(["evaluate", str(log), "--policy", "logged", "--estimators", "ips", "--reward", "revenue"]) == 0
    assert main(["learn", "ad-load", str(log), "--floor", "0.02", "-o", str(policy)]) in (0, 3)
    capsys.readouterr()
    table = pq.read_table(log)
    scaled = pc.multiply(table["propensity"], 0.6)
    pq.write_table(table.set_column(table.schema.get_field_index("propensity"), "propensity", scaled), log)
    assert main(["validate", str(log)]) == 2
    assert "propensities" in capsys.readouterr().err


def test_only_the_ad_load_world_writes_a_log(tmp_path, capsys):
    assert main(["simulate", "clusters", "--rounds", "10", "--write-log", str(tmp_path / "log.parquet")]) == 2
    assert "--write-log: not of clusters" in capsys.readouterr().err
    assert main(["simulate", "adload", "--policy", "logging", "--rounds", "10", "--write-log", str(tmp_path)]) == 2
    assert f"--write-log {tmp_path}" in capsys.readouterr().err


def test_without_colour_the_table_has_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run("digits", "--rounds", "100")
    assert "\x1b" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    run("digits", "--rounds", "100")
    assert "\x1b" not in capsys.readouterr().out
