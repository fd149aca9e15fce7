"""What the first pass of a replay finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Chunk, Ids, Place, Ragged
from offline_eval.replay.scan import Scan, certain


def chunk(propensity, *, sizes=None, time=None, context=None, first=0) -> Chunk:
    """Rows that chose action 0; sizes: number of candidates, 0 where unknown."""
    n = len(propensity)
    ragged = None
    if sizes is not None:
        size = np.array(sizes)
        start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        ragged = Ragged(start, np.concatenate([np.arange(one) for one in size]), list(range(10)), size > 0)
    return Chunk(
        Place("a.csv", "line", np.arange(n) + first + 2),
        Ids(np.zeros(n, np.intp), [0]),
        np.zeros(n),
        np.array(propensity, float),
        timestamp=None if time is None else np.array(time, np.int64),
        candidates=ragged,
        context=np.empty((n, 0)) if context is None else np.array(context, float),
        names=() if context is None else ("x", "y"),
        index=np.arange(n),
    )


def scanned(*chunks: Chunk) -> Scan:
    found = Scan()
    for one in chunks:
        found.add(one)
    return found


@pytest.mark.parametrize(
    ("chunks", "n_actions", "uniform"),
    [
        ([chunk([0.25, 0.25])], 4, True),
        ([chunk([0.25]), chunk([0.2])], 4, False),
        ([chunk([0.25, 0.25])], 3, True),
        ([chunk([0.25, 0.25])], 5, False),
        ([chunk([0.3, 0.3])], 3, False),
        ([chunk([0.5, 0.25], sizes=[2, 4])], 4, True),
        ([chunk([0.5, 0.25], sizes=[2, 5])], 5, False),
        ([chunk([0.5, 0.25], sizes=[2, 0])], 4, True),
        ([chunk([1.0, 0.25], sizes=[1, 0])], 4, True),
        ([chunk([0.5]), chunk([0.5], sizes=[3])], 2, False),
        ([chunk([0.0125 + 1e-10, 0.0125])], 80, True),
    ],
)
def test_uniform_means_one_over_the_candidates_in_every_row(chunks, n_actions, uniform):
    """Where they are unknown: one propensity 1 / K, of which K - 3 = 1 action may never have been seen."""
    assert scanned(*chunks).uniform(n_actions) is uniform


def test_the_first_row_out_of_order_is_named_across_chunks():
    found = scanned(chunk([0.5, 0.5], time=[5, 7]), chunk([0.5, 0.5], time=[7, 9], first=2))
    assert found.unsorted is None
    found.add(chunk([0.5, 0.5], time=[8, 1], first=4))
    assert str(found.unsorted) == (
        "a.csv: line 6: timestamp: got 8, is earlier than the row before it (9): "
        "a learning policy needs a log sorted by time; sort it first"
    )


def test_the_largest_magnitudes_leave_missing_values_out():
    found = scanned(chunk([0.5], context=[[np.nan, -3.0]]), chunk([0.5], context=[[np.nan, 2.0]]))
    assert found.largest == {"x": 0.0, "y": 3.0}


def slotted(names: list[int]) -> Chunk:
    """A row whose context has these slots."""
    n = len(names)
    contexts = Ragged(np.array([0, n]), np.arange(n), names, np.ones(1, bool), np.ones(n))
    return replace(chunk([0.5]), slots=contexts)


def test_different_slots_are_gathered_and_ascend():
    found = scanned(slotted([7, 2]), slotted([]), slotted([2**32 - 1, 7]))
    assert found.slots is not None
    assert found.slots.tolist() == [2, 7, 2**32 - 1]


def test_slots_that_some_rows_do_not_have_are_not_used():
    assert scanned(slotted([7]), chunk([0.5])).slots is None
    assert scanned(chunk([0.5]), slotted([7])).slots is None


def test_more_slots_than_a_learner_holds_are_refused(monkeypatch):
    monkeypatch.setattr("offline_eval.replay.scan.MAX_CELLS", 3)
    with pytest.raises(BadLog, match="slots: got '4 different ones', a learner holds at most 3 numbers"):
        scanned(slotted([1, 2]), slotted([3, 4]))


def test_a_row_is_certain_only_where_it_had_a_choice():
    assert certain(chunk([1.0, 1.0, 1.0, 0.5], sizes=[1, 2, 0, 2])).tolist() == [False, True, True, False]
    assert certain(chunk([1.0, 0.5])).tolist() == [True, False]
