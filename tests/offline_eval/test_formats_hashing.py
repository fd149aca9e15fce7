"""Hashes of columns: equal for equal values whatever holds them, and spread evenly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.formats import hashing

words = st.lists(st.none() | st.text(max_size=12) | st.text("ab", min_size=250, max_size=300), max_size=8)


@given(words)
def test_texts_have_one_hash_in_every_form(values):
    """Plain, large, encoded by a dictionary, and sliced out of a longer column."""
    plain = pa.array(values, pa.string())
    expected = hashing.column(plain).tolist()
    longer = pa.array(["x", *values, "yy"], pa.string()).slice(1, len(values))
    for form in (plain.cast(pa.large_string()), plain.dictionary_encode(), longer):
        assert hashing.column(form).tolist() == expected
    assert len(set(expected)) == len(set(values))


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_integers_by_value(values):
    expected = hashing.column(pa.array(values, pa.int64())).tolist()
    assert len(set(expected)) == len(set(values))
    assert hashing.column(pa.array(values, pa.int64()).dictionary_encode()).tolist() == expected


def test_whole_numbers_of_all_widths_are_one_value():
    forms = [pa.array([0, 1, 7], kind) for kind in (pa.int8(), pa.uint32(), pa.int64(), pa.float32(), pa.float64())]
    assert len({tuple(hashing.column(form).tolist()) for form in forms}) == 1
    assert hashing.column(pa.array([-0.0])) == hashing.column(pa.array([0.0]))


@given(st.lists(st.none() | st.lists(st.integers(0, 3), max_size=4), max_size=8))
def test_lists_by_what_they_hold_in_order(values):
    found = hashing.column(pa.array(values, pa.list_(pa.int64()))).tolist()
    assert len(set(found)) == len({None if value is None else tuple(value) for value in values})


def test_numbers_by_name_do_not_depend_on_the_order_of_columns():
    values = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    found = hashing.matrix(values, ["a", "b", "c"])
    assert found.tolist() == hashing.matrix(values[:, [2, 0, 1]], ["c", "a", "b"]).tolist()
    assert found[0] != found[1]


def test_users_without_id_are_zero():
    found = hashing.users(pa.array(["u", None, "v", "u"]))
    assert (found[1], found[0] == found[3], found[0] != found[2]) == (0, True, True)


def test_half_a_million_ids_do_not_collide_and_fill_all_bits():
    """Expected collisions 7e-9; every bit is set in half of the hashes, to 5 standard errors."""
    n = 500_000
    found = hashing.column(pa.array([f"user-{k}" for k in range(n)]))
    assert len(np.unique(found)) == n
    bits = np.array([((found >> np.uint64(b)) & np.uint64(1)).mean() for b in range(64)])
    assert np.abs(bits - 0.5).max() < 5 * 0.5 / np.sqrt(n)


def test_the_order_of_columns_matters_and_none_is_refused():
    one, other = hashing.column(pa.array([1])), hashing.column(pa.array([2]))
    assert hashing.combine([one, other]) != hashing.combine([other, one])
    with pytest.raises(ValueError, match="at least one column"):
        hashing.combine([])
