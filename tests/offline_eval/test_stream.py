"""A log read in batches, shards and processes: the same numbers, whatever it is cut into."""

from __future__ import annotations

import json

import numpy as np
import pytest

from offline_eval import batches
from offline_eval.formats import find, parquet
from offline_eval.formats.chunk import ReadOptions
from offline_eval.stream import numbered, survey
from tests.offline_eval.engine import EVERY, document, own_rows, table, values
from tests.offline_eval.logs import write

POLICY = ["--policy", "constant:c", "--estimators", EVERY, "--against", "uniform"]
N = 800


@pytest.fixture(scope="module")
def rows():
    return own_rows(N)


def same(one, other, within=1e-12):
    """Numbers and findings."""
    first, second = values(one), values(other)
    assert list(first) == list(second)
    for name in first:
        assert second[name] == pytest.approx(first[name], abs=within)
    for name, value in one["diagnostics"].items():
        assert other["diagnostics"][name] == pytest.approx(value, abs=within)
    assert [(f["name"], f["level"]) for f in one["findings"]] == [(f["name"], f["level"]) for f in other["findings"]]
    for one_way, other_way in zip(one["comparison"], other["comparison"], strict=True):
        assert other_way["interval"] == pytest.approx(one_way["interval"], abs=within)


@pytest.mark.parametrize("flags", [["--interval", "cressie-read"], ["--interval", "bootstrap", "--cluster", "user"]])
def test_processes_and_cuts_change_nothing(flags, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 200)
    whole = write(tmp_path / "log.parquet", rows)
    cut = write(tmp_path / "cut.parquet", rows, group_rows=100)
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(3):
        write(folder / f"{i}.parquet", rows[i * 300 : (i + 1) * 300])
    assert len(find(cut)) == 4
    one = document(capsys, "evaluate", whole, *POLICY, *flags)
    for path, jobs in ((cut, "1"), (cut, "2"), (folder, "1"), (folder, "2")):
        same(one, document(capsys, "evaluate", path, *POLICY, *flags, "--jobs", jobs))


def test_small_batches_change_nothing(rows, tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "log.parquet", rows)
    one = document(capsys, "evaluate", path, *POLICY, "--interval", "confseq")
    monkeypatch.setattr(batches, "MAX_ROWS", 37)
    same(one, document(capsys, "evaluate", path, *POLICY, "--interval", "confseq"))


@pytest.mark.parametrize("interval", ["cressie-read", "bootstrap", "confseq"])
def test_the_order_of_rows_does_not_matter_and_is_said(interval, rows, tmp_path, capsys):
    """Neither do missing users: folds and groups go by what a row is, not by where it stands."""
    path = table(tmp_path / "log.csv", user=None)
    lines = path.read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(lines) - 1) + 1
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([lines[0], *(lines[i] for i in order)]) + "\n")
    flags = ["--policy", "constant:2", "--against", "uniform", "--estimators", EVERY, "--interval", interval]
    one, other = (document(capsys, "evaluate", log, *flags) for log in (path, shuffled))
    same(one, other, within=1e-9)
    assert "order" not in one["about"]
    assert other["about"]["order"] == "rows are not in the order of time, which does not matter here"
    mixed = write(tmp_path / "mixed.parquet", [rows[i] for i in np.random.default_rng(1).permutation(N)])
    sorted_log = write(tmp_path / "sorted.parquet", rows)
    same(*(document(capsys, "evaluate", log, *POLICY, "--interval", interval) for log in (sorted_log, mixed)), 1e-9)


@pytest.mark.parametrize("interval", ["bootstrap", "confseq"])
def test_rows_that_nothing_tells_apart_go_by_their_number_in_the_whole_log(interval, tmp_path, capsys):
    path = table(tmp_path / "log.csv", user=None, timestamp=None)
    lines = path.read_text().splitlines()
    folder = tmp_path / "parts"
    folder.mkdir()
    for i, start in enumerate(range(1, 601, 250)):
        (folder / f"{i}.csv").write_text("\n".join([lines[0], *lines[start : start + 250]][:251]) + "\n")
    flags = ["--policy", "constant:2", "--against", "uniform", "--estimators", EVERY, "--interval", interval]
    same(*(document(capsys, "evaluate", log, *flags) for log in (path, folder)))


def test_rows_of_parts_are_numbered_through(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 100)
    for i in range(2):
        write(tmp_path / f"{i}.parquet", rows[i * 400 : (i + 1) * 400], group_rows=100)
    shards = find(tmp_path)
    found = survey(shards, ReadOptions(), 1, lambda _: None)
    assert found.sizes == [100] * 8
    assert [one.first for one in numbered(shards, found)] == [0] * 4 + [400] * 4


def test_events_that_were_kept_for_others_count_for_them(tmp_path, capsys):
    """Vowpal Wabbit's pdrop: a row stands for 1 / (1 - pdrop) rows, one with _skipLearn for none."""
    rng = np.random.default_rng(0)
    lines, terms, counts = [], [], []
    for i, action in enumerate(rng.integers(0, 4, 600)):
        reward, dropped, skipped = float(rng.random() < 0.4), (0.0, 0.2, 0.5)[i % 3], i % 50 == 0
        others = [k + 1 for k in range(4) if k != action]
        event = {
            "_label_cost": -reward,
            "_label_probability": 0.25,
            "_label_Action": int(action) + 1,
            "_labelIndex": int(action),
            "EventId": f"e{i}",
            "Timestamp": f"2024-01-01T00:{i // 60:02}:{i % 60:02}Z",
            "a": [int(action) + 1, *others],
            "p": [0.25] * 4,
            "c": {"age": float(i % 5), "_multi": [{"_tag": f"t{k}"} for k in range(4)]},
            "pdrop": dropped,
            "_skipLearn": skipped,
        }
        lines.append(json.dumps(event))
        if not skipped:
            counts.append(1 / (1 - dropped))
            terms.append(counts[-1] * 4 * reward * (action == 1))
    path = tmp_path / "log.dsjson"
    path.write_text("\n".join(lines) + "\n")
    found = document(capsys, "evaluate", path, "--policy", "constant:t1", "--estimators", "ips,snips,dr")
    assert found["n"] == 588
    assert values(found)["ips"][0] == pytest.approx(sum(terms) / sum(counts), abs=1e-12)
