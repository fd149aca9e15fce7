"""banditd evaluate: its document, its statuses, its refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from offline_eval.commands import names
from offline_eval.diagnostics import Thresholds
from offline_eval.formats import FORMATS
from offline_eval.intervals import METHODS
from offline_eval.targets import GRAMMAR
from service.cli import main
from tests.offline_eval.engine import EVERY, document, finding, own_rows, refusal, table, values
from tests.offline_eval.logs import write

BEST, WORST = "constant:2", "constant:0"


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    """600 rows of three actions worth .2, .4 and .6."""
    return table(tmp_path_factory.mktemp("logs") / "log.csv")


def test_the_document(csv, capsys):
    found = document(
        capsys, "evaluate", csv, "--policy", BEST, "--estimators", f"{EVERY},switch-dr:lam=5.3,cips(lam=2)"
    )
    assert found["n"] == 600
    assert {"value", "interval", "interval_method"} <= found["baseline"].keys()
    assert list(values(found)) == [*EVERY.split(","), "switch-dr(lam=5.3)", "cips(lam=2)"]
    for one in found["estimates"]:
        assert one["interval"][0] <= one["interval"][1]
        assert one["interval_method"]
    assert {"ess", "max_weight", "max_weight_share", "mean_weight", "unsupported_mass"} <= found["diagnostics"].keys()
    assert found["verdict"].startswith("supported")
    assert found["about"]["policy"] == BEST
    assert "ridge" in found["about"]["reward_model"]
    assert abs(values(found)["dr"][0] - 0.6) < 0.15
    assert "comparison" not in found


def test_names_of_help_are_those_of_their_modules():
    limits = Thresholds()
    assert tuple(FORMATS) == names.FORMATS
    assert tuple(METHODS) == names.INTERVALS
    assert names.POLICIES == GRAMMAR
    kept = (names.MIN_ESS, names.MAX_WEIGHT_SHARE, names.MAX_UNSUPPORTED)
    assert kept == (limits.min_ess, limits.max_weight_share, limits.max_unsupported)


@pytest.mark.parametrize(
    ("policy", "gate", "status", "said"),
    [
        (BEST, [], 0, "passed"),
        (WORST, [], 1, "failed"),
        (BEST, [".3"], 0, "passed"),
        (BEST, [".9"], 1, "failed"),
        (WORST, ["-1e3"], 0, "passed"),
        ("constant:9", [], 3, ""),
    ],
)
def test_the_gate(policy, gate, status, said, csv, capsys):
    assert main(["evaluate", str(csv), "--policy", policy, "--json", "--gate", *gate]) == status
    printed = capsys.readouterr()
    assert json.loads(printed.out)["verdict"].startswith("refused" if status == 3 else "supported")
    assert said in printed.err


def test_a_refusal_is_a_document_without_numbers(csv, capsys):
    found = document(capsys, "evaluate", csv, "--policy", "constant:9", status=3)
    assert found["estimates"] == []
    assert found["verdict"].startswith("refused")
    assert any(reason.startswith("unsupported actions") for reason in found["reasons"])
    assert main(["evaluate", str(csv), "--policy", "constant:9"]) == 3
    assert "No estimate is shown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--slate"], "--slate: not in this version"),
        (["--slate", "--json"], "--slate: not in this version"),
        (["--estimators", "ipss"], "'ipss' is no estimator; did you mean ips?"),
        (["--estimators", ""], "--estimators: needs at least one"),
        (["--estimators", "cascade-dr"], "cascade-dr: slate estimator: not in this version"),
        (["--estimators", "switch-dr:lam=x"], "must be PARAMETER=NUMBER"),
        (["--estimators", "bipw"], "bipw: needs the whole log in memory"),
        (["--estimators", "mips"], "mips: needs action embeddings"),
        (["--interval", "wald"], "invalid choice: 'wald'"),
        (["--alpha", "0"], "--alpha must lie in (0, 1), got 0"),
        (["--alpha", "nan"], "--alpha must lie in (0, 1), got nan"),
        (["--w-max", "0"], "--w-max must be > 0 and finite, got 0"),
        (["--w-max", "inf"], "--w-max must be > 0 and finite, got inf"),
        (["--seed", "-1"], "--seed must be >= 0, got -1"),
        (["--reward-range", "1"], "--reward-range must be LO,HI, got '1'"),
        (["--reward-range", "1,0"], "--reward-range must rise"),
        (["--gate", "x"], "--gate must be a number, got 'x'"),
        (["--gate", "nan"], "--gate must be finite"),
        (["--html", "/nowhere/page.html"], "--html /nowhere/page.html: must be a file in a folder that is there"),
        (["--html", "."], "--html .: must be a file in a folder"),
        (["--jobs", "0"], "--jobs must lie in [1, 256], got 0"),
        (["--actions", "2"], "--actions: the log has the action 2, which is not among these 2"),
        (["--actions", "/nowhere"], "--actions /nowhere: must be a number or a file"),
        (["--map", "reward"], "--map must be NAME=COLUMN"),
        (["--map", "reward=click"], "click"),
        (["--min-ess", "-1"], "--min-ess must be >= 0 and finite, got -1"),
        (["--max-weight-share", "nan"], "--max-weight-share must be >= 0 and finite, got nan"),
        (["--max-unsupported", "-1"], "--max-unsupported must be >= 0 and finite, got -1"),
        (["--default-reward", "nan"], "--default-reward must be finite, got nan"),
        (["--reward", "sales"], "the log has no reward sales; it has none by name"),
        (["--beta", ".5"], "--beta: the log has no reward satisfaction"),
        (["--beta", "2"], "--beta must lie in [0, 1], got 2"),
        (["--against", "nobody"], "--against must be uniform | logged"),
        (["--format", "own"], "line 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(flags, said, csv, capsys):
    assert said in refusal(capsys, "evaluate", csv, "--policy", BEST, *flags)


def test_a_log_that_is_not_there(tmp_path, capsys):
    assert "nope.csv" in refusal(capsys, "evaluate", tmp_path / "nope.csv", "--policy", BEST)
    assert "no files" in refusal(capsys, "evaluate", tmp_path, "--policy", BEST)


@pytest.mark.parametrize(
    ("name", "row", "value", "said"),
    [
        ("propensity", 7, 0, "line 9: propensity: got 0.0, must lie in (0, 1]"),
        ("propensity", 7, 1e-300, "line 9: propensity: got 1e-300, must be at least 1e-50"),
        ("reward", 7, "nan", "line 9: reward"),
        ("reward", 7, 1e200, "line 9: reward: got 1e+200, must lie within 1e+50 of 0"),
        ("reward", 7, "much", "line 9: reward"),
        ("age", 7, 1e200, "line 9: age: got 1e+200, must lie within 1e+50 of 0"),
    ],
)
def test_a_structural_fault_names_its_place_whatever_reads_it(name, row, value, said, tmp_path, capsys):
    values_of = {"propensity": [1 / 3] * 600, "reward": [0] * 600, "age": [3.0] * 600}[name]
    values_of[row] = value
    path = table(tmp_path / "log.csv", **{name: values_of})
    assert said in refusal(capsys, "evaluate", path, "--policy", BEST, "--json")


def test_thresholds_are_visible_and_can_be_changed(csv, capsys):
    def level(name, *flags, status):
        found = document(capsys, "evaluate", csv, "--policy", BEST, *flags, status=status)
        return finding(found, name)["level"], found["about"]["thresholds"]

    assert level("effective sample size", status=0) == ("ok", msgspec.to_builtins(Thresholds()))
    assert level("effective sample size", "--min-ess", "400", status=3)[0] == "refuse"
    assert level("largest weight", "--max-weight-share", ".001", status=3)[0] == "refuse"
    found = document(
        capsys, "evaluate", csv, "--policy", "uniform", "--actions", "4", "--max-unsupported", "1", status=3
    )
    assert finding(found, "unsupported actions")["level"] == "warn"


@pytest.mark.parametrize(
    ("fault", "name", "validates"),
    [
        ({"propensity": np.full(600, 0.2)}, "mean weight", 2),
        ({"timestamp": np.full(600, 1), "age": np.full(600, 1), "user": ["u"] * 600}, "duplicates", 2),
        ({"user": ["", *["u"] * 599]}, "users", 0),
    ],
)
def test_an_unsound_log_is_caught_by_name(fault, name, validates, tmp_path, capsys):
    path = table(tmp_path / "log.csv", **fault)
    found = document(capsys, "evaluate", path, "--policy", "uniform", "--cluster", "user", status=3)
    assert finding(found, name)["level"] == "refuse"
    assert any(reason.startswith(name) for reason in found["reasons"])
    assert main(["validate", str(path)]) == validates


def test_another_policy_is_compared_on_the_same_rows(csv, tmp_path, capsys):
    found = document(capsys, "evaluate", csv, "--policy", BEST, "--against", WORST, "--jobs", "2")
    alone = document(capsys, "evaluate", csv, "--policy", WORST)
    assert [one["estimator"] for one in found["comparison"]] == ["ips", "snips", "dr"]
    for one, first, second in zip(found["comparison"], found["estimates"], alone["estimates"], strict=True):
        assert one["difference"] == pytest.approx(first["value"] - second["value"], abs=1e-12)
        assert one["interval"][0] < one["difference"] < one["interval"][1]
        assert one["interval_method"] == "normal, paired"
    assert document(capsys, "evaluate", csv, "--policy", BEST, "--against", "constant:9", status=3)["comparison"] == []
    page = tmp_path / "page.html"
    assert main(["evaluate", str(csv), "--policy", BEST, "--against", WORST, "--html", str(page)]) == 0
    assert "ahead of constant:0 by" in capsys.readouterr().out
    assert "Against constant:0" in page.read_text()


def test_rewards_of_an_ad_load_table(tmp_path, capsys):
    rng = np.random.default_rng(1)
    raw = {"satisfaction": rng.normal(size=600), "revenue": rng.exponential(size=600)}
    path = table(tmp_path / "ads.csv", reward=None, **raw)

    def baseline(*flags):
        return document(capsys, "evaluate", path, "--policy", BEST, *flags)["baseline"]["value"]

    assert baseline("--reward", "revenue") == pytest.approx(raw["revenue"].mean(), abs=1e-12)
    assert baseline() == baseline("--reward", "satisfaction") == pytest.approx(raw["satisfaction"].mean(), abs=1e-12)
    assert baseline("--beta", ".7") == pytest.approx(0.0, abs=1e-12)
    assert "give one of them" in refusal(
        capsys, "evaluate", path, "--policy", BEST, "--beta", "1", "--reward", "revenue"
    )


def test_exploit_rows_are_left_out_unless_asked_for(tmp_path, capsys):
    rows = own_rows(600)
    greedy = {"mode": "exploit", "propensity": 1.0, "distribution": None}
    mixed = [msgspec.structs.replace(one, **greedy) if i % 4 == 0 else one for i, one in enumerate(rows)]
    path = write(tmp_path / "log.parquet", mixed)
    found = document(capsys, "evaluate", path, "--policy", "uniform")
    assert (found["n"], found["about"]["left_out"]) == (450, {"exploit mode": 150})
    found = document(capsys, "evaluate", path, "--policy", "uniform", "--include-exploit", status=3)
    assert (found["n"], found["estimates"]) == (600, [])


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_hostile_ids_steer_nothing(suffix, tmp_path, capsys):
    ids = ("\x1b[31mred", "[red]x[/red]", "z" * 128, "c\r\nd")
    path = write(tmp_path / f"log.{suffix}", own_rows(600, ids))
    page = tmp_path / "page.html"
    for command in (
        ["evaluate", str(path), "--policy", "uniform", "--html", str(page)],
        ["evaluate", str(path), "--policy", f"constant:{ids[0]}"],
        ["evaluate", str(path), "--policy", "uniform", "--actions", "2"],
        ["validate", str(path)],
    ):
        assert main(command) in (0, 2)
        printed = capsys.readouterr()
        assert all(one.isprintable() or one == "\n" for one in printed.out + printed.err + page.read_text())
    found = document(capsys, "evaluate", path, "--policy", "constant:[red]x[/red]")
    assert found["about"]["policy"] == "constant:[red]x[/red]"


def run(*arguments, **environment):
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_the_command_itself(csv):
    ended = run("evaluate", csv, "--policy", BEST, "--json", NO_COLOR="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["n"] == 600
    ended = run("evaluate", csv, "--policy", BEST)
    assert ended.returncode == 0
    assert all(one.isprintable() or one == "\n" for one in ended.stdout + ended.stderr)
    closed = f"{sys.executable} -m service.cli evaluate {csv} --policy {BEST} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", closed], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_help_does_not_import_what_only_evaluation_needs():
    code = (
        "import argparse, sys\n"
        "from offline_eval.commands import evaluate, validate\n"
        "for one in (evaluate, validate): one.add_arguments(argparse.ArgumentParser())\n"
        "print({'scipy', 'sklearn', 'pyarrow', 'matplotlib', 'numba', 'rich'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_the_page_is_written_whole(csv, tmp_path, capsys):
    page = tmp_path / "page.html"
    page.write_text("old")
    assert document(capsys, "evaluate", csv, "--policy", BEST, "--html", page)["n"] == 600
    assert page.read_text().startswith("<!")
    assert os.listdir(tmp_path) == ["page.html"]


def test_parquet_of_the_same_table_has_the_same_numbers(csv, tmp_path, capsys):
    from pyarrow import csv as reader

    pq.write_table(reader.read_csv(csv), tmp_path / "log.parquet")
    one, other = (document(capsys, "evaluate", path, "--policy", BEST) for path in (csv, tmp_path / "log.parquet"))
    assert values(one)["ips"] == values(other)["ips"]


def test_a_column_with_text_in_it_is_told_to_be_out_of_the_context(tmp_path, capsys):
    path = table(tmp_path / "log.csv", depth=["abc", *["1.5"] * 599])
    found = document(capsys, "evaluate", path, "--policy", "uniform")
    assert found["about"]["not in the context, no numbers"] == ["depth"]
    sound = document(capsys, "evaluate", table(path, depth=[1.5] * 600), "--policy", "uniform")
    assert "not in the context, no numbers" not in sound["about"]
