"""banditd replay: what it prints, its statuses and its refusals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from bandits.errors import UsageError
from offline_eval.commands import replay

KEYS = {"n", "matched", "value", "interval", "method"}


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    return replay.run(parser.parse_args(arguments))


def written(path: Path, **columns: Any) -> Path:
    """A CSV file."""
    rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def world(path: Path, n: int, *, uniform: bool, seed: int = 0) -> Path:
    """n rows of two contexts and three actions whose best has .9, in order of time."""
    rng = np.random.default_rng(seed)
    context = rng.integers(2, size=n)
    law = np.full((2, 3), 1 / 3) if uniform else np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
    action = np.minimum((rng.random(n)[:, None] > law[context].cumsum(axis=1)).sum(axis=1), 2)
    reward = (rng.random(n) < np.where(action == 2 - 2 * context, 0.9, 0.2)).astype(int)
    return written(
        path,
        action=action,
        reward=reward,
        propensity=law[context, action],
        timestamp=np.arange(n),
        left=1 - context,
        right=context,
    )


def document(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert run(*arguments, "--json") == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_learning_policy_on_a_uniform_log(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 3_000, uniform=True))
    found = document(capsys, log, "--policy", "diag_linucb", "--seed", "1")
    assert found.keys() >= KEYS
    assert (found["n"], found["method"], found["interval_method"]) == (3_000, "rejection replay", "cressie-read")
    assert abs(found["matched"] - 1_000) < 4 * np.sqrt(3_000 * 2 / 9)
    low, high = found["interval"]
    assert found["baseline"]["interval"][1] < low < found["value"] < high < 1.0
    assert found["value"] > 0.75
    assert any("path that was learned" in note for note in found["notes"])
    assert found["verdict"] == "supported: every check of the log passed"


def test_one_seed_prints_one_document(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 600, uniform=True))
    one, same, other = (document(capsys, log, "--policy", "full_linucb", "--seed", seed) for seed in ("1", "1", "2"))
    assert one == same
    assert one["value"] != other["value"]


def test_a_learning_policy_on_any_other_log(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 3_000, uniform=False))
    found = document(capsys, log, "--policy", "diag_linucb:alpha=.3,variant=centred")
    assert (found["n"], found["method"], found["interval_method"]) == (3_000, "dr replay", "normal")
    assert 300 < found["matched"] < 3_000
    low, high = found["interval"]
    assert found["baseline"]["interval"][1] < low < found["value"] < high
    assert any("running ridge regression" in note for note in found["notes"])


def test_a_constant_policy_matches_the_rows_that_a_filter_finds(tmp_path, capsys):
    log = world(tmp_path / "log.csv", 900, uniform=True)
    table = np.genfromtxt(log, delimiter=",", names=True)
    rows = table["reward"][table["action"] == 2]
    found = document(capsys, str(log), "--policy", "constant:2")
    assert found["matched"] == len(rows)
    assert found["value"] == pytest.approx(rows.mean(), abs=1e-15)
    assert found["diagnostics"]["max_weight"] == pytest.approx(3.0)
    assert found["diagnostics"]["ess"] == pytest.approx(len(rows))


def test_always_item_7_on_all_random_is_a_filter(capsys):
    """Open Bandit Dataset, campaign all, random."""
    log = Path(__file__).parents[1] / "data/obd/all-random.parquet"
    table = pq.read_table(log, columns=["item_id", "click"])
    clicks = table["click"].to_numpy()[table["item_id"].to_numpy() == 7]
    found = document(capsys, str(log), "--policy", "constant:7")
    assert (found["n"], found["matched"]) == (10_000, len(clicks)) == (10_000, 146)
    assert found["value"] == pytest.approx(clicks.mean(), abs=1e-15)
    assert found["method"] == "rejection replay"


def test_an_own_log_replays_over_each_row_s_candidates(tmp_path, capsys):
    """b of {a, b} with 1 and b of {a, b, c, d} with 0 weigh 2 and 4: 1/3. The exploit row is left out."""
    rows = [
        own(1, "b", 1.0, ["a", "b"]),
        own(2, "b", 0.0, ["a", "b", "c", "d"]),
        own(3, "a", 1.0, ["a", "b", "c", "d"]),
        {**own(4, "b", 1.0, ["a", "b"]), "mode": "exploit", "propensity": 1.0},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(str(log), "--policy", "constant:b", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "1 rows left out: exploit mode\n"
    found = json.loads(captured.out)
    assert (found["n"], found["matched"], found["method"]) == (3, 2, "rejection replay")
    assert found["value"] == pytest.approx(1 / 3)
    assert (
        document(capsys, str(log), "--policy", "diag_linucb:sampler=greedy,epsilon=0")["method"] == "rejection replay"
    )


def own(second: int, item: str, reward: float, candidates: list[str]) -> dict[str, Any]:
    """A row of the service's own log, chosen uniformly."""
    return {
        "version": 1,
        "decision_id": f"d{second}",
        "timestamp": f"2025-01-01T00:00:{second:02}Z",
        "surface": "home",
        "user": None,
        "policy": "uniform",
        "mode": "explore",
        "position": 0,
        "item": item,
        "propensity": 1 / len(candidates),
        "score": 0.0,
        "reward": reward,
        "rewards": {"reward": reward},
        "candidates": candidates,
        "distribution": None,
        "features": {"x": 1.0},
        "item_features": None,
        "slots": [1],
        "weights": [1.0],
    }


def test_the_policy_that_logged_gets_the_logged_mean(tmp_path, capsys):
    for name, policy, uniform in (("a", "uniform", True), ("b", "logged", True), ("c", "logged", False)):
        log = str(world(tmp_path / f"{name}.csv", 700, uniform=uniform))
        found = document(capsys, log, "--policy", policy)
        assert found["matched"] == found["n"] == 700
        assert found["value"] == pytest.approx(found["baseline"]["value"], abs=1e-12)


def test_a_constant_policy_on_any_other_log_is_close_to_the_truth(tmp_path, capsys):
    """Action 2 has .9 and .2 in two contexts alike."""
    log = str(world(tmp_path / "log.csv", 4_000, uniform=False))
    found = document(capsys, log, "--policy", "constant:2")
    assert found["method"] == "dr replay"
    low, high = found["interval"]
    assert abs(found["value"] - 0.55) < 4 * (high - low) / (2 * 1.96)
    assert high - low < 0.12


def test_order_matters_to_a_policy_that_learns_alone(tmp_path, capsys):
    log = written(
        tmp_path / "log.csv", action=[0, 1, 0], reward=[1, 0, 1], propensity=[0.5] * 3, timestamp=[10, 30, 20]
    )
    with pytest.raises(
        UsageError, match=r"log.csv: line 4: timestamp: got 20, is earlier than the row before it \(30\)"
    ):
        run(str(log), "--policy", "diag_linucb")
    assert document(capsys, str(log), "--policy", "constant:0")["value"] == 1.0


def test_equal_times_and_no_times_are_in_order(tmp_path, capsys):
    columns = {"action": [0, 1, 0, 1], "reward": [1, 0, 1, 0], "propensity": [0.5] * 4}
    tied = written(tmp_path / "tied.csv", **columns, timestamp=[5, 5, 6, 6])
    assert document(capsys, str(tied), "--policy", "diag_linucb")["n"] == 4
    found = document(capsys, str(written(tmp_path / "none.csv", **columns)), "--policy", "diag_linucb")
    assert "the log has no timestamps: rows were played in the order of the file" in found["notes"]
    assert "the log has no named features: the policy learned without context" in found["notes"]


def test_rows_that_were_certain_are_left_out_unless_asked_for(tmp_path, capsys):
    log = str(written(tmp_path / "log.csv", action=[0, 1, 0], reward=[1, 1, 0], propensity=[0.5, 1.0, 0.5]))
    assert run(log, "--policy", "constant:0", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "1 rows left out: propensity 1\n"
    found = json.loads(captured.out)
    assert (found["n"], found["left_out"], found["method"]) == (2, {"propensity 1": 1}, "rejection replay")
    found = document(capsys, log, "--policy", "constant:0", "--include-exploit", "--min-ess", "0")
    assert (found["n"], found["left_out"], found["method"]) == (3, {}, "dr replay")
    certain = str(written(tmp_path / "certain.csv", action=[0, 1], reward=[1, 1], propensity=[1.0, 1.0]))
    with pytest.raises(UsageError, match=r"has no row to replay \(left out: 2 propensity 1\)"):
        run(certain, "--policy", "uniform")


def test_no_match_is_a_refusal_with_its_reason(tmp_path, capsys):
    log = str(written(tmp_path / "log.csv", action=[0, 1] * 3, reward=[1] * 6, propensity=[0.25] * 6))
    found = document(capsys, log, "--policy", "constant:9", status=3)
    assert (found["matched"], found["value"], found["interval"]) == (0, None, None)
    assert found["method"] == "rejection replay"
    assert found["reasons"] == ["no match: the policy never chooses what was logged in 6 rows"]
    assert found["verdict"].startswith("refused: the log cannot support the question; no match")


def test_few_matches_are_told_or_refused_where_asked(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 150, uniform=True))
    found = document(capsys, log, "--policy", "constant:1")
    assert found["reasons"][0].startswith("few rows: the value rests on an effective number of")
    refused = document(capsys, log, "--policy", "constant:1", "--min-ess", "100", status=3)
    assert refused["value"] is None


def test_a_doubly_robust_value_of_few_effective_rows_is_refused_unless_allowed(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 60, uniform=False))
    found = document(capsys, log, "--policy", "diag_linucb", status=3)
    assert found["interval"] is None
    assert found["reasons"][0].startswith("few rows: the value rests on")
    assert document(capsys, log, "--policy", "diag_linucb", "--min-ess", "0")["value"] is not None


def test_rows_that_stand_twice_in_the_log_are_refused(tmp_path, capsys):
    columns = {"action": [0, 1, 1], "reward": [1, 0, 0], "propensity": [0.5] * 3, "timestamp": [1, 2, 2]}
    log = str(written(tmp_path / "log.csv", **columns))
    found = document(capsys, log, "--policy", "diag_linucb", status=3)
    assert "duplicates: 1 of 3 rows repeat an earlier one" in found["reasons"][0]
    assert "line 4" in found["reasons"][0]


def test_wrong_propensities_are_refused(tmp_path, capsys):
    """Action 1 is taken in all rows though its propensity is said to be 1/2."""
    n = 400
    rng = np.random.default_rng(1)
    action = (rng.random(n) < 0.8).astype(int)
    log = str(written(tmp_path / "log.csv", action=action, reward=[1] * n, propensity=[0.5] * n))
    found = document(capsys, log, "--policy", "constant:1", status=3)
    assert found["verdict"].startswith("refused: the log cannot support the question; mean weight: 1.")
    assert found["value"] is None


def test_large_features_and_rewards_are_scaled_and_said_so(tmp_path, capsys):
    rng = np.random.default_rng(2)
    n = 300
    log = written(
        tmp_path / "log.csv",
        action=rng.integers(2, size=n),
        reward=np.round(rng.normal(50.0, 10.0, n), 3),
        propensity=[0.5] * n,
        age=rng.integers(18, 81, size=n),
    )
    found = document(capsys, str(log), "--policy", "diag_linucb")
    assert any(
        note.startswith("features beyond 16 were divided by their largest magnitude: age / 80")
        for note in found["notes"]
    )
    assert any(note.startswith("rewards were divided by") for note in found["notes"])
    assert any(flag.startswith("reward range assumed") for flag in found["flags"])
    assert 45 < found["value"] < 55


def test_a_table_for_people_names_method_and_interval(tmp_path, capsys):
    log = str(world(tmp_path / "log.csv", 300, uniform=True))
    assert run(log, "--policy", "diag_linucb") == 0
    text = capsys.readouterr().out
    for word in ("logged", "diag_linucb", "rejection replay", "cressie-read", "300", "matched"):
        assert word in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "diag_linucb:beta=1"], "--policy: policy diag_linucb takes alpha, prior, variant, got 'beta'"),
        (["--policy", "best"], "--policy must be"),
        (
            ["--policy", "diag_linucb", "--interval", "confseq"],
            "learning policy's rejection replay has cressie-read or normal",
        ),
        (["--policy", "uniform", "--alpha", "1"], r"--alpha must lie in \(0, 1\)"),
        (["--policy", "uniform", "--quantile", "1"], r"--quantile must lie in \[0, 1\)"),
        (["--policy", "uniform", "--seed", "-1"], "--seed must be >= 0"),
        (["--policy", "uniform", "--min-ess", "nan"], "--min-ess must be >= 0"),
        (
            ["--policy", "uniform", "--reward-range", "0,.5"],
            "--reward-range: the log has rewards from 0 to 1; widen it",
        ),
        (["--policy", "uniform", "--reward-range", "1"], "--reward-range must be LO,HI"),
        (["--policy", "uniform", "--reward-range", "a,1"], "--reward-range must be a number"),
    ],
)
def test_bad_arguments_are_told_in_one_line(tmp_path, arguments, message):
    log = str(world(tmp_path / "log.csv", 50, uniform=True))
    with pytest.raises(UsageError, match=message) as caught:
        run(log, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("interval", ["cressie-read", "normal", "confseq"])
def test_every_interval_of_a_policy_that_does_not_learn(tmp_path, capsys, interval):
    log = str(world(tmp_path / "log.csv", 3_000, uniform=True))
    found = document(capsys, log, "--policy", "constant:0", "--interval", interval)
    assert found["interval_method"].startswith(interval)
    low, high = found["interval"]
    assert 0.0 <= low < 0.55 < high <= 1.0
