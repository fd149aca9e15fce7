"""Duplicated rows and missing users."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from offline_eval.dataset import BanditLog
from offline_eval.diagnostics import Fingerprints, Level, duplicates, repeated, users, without_user
from tests.offline_eval.diagnosis_logs import world


def log_of(timestamp, rows=None) -> BanditLog:
    log = world(0, n=1000).rounds(timestamp=timestamp, user=np.array([f"u{i % 7}" for i in range(1000)], object)).log
    return log if rows is None else log.rows(rows)


def test_duplicated_rows_are_found_and_refused():
    rows = np.concatenate([np.arange(1000), [3, 500, 3]])
    found = repeated(log_of(np.arange(1000) // 4, rows))
    assert found.tolist() == [1000, 1001, 1002]
    made = duplicates(len(found), len(rows), f"row {found[0]}")
    assert (made.name, made.level) == ("duplicates", Level.REFUSE)
    assert "3 of 1,003 rows repeat an earlier one (first: row 1000)" in made.detail


def test_rows_that_differ_in_one_column_are_no_duplicates():
    assert repeated(log_of(np.zeros(1000, int))).tolist() == []
    log = log_of(np.arange(1000), np.array([5, 5]))
    assert repeated(log).tolist() == [1]
    assert repeated(log.with_columns(user=np.array(["a", "b"], object))).tolist() == []
    assert repeated(log.with_columns(reward=[0.0, 1.0])).tolist() == []
    assert repeated(log.with_columns(timestamp=[0, 1])).tolist() == []


def test_without_timestamps_there_is_no_test():
    assert repeated(world(0, n=10).rounds().log) is None
    assert duplicates(None, 10).level is Level.NOTE
    assert duplicates(0, 10).level is Level.OK


@pytest.mark.parametrize("in_memory", [1 << 22, 1000])
def test_fingerprints_count_every_repeat(in_memory, tmp_path, monkeypatch):
    """In memory and spilled, handed over and merged: as many repeats as numpy finds among all."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2**64, 20_000, np.uint64)
    values[rng.integers(0, 20_000, 500)] = values[rng.integers(0, 20_000, 500)]
    with Fingerprints(in_memory) as whole:
        for start in range(0, 20_000, 5000):
            part = Fingerprints(in_memory)
            for batch in np.array_split(values[start : start + 5000], 7):
                part.add(batch)
            whole.merge(pickle.loads(pickle.dumps(part)))
        distinct, times = np.unique(values, return_counts=True)
        assert whole.n == 20_000
        assert whole.repeats() == 20_000 - len(distinct)
        assert whole.repeats() == 20_000 - len(distinct)
        assert whole.repeated(10).tolist() == distinct[times > 1][:10].tolist()
        assert bool(list(tmp_path.iterdir())) == (in_memory == 1000)
    assert list(tmp_path.iterdir()) == []


def test_files_of_forgotten_fingerprints_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    part = Fingerprints(10)
    part.add(np.arange(100, dtype=np.uint64))
    handed = pickle.dumps(part)
    del part
    assert len(list(tmp_path.iterdir())) == 1
    received = pickle.loads(handed)
    assert received.n == 100
    del received
    assert list(tmp_path.iterdir()) == []


def test_no_fingerprints_have_no_repeats():
    assert Fingerprints().repeats() == 0
    assert Fingerprints().repeated().tolist() == []


@pytest.mark.parametrize(
    ("user", "without"),
    [
        (np.array(["a", None, float("nan"), ""], object), 3),
        (np.array([0, 7], np.uint64), 1),
        (np.array([0, 7], np.int64), 0),
        (np.array(["", "b"]), 1),
        (np.array([np.nan, 1.0]), 1),
    ],
)
def test_missing_users_are_counted(user, without):
    assert without_user(user) == without


@pytest.mark.parametrize(
    ("without", "clustered", "level"),
    [
        (0, True, Level.OK),
        (10, False, Level.OK),
        (3, False, Level.WARN),
        (3, True, Level.REFUSE),
        (10, True, Level.REFUSE),
    ],
)
def test_missing_users_are_refused_where_intervals_need_them(without, clustered, level):
    made = users(without, 10, clustered)
    assert (made.name, made.level) == ("users", level)
    assert ("missing users" in made.detail) == (level >= Level.WARN)


def test_a_log_without_users_says_that_rows_count_as_independent():
    assert users(10, 10, False).detail == "no users in the log; rows count as independent"
