"""The first pass over a log: what it finds, and that shards merge to the same."""

from __future__ import annotations

import numpy as np
import pytest

from offline_eval.errors import BadLog
from offline_eval.survey import MAX_CATEGORIES, Survey
from tests.offline_eval.engine import own_rows, table
from tests.offline_eval.logs import chunks, write


def surveyed(found):
    survey = Survey()
    for chunk in found:
        survey.add(chunk)
    return survey


@pytest.fixture
def pieces(tmp_path):
    return chunks(write(tmp_path / "log.parquet", own_rows(500, positions=2)), rows=90)


def test_what_a_log_holds(pieces):
    found = surveyed(pieces)
    assert (found.rows, found.n, found.candidates, found.distributions) == (1000, 1000, 1000, 500)
    assert found.actions.ids == ("a", "b", "c", "d")
    assert found.columns == ("age", "vip")
    assert (found.reward, found.ordered) == ((0.0, 1.0), True)
    assert found.segments["position"] == {0: 500, 1: 500}
    assert (found.with_user, found.without_user) == (1000, 0)
    assert found.time[1] - found.time[0] == 499 * 1_000_000
    assert not found.uniform(None)
    with found.fingerprints as fingerprints:
        assert fingerprints.repeats() == 0


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_shards_merge_to_the_whole(cut, pieces):
    whole, first, second = surveyed(pieces), surveyed(pieces[:cut]), surveyed(pieces[cut:])
    first.merge(second)
    for name in ("rows", "n", "logged", "propensity", "reward", "time", "ordered", "candidates", "distributions"):
        assert getattr(first, name) == getattr(whole, name), name
    assert first.actions == whole.actions
    assert first.segments == whole.segments
    np.testing.assert_allclose(first.middle, whole.middle, rtol=1e-12)


def test_a_time_that_falls_between_shards_is_seen(pieces):
    later, earlier = surveyed(pieces[5:]), surveyed(pieces[:5])
    assert later.ordered
    assert earlier.ordered
    later.merge(earlier)
    assert not later.ordered


def test_empty_shards_change_nothing(pieces):
    whole, empty = surveyed(pieces), Survey()
    empty.merge(whole)
    whole.merge(Survey())
    assert (empty.n, empty.time, empty.ordered, empty.propensity) == (whole.n, whole.time, True, whole.propensity)


def test_uniform_logging_is_known_from_its_candidates(tmp_path):
    columns = {"propensity": np.full(600, 1 / 3), "allowed": ['"[0,1,2]"'] * 600}
    found = surveyed(chunks(table(tmp_path / "log.csv", **columns)))
    assert found.uniform(None)
    found = surveyed(chunks(table(tmp_path / "log.csv", **columns | {"propensity": [0.3, *[1 / 3] * 599]})))
    assert not found.uniform(None)


def test_the_most_frequent_categories_are_kept(tmp_path):
    position = np.repeat(np.arange(60), np.arange(60) + 1)
    found = surveyed(chunks(table(tmp_path / "log.csv", len(position), position=position)))
    kept = found.categories("position")
    assert len(kept) == MAX_CATEGORIES
    assert kept[0] == 59


@pytest.mark.parametrize("column", ["reward", "age"])
def test_a_number_whose_square_overflows_is_named(column, tmp_path):
    held = [0.0] * 600
    held[4] = -1e60
    with pytest.raises(BadLog, match=rf"line 6: {column}: got -1e\+60, must lie within 1e\+50 of 0"):
        surveyed(chunks(table(tmp_path / "log.csv", **{column: held})))
