"""POLICY on the command line: what each kind is worth, and what it refuses."""

from __future__ import annotations

import json
import sys

import msgspec
import numpy as np
import pytest

from offline_eval.actions import Actions
from tests.bandits.ad_load_policies import FILE
from tests.offline_eval.engine import document, finding, own_rows, refusal, table, values
from tests.offline_eval.logs import write

IPS = ["--estimators", "ips"]
DR = ["--estimators", "dr"]


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    return table(tmp_path_factory.mktemp("logs") / "log.csv")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return write(tmp_path_factory.mktemp("logs") / "log.parquet", own_rows(600))


def law(n=600, k=3, seed=3):
    return np.random.default_rng(seed).dirichlet(np.ones(k), n)


def test_an_array_has_the_value_of_its_formula(csv, tmp_path, capsys):
    dist = law()
    held = np.genfromtxt(csv, delimiter=",", names=True, dtype=None, encoding=None)
    np.savez(tmp_path / "p.npz", action_dist=dist)
    np.savez(tmp_path / "named.npz", action_dist=dist[:, ::-1], actions=np.array(["2", "1", "0"]))
    wanted = np.mean(dist[np.arange(600), held["action"]] * 3 * held["reward"])
    for name in ("p.npz", "named.npz"):
        found = document(capsys, "evaluate", csv, "--policy", tmp_path / name, *IPS, "--min-ess", "1")
        assert values(found)["ips"][0] == pytest.approx(wanted, abs=1e-12)


ARRAYS = {
    "rows": ({"action_dist": law(599)}, "action_dist must have shape (600, 3) or with a last axis"),
    "flat": ({"action_dist": np.ones(600)}, "got (600,)"),
    "columns": ({"action_dist": law(k=4)}, "its action 3 is not among the log's 3; name all with --actions"),
    "sum": ({"action_dist": law() * 0.9}, "row 0: sum of action_dist"),
    "NaN": ({"action_dist": np.where(np.arange(3) == 1, np.nan, law())}, "row 0: action_dist[1]: got nan"),
    "text": ({"action_dist": law().astype(str)}, "action_dist must be numbers, got <U"),
    "pickle": ({"action_dist": np.array([[{}]], object)}, "cannot be read as npz: Object arrays cannot be loaded"),
    "pickled ids": ({"action_dist": law(), "actions": np.array(["a", None, 1], object)}, "Object arrays"),
    "name": ({"target": law()}, "needs the array action_dist, it has target"),
    "ids twice": ({"action_dist": law(), "actions": [0, 0, 1]}, "`actions` must differ from each other"),
    "ids few": ({"action_dist": law(), "actions": [0, 1]}, "`actions` must have 3 ids, as action_dist, got 2"),
    "id unknown": ({"action_dist": law(), "actions": [0, 1, 9]}, "its action 9 is not among the log's 3"),
    "positions": ({"action_dist": np.repeat(law()[..., None], 2, 2)}, "has 2 positions, the log does not tell them"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_does_not_fit(name, csv, tmp_path, capsys):
    arrays, said = ARRAYS[name]
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    line = refusal(capsys, "evaluate", csv, "--policy", path, *IPS)
    assert line.startswith(f"banditd evaluate: --policy {path}: ")
    assert said in line


def test_a_file_that_is_no_array(csv, own, tmp_path, capsys):
    path = tmp_path / "p.npz"
    path.write_text("hello")
    assert "cannot be read as npz" in refusal(capsys, "evaluate", csv, "--policy", path)
    assert "No such file" in refusal(capsys, "evaluate", csv, "--policy", tmp_path / "none.npz")
    np.savez(path, action_dist=np.full((600, 4), 0.25))
    assert "text, so it needs an array `actions`" in refusal(capsys, "evaluate", own, "--policy", path)
    assert "of one file, and the log has 2 files" in refusal(capsys, "evaluate", _folder(tmp_path), "--policy", path)


def _folder(path):
    folder = path / "logs"
    folder.mkdir()
    for i in range(2):
        write(folder / f"{i}.parquet", own_rows(300, seed=i))
    return folder


@pytest.mark.parametrize("policy", ["constant:b", "uniform"])
def test_positions_of_slates_draw_from_what_is_left(policy, tmp_path, capsys):
    path = write(tmp_path / "log.parquet", own_rows(400, positions=3))
    found = document(capsys, "evaluate", path, "--policy", policy, *IPS, status=3 if policy != "uniform" else 0)
    if policy == "uniform":
        assert found["diagnostics"]["mean_weight"] == pytest.approx(1.0, abs=0.1)
    else:
        assert finding(found, "unsupported actions")["level"] == "refuse"


def test_uniform_is_over_the_candidates_of_a_row(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for i, one in enumerate(own_rows(600)):
        few = ["a", "b"] if i % 2 else ["b", "c", "d"]
        item = str(rng.choice(few))
        share = 1 / len(few)
        changes = {"candidates": few, "distribution": [share] * len(few), "item": item, "propensity": share}
        rows.append(msgspec.structs.replace(one, **changes))
    found = document(capsys, "evaluate", write(tmp_path / "log.parquet", rows), "--policy", "uniform")
    assert found["diagnostics"]["max_weight"] == pytest.approx(1.0, abs=1e-12)
    assert values(found)["ips"][0] == pytest.approx(found["baseline"]["value"], abs=1e-12)


def test_the_logged_policy_has_the_logged_mean(csv, own, capsys):
    for path, flags in ((own, []), (csv, IPS)):
        found = document(capsys, "evaluate", path, "--policy", "logged", *flags)
        assert values(found)["ips"][0] == pytest.approx(found["baseline"]["value"], abs=1e-12)
    assert "--policy logged: the log lacks" in refusal(capsys, "evaluate", csv, "--policy", "logged", *DR)
    found = document(capsys, "evaluate", csv, "--policy", "logged")
    assert list(values(found)) == ["ips", "snips"]
    assert found["about"]["left out"].startswith("dr: needs")


MODULE = """
import numpy as np
def third(x): print("hello"); return np.full((len(x), 3), 1 / 3)
def old(x): return np.where(x[:, :1] > 40, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
def shape(x): return np.full((len(x), 2), 0.5)
def sums(x): return np.full((len(x), 3), 0.5)
def none(x): return None
def boom(x): raise RuntimeError("bad" + chr(10) + "day")
def quits(x): raise SystemExit(5)
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(MODULE)
    (tmp_path / "my_broken.py").write_text("import sys\nsys.exit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_policies", None)


@pytest.mark.usefixtures("module")
def test_a_function_of_the_context(csv, capsys):
    one = document(capsys, "evaluate", csv, "--policy", "my_policies:third")
    assert values(one) == values(document(capsys, "evaluate", csv, "--policy", "uniform"))
    held = np.genfromtxt(csv, delimiter=",", names=True, dtype=None, encoding=None)
    chosen = np.where(held["age"] > 40, 2, 0) == held["action"]
    found = document(capsys, "evaluate", csv, "--policy", "my_policies:old", *IPS, "--jobs", "2")
    assert values(found)["ips"][0] == pytest.approx(np.mean(3 * chosen * held["reward"]), abs=1e-12)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("my_policies:shape", "probability: got (600, 2), shape must be (600, 3)"),
        ("my_policies:sums", "log.csv: line 2: sum of probability: got 1.5, must be 1"),
        ("my_policies:none", "probability: got (), shape must be (600, 3)"),
        ("my_policies:boom", "raised RuntimeError: bad day"),
        ("my_policies:quits", "raised SystemExit: 5"),
        ("my_policies:number", "my_policies has no function number"),
        ("my_broken:f", "cannot import my_broken: SystemExit: 7"),
        ("my_nothing:f", "cannot import my_nothing: ModuleNotFoundError"),
    ],
)
def test_a_function_that_does_not_fit(policy, said, csv, capsys):
    line = refusal(capsys, "evaluate", csv, "--policy", policy)
    assert line.startswith(f"banditd evaluate: --policy {policy}: ")
    assert said in line


LOADS = FILE | {
    "loads": [0, 1, 2],
    "features": [{"name": "age", "mean": 40.0, "scale": 20.0}, {"name": "absent", "mean": 0.5, "scale": 1.0}],
    "model": {"type": "linear", "weights": [[0.0, 0.0], [1.0, 0.0], [-1.0, 3.0]], "bias": [0.0, 0.0, 0.0]},
    "temperature": 1.0,
    "floor": 0.05,
    "logging": [0.4, 0.3, 0.3],
}


def test_a_policy_file_finds_its_features_by_name(csv, tmp_path, capsys):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(LOADS))
    held = np.genfromtxt(csv, delimiter=",", names=True, dtype=None, encoding=None)
    z = (held["age"] - 40.0) / 20.0
    scores = np.exp(np.stack([np.zeros(600), z, -z], axis=1))
    dist = scores / scores.sum(axis=1, keepdims=True)
    found = document(capsys, "evaluate", csv, "--policy", path, *IPS)
    low = dist.min(axis=1)
    share = np.zeros(600)
    for load, mass in enumerate(LOADS["logging"]):
        short = dist[:, load] < LOADS["floor"]
        share[short] = np.maximum(share, (LOADS["floor"] - dist[:, load]) / (mass - dist[:, load]))[short]
    mixed = (1 - share)[:, None] * dist + share[:, None] * np.array(LOADS["logging"])
    assert low.min() < LOADS["floor"]
    wanted = np.mean(3 * mixed[np.arange(600), held["action"]] * held["reward"])
    assert values(found)["ips"][0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LOADS | {"loads": [0, 1, 7]}, "its load 7 is no action of the log, which has 0, 1, 2"),
        (LOADS | {"version": 9}, "version"),
        ([], "expected `object`, got `array`"),
    ],
)
def test_a_policy_file_that_does_not_fit(content, said, csv, tmp_path, capsys):
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(content))
    line = refusal(capsys, "evaluate", csv, "--policy", path)
    assert line.startswith(f"banditd evaluate: --policy {path}: ")
    assert said in line


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("constant:", "the id is missing"),
        ("diag_linucb:alpha=1", "this policy learns; use banditd replay"),
        ("uniformly", "--policy must be uniform | logged | constant:ID"),
        ("policy.json", "--policy policy.json: No such file"),
    ],
)
def test_a_policy_that_is_none(policy, said, csv, capsys):
    assert said in refusal(capsys, "evaluate", csv, "--policy", policy)


def test_actions_stand_in_the_order_of_columns():
    assert Actions.of(["10", 9, "-1"]).ids == ("-1", 9, "10")
    assert Actions.of(["b", "10", "9"]).ids == ("10", "9", "b")
    assert Actions.of(["1", 1]).ids == (1,)
    assert Actions.of(["01", "1"]).ids == ("01", "1")
    assert Actions.of([3, 4]).columns(["4", 3, "x"]).tolist() == [1, 0, -1, -1]
