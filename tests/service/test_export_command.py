"""banditd export on data directories: files whole or not at all, beside a running server."""

from __future__ import annotations

import gc
import json
import resource
import sqlite3
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from bandits.errors import UsageError
from bandits.own_log import SCHEMA
from service import cli
from service.export.writers import opened
from service.settings import RewardSettings
from tests.bandits.test_own_log import ROW
from tests.service.exporting import read
from tests.service.harness import SURFACES, running
from tests.service.processes import ROOT, command, environment

SUFFIXES = [".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst"]


def run(data, file, *more, surface="default"):
    return cli.main(["export", "--data", str(data), "--surface", surface, "-o", str(file), *more])


def refusal(capsys, *arguments, **given):
    """The one line that a refused export writes."""
    assert run(*arguments, **given) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A stopped server's directory: 40 decisions of three users, every other one clicked, one of them deferred."""
    folder = tmp_path_factory.mktemp("export") / "data"
    with running(folder, SURFACES) as server:
        for k in range(40):
            decision = server.recommend(surface="shop", items=["a", "b", "é"], n=2, user=f"u{k % 3}", deferred=k == 7)
            server.recommend(surface="home", items=["a"])
            if k % 2 and k != 7:
                item = decision["items"][1]["id"]
                server.feedback(
                    decision["receipt"],
                    {"kind": "reward", "name": "click", "item": item, "value": 1.0},
                    {"kind": "reward", "name": "seconds", "item": item, "value": 90.0},
                )
        shown = server.cells("shop")["surface"]
    return folder, shown


def test_rows_sum_to_what_cells_shows(data, tmp_path, capsys):
    """A click and 60 s, to which 90 are clipped, are 1.6. The fold rounds each of 38 to 2**-15 of the scale 4.1."""
    folder, shown = data
    assert run(folder, tmp_path / "rows.parquet", "--json", surface="shop") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    rows = read(tmp_path / "rows.parquet")
    assert (len(rows), err) == (78, "")
    left = document.pop("left_out")
    assert document == {"output": str(tmp_path / "rows.parquet"), "rows": 78, "decisions": 39}
    assert {reason: n for reason, n in left.items() if n} == {"deferred_not_activated": 1, "other_surfaces": 40}
    given = [row for row in rows if row["rewards"]]
    assert all(row["rewards"] == {"click": 1.0, "seconds": 60.0} and row["reward"] == 1.6 for row in given)
    assert shown["impressions"] == len(rows)
    assert shown["reward"] == pytest.approx(19 * 1.6, abs=38 * 4.1 * 2.0**-16) == sum(row["reward"] for row in given)
    assert {row["reward"] for row in rows if not row["rewards"]} == {None}
    assert len({row["user"] for row in rows}) == 3
    assert all(len(row["user"]) == 32 for row in rows)


def test_all_forms_have_equal_rows(data, tmp_path, capsys):
    folder, _ = data
    files = [tmp_path / f"rows{suffix}" for suffix in SUFFIXES]
    for file in files:
        assert run(folder, file, surface="shop") == 0
        assert capsys.readouterr().out == (
            f"{file}: 78 rows of 39 decisions; left out: 1 deferred not activated, 40 other surfaces\n"
        )
    first, *others = map(read, files)
    assert len(first) == 78
    assert all(other == first for other in others)
    assert pq.read_schema(files[0]).equals(SCHEMA)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files)


@pytest.mark.parametrize(("age_us", "reward"), [(100 * 10**6 - 1, None), (100 * 10**6, 7.5)])
def test_wait_window_and_default_come_from_the_configuration(data, tmp_path, monkeypatch, age_us, reward):
    """At an age of the youngest decision without reward; all that have one keep it."""
    config, file = tmp_path / "banditd.toml", tmp_path / "rows.jsonl"
    config.write_text("[surfaces.shop]\nwait_window_s = 100\ndefault_reward = 7.5\n")
    assert run(data[0], file, "--config", str(config), surface="shop") == 0
    youngest = max(row["timestamp"] for row in read(file) if not row["rewards"])
    now_us = (youngest - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + age_us
    monkeypatch.setattr("service.log_sqlite.wall_clock_us", lambda: now_us)
    assert run(data[0], file, "--config", str(config), surface="shop") == 0
    rows = read(file)
    assert {row["reward"] for row in rows if not row["rewards"] and row["timestamp"] == youngest} == {reward}
    assert {row["reward"] for row in rows if row["rewards"]} == {1.6}


def test_a_configuration_without_the_surface_says_that_defaults_are_used(data, tmp_path, capsys):
    config = tmp_path / "banditd.toml"
    config.write_text("[surfaces.home]\n")
    assert run(data[0], tmp_path / "rows.jsonl", "--config", str(config), surface="shop") == 0
    assert capsys.readouterr().err == (
        f"{config} has no surface shop: wait_window_s = 3600 and default_reward = 0.0 are used\n"
    )


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_log_without_decisions_is_an_empty_file(tmp_path, suffix):
    file = tmp_path / f"rows{suffix}"
    with running(tmp_path / "data"):
        assert run(tmp_path / "data", file) == 0
    assert read(file) == []
    if suffix == ".parquet":
        assert pq.read_schema(file).equals(SCHEMA)


def test_beside_a_running_server_which_goes_on(tmp_path):
    """As a process of its own, thrice, while requests come: what is settled is exported, and nothing is disturbed."""
    with running(tmp_path / "data") as server:
        for n in (1, 2, 3):
            decision = server.recommend(items=["a", "b"], n=1)
            server.reward(decision, 1.0)
            server.settle()
            words = command("export", "--data", str(tmp_path / "data"), "--surface", "default", "--json")
            words += ["-o", str(tmp_path / "rows.parquet")]
            ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=120)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert json.loads(ended.stdout)["rows"] == n
            assert [row["reward"] for row in read(tmp_path / "rows.parquet")] == [1.0] * n
        assert server.cells()["surface"]["reward"] == 3.0
    with running(tmp_path / "data") as again:
        assert again.cells()["surface"]["reward"] == 3.0


def test_events_of_an_older_generation_have_its_names(tmp_path):
    """The rewards change between two runs; both generations are exported, each with its own."""

    def configured(name, weight):
        return f'[surfaces.home]\n[[surfaces.home.rewards]]\nname = "{name}"\nweight = {weight}\n'

    for name, weight in (("click", 1.0), ("sale", 3.0)):
        with running(tmp_path / "data", configured(name, weight)) as server:
            server.reward(server.recommend(items=["a"]), 0.5)
            server.settle()
    assert run(tmp_path / "data", tmp_path / "rows.parquet", surface="home") == 0
    rows = read(tmp_path / "rows.parquet")
    assert [(row["rewards"], row["reward"]) for row in rows] == [({"click": 0.5}, 0.5), ({"sale": 0.5}, 1.5)]
    assert RewardSettings().name not in {name for row in rows for name in row["rewards"]}


def test_refusals_are_one_line(data, tmp_path, capsys):
    folder, _ = data
    assert "--surface attic: unknown; there are home, shop" in refusal(
        capsys, folder, tmp_path / "x.jsonl", surface="attic"
    )
    for name in ("x.csv", "x", "x.parquet.gz", ".jsonl"):
        line = refusal(capsys, folder, tmp_path / name, surface="shop")
        assert f"{name}: format own is written to a file whose name ends in .parquet, .jsonl, " in line
    line = refusal(capsys, folder, tmp_path / "nowhere" / "x.jsonl", surface="shop")
    assert "x.jsonl: cannot be written, No such file or directory; name another file by -o" in line
    assert "log.sqlite: not there" in refusal(capsys, tmp_path, tmp_path / "x.jsonl")
    assert "invalid choice: 'vw'" in refusal(capsys, folder, tmp_path / "x.jsonl", "--format", "vw")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl.gz"])
def test_an_export_that_fails_leaves_the_file_that_was_there(tmp_path, capsys, suffix):
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(b"before")
    with running(tmp_path / "data") as server:
        server.recommend(items=["a"])
        server.settle()
    with sqlite3.connect(tmp_path / "data" / "log.sqlite") as log:
        log.execute("UPDATE frame SET body = CAST(substr(body, 1, length(body) - 1) || x'ff' AS BLOB)")
    log.close()
    assert "frame 0 is damaged" in refusal(capsys, tmp_path / "data", file)
    assert file.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.toml", file.name]


def test_many_rows_make_several_groups_and_lose_none(tmp_path, monkeypatch, data):
    """Batches of 10 rows, groups of 30: all 78 rows, in four groups, the last one smaller."""
    monkeypatch.setattr("service.export.run._STEP_ROWS", 10)
    monkeypatch.setattr("service.export.own_parquet.GROUP_ROWS", 30)
    assert run(data[0], tmp_path / "rows.parquet", surface="shop") == 0
    assert run(data[0], tmp_path / "rows.jsonl", surface="shop") == 0
    found = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [30, 30, 18]
    assert read(tmp_path / "rows.parquet") == read(tmp_path / "rows.jsonl")


@contextmanager
def files_of(most_bytes):
    """No file of this process may grow beyond."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", SUFFIXES[:4])
@pytest.mark.parametrize("n_rows", [200, 60_000])
def test_a_file_that_the_disk_does_not_take_is_refused_and_taken_away(tmp_path, suffix, n_rows):
    """A limit of 1,000 bytes on files stands for the disk: met by the last rows, or by earlier ones."""
    noise = np.random.default_rng(1).random(n_rows).tolist()
    rows = [msgspec.structs.replace(ROW, score=score) for score in noise]
    file = tmp_path / f"rows{suffix}"

    def write():
        with files_of(1000), opened(file, "own") as writer:
            writer.write(rows)
            writer.write(rows[:1])

    with pytest.raises(UsageError, match="rows.*: cannot be written, .*large; name another file by -o"):
        write()
    gc.collect()
    assert list(tmp_path.iterdir()) == []
