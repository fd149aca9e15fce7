"""banditd learn ad-load: the policy file, the tables, the document, the front's page, and its refusals."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.ad_load import load
from bandits.own_log import Row, to_json_lines
from bandits.simulation.ad_load import AdLoadWorld
from offline_eval.formats import find
from offline_eval.formats.chunk import ReadOptions
from offline_eval.learning.play import as_log, fetches
from offline_eval.learning.reading import read
from service.cli import main
from tests.offline_eval.learning_logs import two_contexts


def table(log) -> pa.Table:
    """The log as the table of spec/formats.md."""
    loads = np.array(log.loads)
    columns = {
        "user": [f"u{one}" for one in log.user],
        "timestamp": pa.array(log.timestamp, pa.timestamp("us", tz="UTC")),
        "action": loads[log.action],
        "propensity": log.propensity,
        "satisfaction": log.satisfaction,
        "revenue": log.revenue,
        "allowed": pa.array([loads[row].tolist() for row in log.allowed], pa.list_(pa.int64())),
    }
    return pa.table(columns | {name: log.features[:, i] for i, name in enumerate(log.names)})


def own_rows(log) -> list[Row]:
    """The log as an ad-load surface exports it."""
    made = []
    for i in range(len(log)):
        there = np.flatnonzero(log.allowed[i])
        row = Row(
            version=1,
            decision_id=f"d{i}",
            timestamp=int(log.timestamp[i]),
            surface="ads",
            user=f"{int(log.user[i]):032x}",
            policy="ad_load",
            mode="explore",
            position=0,
            item=str(log.loads[log.action[i]]),
            propensity=float(log.propensity[i]),
            score=None,
            reward=float(log.satisfaction[i]),
            rewards={"satisfaction": float(log.satisfaction[i]), "revenue": float(log.revenue[i])},
            candidates=[str(log.loads[k]) for k in there],
            graph=None,
            exclude=None,
            distribution=log.logging[i][there].tolist(),
            features=dict(zip(log.names, log.features[i].tolist(), strict=True)),
            item_features=None,
            slots=[1],
            weights=[1.0],
        )
        made.append(row)
    return made


@pytest.fixture(scope="module")
def world_file(tmp_path_factory):
    """20,000 fetches of a simulated world."""
    path = tmp_path_factory.mktemp("world") / "ads.parquet"
    pq.write_table(table(as_log(fetches(AdLoadWorld.make(1), 5, 20_000))), path)
    return path


def small_file(tmp_path, log=None):
    path = tmp_path / "ads.parquet"
    pq.write_table(table(two_contexts() if log is None else log), path)
    return path


def same(read_log, log):
    for name in ("timestamp", "propensity", "satisfaction", "revenue", "allowed", "action"):
        np.testing.assert_array_equal(getattr(read_log, name), getattr(log, name))
    assert read_log.loads == log.loads
    np.testing.assert_array_equal(read_log.group[1:] == read_log.group[:-1], log.group[1:] == log.group[:-1])
    order = np.argsort(log.names)
    np.testing.assert_array_equal(read_log.features, log.features[:, order])


def test_a_table_and_the_own_log_are_read_alike(tmp_path):
    log = as_log(fetches(AdLoadWorld.make(0), 1, 600))
    (tmp_path / "own.jsonl").write_bytes(to_json_lines(own_rows(log)))
    pq.write_table(table(log), tmp_path / "table.parquet")
    own, plain = (read(find(tmp_path / name), ReadOptions(), {}) for name in ("own.jsonl", "table.parquet"))
    same(own.log, log)
    same(plain.log, log)
    np.testing.assert_array_equal(own.log.logging, log.logging)
    assert plain.log.logging is None
    assert own.left_out == plain.left_out == {}


def test_missing_rewards_are_left_out_refused_or_what_they_are_said_to_be(tmp_path):
    rows = own_rows(two_contexts(n_users=10, rows_each=1))
    rows[3].rewards = {}
    rows[0].user = rows[1].user = None
    (tmp_path / "own.jsonl").write_bytes(to_json_lines(rows))
    found = read(find(tmp_path / "own.jsonl"), ReadOptions(), {})
    assert (len(found.log), found.left_out) == (9, {"no rewards": 1})
    assert len(set(found.log.group.tolist())) == 9
    rows[5].rewards = {"satisfaction": 0.5}
    (tmp_path / "own.jsonl").write_bytes(to_json_lines(rows))
    with pytest.raises(ValueError, match="line 6: revenue: got None, must be there .* --missing revenue=0"):
        read(find(tmp_path / "own.jsonl"), ReadOptions(), {})
    filled = read(find(tmp_path / "own.jsonl"), ReadOptions(), {"revenue": 0.0, "satisfaction": 0.25})
    assert len(filled.log) == 10
    assert (filled.log.satisfaction[3], filled.log.revenue[3], filled.log.revenue[5]) == (0.25, 0.0, 0.0)


def test_a_policy_is_written_and_told_about(tmp_path, capsys):
    path, policy = small_file(tmp_path), tmp_path / "policy.json"
    assert main(["learn", "ad-load", str(path), "-o", str(policy), "--beta", "1", "--floor", "0.01", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    made = load(policy.read_bytes())
    assert (document["policy"], document["version"]) == (str(policy), made.version)
    assert (document["n"], document["loads"], document["features"]) == (3000, [0, 2], ["side"])
    assert document["chosen"]["gain"]["interval"][0] > 0
    assert [made.estimate.value, *made.estimate.interval] == pytest.approx(
        [document["chosen"]["value"]["value"], *document["chosen"]["value"]["interval"]]
    )
    assert len(document["candidates"]) == 10
    assert document["logging"]["gain"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert document["split"] == {
        **{"learning_rows": 1998, "judging_rows": 1002},
        **{"learning_users": 666, "judging_users": 334},
    }
    assert sorted(tmp_path.iterdir()) == [path, policy]
    assert main(["learn", "ad-load", str(path), "-o", str(policy), "--beta", "1", "--floor", "0.01"]) == 0
    text = capsys.readouterr().out
    for word in ("logging policy", "> ", "learned from 1,998 rows", "surely beats", "later rows", made.version[:12]):
        assert word in text
    assert "\x1b" not in text
    assert load(policy.read_bytes()).version == made.version


def test_a_sweep_prints_a_front_and_writes_its_page(world_file, tmp_path, capsys):
    policy, page = tmp_path / "policy.json", tmp_path / "front.html"
    flags = ["--sweep", "--model", "linear", "--html", str(page), "-o", str(policy)]
    assert main(["learn", "ad-load", str(world_file), *flags, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    front = document["front"]
    assert len(front) >= 5
    assert front[0]["beta"] == 0.0
    assert all(one["revenue"]["interval"][0] < one["revenue"]["value"] for one in front)
    assert front[0]["revenue"]["value"] > document["logging"]["revenue"]["value"]
    text = page.read_text()
    for word in ("<svg", "Pareto front", "logging policy", "β = 0.7", "judging users"):
        assert word in text
    assert main(["learn", "ad-load", str(world_file), *flags]) == 0
    printed = capsys.readouterr().out
    assert "β = 0.7" in printed
    assert "revenue to" in printed


def test_a_log_that_cannot_vouch_for_a_policy_ends_with_3_and_no_file(tmp_path, capsys):
    """Rewards without difference between loads, too few rows, and a constraint that nothing meets."""
    policy = tmp_path / "policy.json"
    flat = small_file(tmp_path, two_contexts(gain=0.0))
    few = tmp_path / "few.parquet"
    pq.write_table(table(two_contexts(n_users=50)), few)
    cases = {
        "no policy surely beats the logging policy": [str(flat), "--model", "linear"],
        "too few rows: 150, at least 1,000 are needed": [str(few)],
        "no policy surely gains revenue": [str(flat), "--constraint", "satisfaction >= +40%", "--model", "linear"],
    }
    for reason, flags in cases.items():
        assert main(["learn", "ad-load", *flags, "-o", str(policy), "--json"]) == 3
        document = json.loads(capsys.readouterr().out)
        assert reason in document["reasons"][0]
        assert document["policy"] is document["chosen"] is None
        assert main(["learn", "ad-load", *flags, "-o", str(policy)]) == 3
        assert "keep the logging policy" in capsys.readouterr().out
        assert not policy.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta", "1.5"], "--beta must lie in [0, 1], got 1.5"),
        (["--constraint", "revenue>=0"], "--constraint must be such as \"satisfaction>=-0.5%\", got 'revenue>=0'"),
        (["--html", "front.html"], "--html: shows the front, add --sweep"),
        (["--floor", "0.7"], "--floor must lie in [0, "),
        (["--logging", "0.5,x"], "--logging must be a number, got 'x'"),
        (["--logging", "0.5,0.6"], "--logging must be a probability for each of the loads [0, 2]"),
        (["--missing", "clicks=0"], "--missing must be NAME=VALUE,.. of satisfaction and revenue, got 'clicks=0'"),
        (["--alpha", "0"], "--alpha must lie in (0, 1), got 0"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--min-ess", "-1"], "--min-ess must be >= 0 and finite, got -1"),
        (["--jobs", "2"], "--jobs: learning holds the log in one process"),
        (["--actions", "3"], "--actions: learning takes the loads of the log"),
    ],
)
def test_bad_flags_are_one_line_and_2(tmp_path, capsys, flags, message):
    path = small_file(tmp_path)
    assert main(["learn", "ad-load", str(path), "-o", str(tmp_path / "policy.json"), *flags]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "policy.json").exists()


def test_logs_of_something_else_are_told(tmp_path, capsys):
    log = two_contexts()
    whole = table(log)
    cases = {
        "must be an ad load, a whole number >= 0": whole.set_column(2, "action", pa.array(["x"] * len(log))),
        "timestamp": whole.drop_columns(["timestamp"]),
        "row 0: satisfaction: got None": whole.drop_columns(["satisfaction"]),
        "no row has both rewards": whole.drop_columns(["satisfaction", "revenue"]).append_column(
            "reward", [log.revenue]
        ),
    }
    for message, wrong in cases.items():
        path = tmp_path / "wrong.parquet"
        pq.write_table(wrong.drop_columns(["allowed"]), path)
        assert main(["learn", "ad-load", str(path), "-o", str(tmp_path / "policy.json")]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert message in err


def test_a_file_that_cannot_be_written_is_told(tmp_path, capsys):
    path = small_file(tmp_path)
    assert main(["learn", "ad-load", str(path), "--model", "linear", "-o", str(tmp_path / "no" / "policy.json")]) == 2
    assert "policy.json: No such file or directory" in capsys.readouterr().err
