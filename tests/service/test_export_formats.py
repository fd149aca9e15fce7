"""What is exported as obp, csv and dsjson is read again by offline_eval, and by Vowpal Wabbit, to equal values."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import vowpalwabbit

from offline_eval.formats import find
from service import cli
from service.export.writers import FORMATS, opened
from tests.offline_eval.logs import chunks, left_out, only, records, row, slates
from tests.service.harness import SURFACES, running

SUFFIXES = [(name, suffix) for name in ("obp", "csv", "dsjson") for suffix in FORMATS[name]]


def write(path, name, rows, step=7):
    """Some rows at a time, so that a decision's come apart."""
    with opened(path, name) as writer:
        for k in range(0, len(rows), step):
            writer.write(rows[k : k + step])
    return dict(writer.left_out)


def values(found):
    return [(one["action"], one["reward"], one["propensity"]) for one in found]


def of(rows):
    return [(one.item, one.reward, one.propensity) for one in rows]


ODD = [
    row(decision_id="a", item='x,"y"', candidates=['x,"y"', "é"], features={"age": 0.1, "action": 2.0}, user="1f"),
    row(decision_id="b", reward=None),
    row(decision_id="c", propensity=None),
    row(decision_id="d", mode="exploit", propensity=1.0),
    row(decision_id="e", mode="holdout", reward=-1.0 / 3, propensity=0.1, features={"country=é": 1.0}),
    row(decision_id="f", candidates=None, distribution=None, graph="ab"),
]


@pytest.mark.parametrize(("name", "suffix"), SUFFIXES)
def test_rows_come_back_equal(tmp_path, name, suffix):
    rows = slates(40, 3, 5)
    file = tmp_path / f"rows{suffix}"
    assert write(file, name, rows) == {}
    assert {one.format for one in find(file)} == {name}
    found = only(file)
    if name == "obp":
        with np.load(file, allow_pickle=False) as held:
            names, columns = held["actions"].tolist(), held["context_names"].tolist()
        assert (names, columns) == ([f"i{k}" for k in range(5)], ["age"])
        found = [one | {"action": names[one["action"]]} for one in found]
    assert values(found) == of(rows)
    ages = [next(iter(one["context"].values())) for one in found]
    assert ages == [one.features["age"] for one in rows]
    if name != "dsjson":
        assert [one["position"] for one in found] == [one.position for one in rows]
    if name != "obp":
        assert [one["timestamp"] for one in found] == [one.timestamp for one in rows]
        assert len({one["fingerprint"] for one in found}) == len(rows)


def test_csv_of_odd_rows(tmp_path):
    """A feature with the name of a column takes another; users are hashed as they are from the own log."""
    reasons = write(tmp_path / "rows.csv", "csv", ODD)
    assert reasons == {"no_reward_yet": 1, "no_propensity": 1, "exploit_mode": 1}
    assert (tmp_path / "rows.csv").read_text() == (
        "action,reward,propensity,user,timestamp,position,decision_id,features.action,age,country=é\n"
        '"x,""y""",1.0,0.5,1f,2023-11-14T22:13:20.000000Z,0,a,2.0,0.1,\n'
        "a,-0.3333333333333333,0.1,,2023-11-14T22:13:20.000000Z,0,e,,,1.0\n"
        "a,1.0,0.5,,2023-11-14T22:13:20.000000Z,0,f,,,\n"
    )
    found = only(tmp_path / "rows.csv")
    assert [one["context"] for one in found] == [{"features.action": 2.0, "age": 0.1}, {"country=é": 1.0}, {}]
    write(tmp_path / "rows.jsonl", "own", ODD)
    own = {one["action"]: one["user"] for one in only(tmp_path / "rows.jsonl")}
    assert [one["user"] for one in found] == [own['x,"y"'], 0, 0]


def test_obp_of_odd_rows(tmp_path):
    assert write(tmp_path / "rows.npz", "obp", ODD) == {"no_reward_yet": 1, "no_propensity": 1, "exploit_mode": 1}
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as held:
        arrays = {name: held[name] for name in held}
    assert {name: arrays[name].tolist() for name in arrays if name != "context"} == {
        "n_rounds": 3,
        "n_actions": 4,
        "action": [2, 0, 0],
        "reward": [1.0, -1.0 / 3, 1.0],
        "pscore": [0.5, 0.1, 0.5],
        "position": [0, 0, 0],
        "actions": ["a", "b", 'x,"y"', "é"],
        "context_names": ["action", "age", "country=é"],
    }
    assert arrays["context"].tolist() == [[2.0, 0.1, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_dsjson_of_odd_rows(tmp_path):
    """Exploit rows are there, to be skipped; a decision whose candidates are not logged cannot be."""
    file = tmp_path / "rows.dsjson"
    assert write(file, "dsjson", ODD) == {"no_reward_yet": 1, "no_propensity": 1, "candidates_not_logged": 1}
    first, *_ = map(json.loads, file.read_text().splitlines())
    assert first == {
        "_label_cost": -1.0,
        "_label_probability": 0.5,
        "_label_Action": 1,
        "_labelIndex": 0,
        "_skipLearn": False,
        "Timestamp": "2023-11-14T22:13:20.000000Z",
        "Version": "1",
        "EventId": "a",
        "a": [1, 2],
        "c": {"context": {"age": 0.1, "action": 2.0}, "_multi": [{"_tag": 'x,"y"'}, {"_tag": "é"}]},
        "p": [0.5, 0.5],
        "VWState": {"m": "diag_linucb"},
    }
    found = chunks(file)
    assert left_out(found) == {"_skipLearn": 1}
    assert values(records(found)) == of([ODD[0], ODD[4]])


def test_dsjson_has_the_candidates_of_the_own_log(tmp_path):
    """Position by position, and the law of the first."""
    rows = slates(30, 3, 5, seed=4)
    write(tmp_path / "rows.dsjson", "dsjson", rows)
    write(tmp_path / "rows.parquet", "own", rows)
    found, own = only(tmp_path / "rows.dsjson"), only(tmp_path / "rows.parquet")
    assert [one["candidates"] for one in found] == [
        [(name, None if p is None else pytest.approx(p, abs=1e-15)) for name, p in one["candidates"]] for one in own
    ]


def test_vowpal_wabbit_reads_the_dsjson_to_the_same_value(tmp_path):
    """Greedy and untrained it takes the first candidate; probabilities are exact in its float32."""
    rng = np.random.default_rng(3)
    rows = [
        msgspec.structs.replace(one, propensity=0.25, reward=float(rng.integers(9)) / 8, item_features=None)
        for one in slates(200, 2, 4, seed=5)
    ]
    file = tmp_path / "rows.dsjson"
    write(file, "dsjson", rows)
    workspace = vowpalwabbit.Workspace(f"--cb_explore_adf --first 0 --dsjson -t -d {file}", enable_logging=True)
    loss, weight = workspace.get_sum_loss(), workspace.get_weighted_examples()
    workspace.finish()
    assert "warning" not in " ".join(workspace.get_log())
    assert weight == len(rows)
    found = only(file)
    total = sum(one["reward"] / one["propensity"] for one in found if one["action"] == one["candidates"][0][0])
    assert total / len(rows) == pytest.approx(-loss / weight, abs=1e-9)


@pytest.mark.parametrize(("name", "suffix"), SUFFIXES)
def test_no_rows_make_a_file_that_can_be_read(tmp_path, name, suffix):
    file = tmp_path / f"rows{suffix}"
    assert write(file, name, [ODD[1]]) == {"no_reward_yet": 1}
    if file.stat().st_size and name != "dsjson":
        assert only(file) == []
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_many_features_over_many_blocks_of_the_context(tmp_path, monkeypatch):
    monkeypatch.setattr("service.export.obp_npz._STEP", 4)
    rows = [row(decision_id=f"d{k}", features={f"f{k % 3}": float(k + 1)}) for k in range(13)]
    write(tmp_path / "rows.npz", "obp", rows)
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as held:
        expected = np.zeros((13, 3))
        expected[np.arange(13), np.arange(13) % 3] = np.arange(13) + 1
        assert np.array_equal(held["context"], expected)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A stopped server's directory: 40 decisions of two of three items, half of them clicked."""
    folder = tmp_path_factory.mktemp("export") / "data"
    with running(folder, SURFACES) as server:
        for k in range(40):
            decision = server.recommend(surface="shop", items=["a", "b", "c"], n=2, user=f"u{k % 3}")
            if k % 2:
                item = decision["items"][1]["id"]
                event = {"kind": "reward", "name": "click", "item": item, "value": 1.0}
                server.feedback(decision["receipt"], event)
    return folder


@pytest.mark.parametrize(("name", "suffix"), [("obp", ".npz"), ("csv", ".csv"), ("dsjson", ".dsjson.zst")])
def test_the_command_exports_what_has_a_reward(data, tmp_path, capsys, name, suffix):
    """20 clicked positions; the other 60 rows wait for theirs."""
    file: Path = tmp_path / f"rows{suffix}"
    words = ["export", "--data", str(data), "--surface", "shop", "--format", name, "-o", str(file)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out == f"{file}: 20 rows of 40 decisions; left out: 60 no reward yet\n"
    found = only(file)
    assert [(one["reward"], one["context"]) for one in found] == [(1.0, {})] * 20
    assert cli.main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["left_out"]["no_reward_yet"]) == (20, 60)


def test_a_wrong_suffix_is_refused(data, tmp_path, capsys):
    words = ["export", "--data", str(data), "--surface", "shop", "--format", "csv", "-o", str(tmp_path / "rows.npz")]
    assert cli.main(words) == 2
    assert "rows.npz: format csv is written to a file whose name ends in .csv" in capsys.readouterr().err
