"""banditd validate: its document, its statuses, and every fault by name."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from service.cli import main
from tests.offline_eval.engine import document, own_rows, table
from tests.offline_eval.logs import write


def check(found, name):
    return next(one for one in found["checks"] if one["name"] == name)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_sound_log(kind, tmp_path, capsys):
    path = tmp_path / f"log.{kind}"
    table(path) if kind == "csv" else write(path, own_rows(600))
    found = document(capsys, "validate", path)
    assert found["ok"]
    assert all(one.keys() == {"name", "ok", "detail", "level"} for one in found["checks"])
    assert check(found, "schema")["detail"].startswith("600 rows of 1 ")
    assert main(["validate", str(path)]) == 0
    printed = capsys.readouterr()
    assert "mean weight" in printed.out
    assert printed.err == ""


OWN = {
    "duplicates": (lambda rows: [*rows, *rows[10:20]], "10 of 610 rows repeat an earlier one (first: {path}: row 600)"),
    "mean weight": (
        lambda rows: [msgspec.structs.replace(one, propensity=one.propensity * 0.6) for one in rows],
        "propensities are wrong",
    ),
    "propensities": (
        lambda rows: [msgspec.structs.replace(one, propensity=rows[i - 1].propensity) for i, one in enumerate(rows)],
        "rows (first: {path}: row 0) log a propensity that is not their action's",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_an_unsound_log_is_one_line_that_names_what(name, tmp_path, capsys):
    change, said = OWN[name]
    path = write(tmp_path / "log.parquet", change(own_rows(600)))
    assert main(["validate", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert not found["ok"]
    assert not check(found, name)["ok"]
    assert said.format(path=path) in check(found, name)["detail"]
    assert printed.err.count("\n") == 1
    assert printed.err.startswith(f"banditd validate: {path}: ")


def test_a_softmax_logged_for_an_argmax_is_caught(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = []
    for one in own_rows(600):
        law = rng.dirichlet(np.ones(4))
        at = int(law.argmax())
        rows.append(msgspec.structs.replace(one, item="abcd"[at], propensity=float(law[at]), distribution=law.tolist()))
    found = document(capsys, "validate", write(tmp_path / "log.parquet", rows), status=2)
    assert not check(found, "propensities, reliability")["ok"]


def test_missing_users_are_a_doubt(tmp_path, capsys):
    rows = [msgspec.structs.replace(one, user=None if i % 3 else one.user) for i, one in enumerate(own_rows(600))]
    path = write(tmp_path / "log.parquet", rows)
    found = document(capsys, "validate", path)
    assert check(found, "users")["detail"].startswith("warning: missing users: 400 of 600 rows")
    assert main(["validate", str(path)]) == 0
    assert "doubt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("propensity", 1.5, "line 9: propensity: got 1.5, must lie in (0, 1]"),
        ("propensity", "", "line 9: propensity"),
        ("reward", "inf", "line 9: reward"),
        ("reward", "1e300", "line 9: reward: got 1e+300, must lie within 1e+50 of 0"),
    ],
)
def test_a_structural_fault_is_the_only_check(name, value, said, tmp_path, capsys):
    held: list[object] = [0.5] * 600
    held[7] = value
    path = table(tmp_path / "log.csv", **{name: held})
    found = document(capsys, "validate", path, status=2)
    assert [one["name"] for one in found["checks"]] == ["schema"]
    assert said in found["checks"][0]["detail"]
    assert main(["validate", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_an_impossible_log_is_told_by_a_mean_weight_above_1_only(tmp_path, capsys):
    """A CSV names no candidates: an action may have been impossible, so weights may sum to less, never to more."""
    low, high = (table(tmp_path / f"{p}.csv", propensity=np.full(600, p)) for p in (0.5, 0.2))
    assert document(capsys, "validate", low)["ok"]
    assert not check(document(capsys, "validate", high, status=2), "mean weight")["ok"]


def test_a_log_without_a_row_that_counts(tmp_path, capsys):
    rows = [msgspec.structs.replace(one, reward=None) for one in own_rows(5)]
    path = write(tmp_path / "log.parquet", rows)
    for command in (["validate"], ["evaluate", "--policy", "uniform"]):
        assert main([*command, str(path), "--json"]) == 2
        printed = capsys.readouterr()
        assert "has no row to evaluate (left out: 5 no reward yet)" in printed.err


def test_candidates_never_taken_are_no_doubt_where_their_probabilities_are_logged(tmp_path, capsys):
    """A uniform log of 60 items and 100 rows leaves some out by chance, and evaluate supports any policy on it."""
    items = [f"i{k}" for k in range(60)]
    rows = [
        msgspec.structs.replace(one, item=items[i % 50], candidates=items, distribution=None, propensity=1 / 60)
        for i, one in enumerate(own_rows(100))
    ]
    path = write(tmp_path / "log.parquet", rows)
    support = check(document(capsys, "validate", path), "support")
    assert support["level"] == "ok"
    assert "10 candidates never, whose probabilities are logged" in support["detail"]


def test_of_many_files_passed_over_five_are_named(tmp_path, capsys):
    write(tmp_path / "log.parquet", own_rows(600))
    for k in range(9):
        (tmp_path / f"note{k}.md").write_text("nothing")
    assert main(["validate", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("passed over")
    assert line.endswith("note4.md and 4 more")


def test_a_cut_parquet_file_is_a_document_as_well(tmp_path, capsys):
    path = tmp_path / "log.parquet"
    write(path, own_rows(200))
    path.write_bytes(path.read_bytes()[:-200])
    assert main(["validate", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert not found["ok"]
    assert found["checks"][0]["name"] == "schema"
    assert printed.err.count("\n") == 1
