"""Dedupe bits are given once, ordinals are dense, and a boot does not outlive the fold's memory of it."""

from hypothesis import given
from hypothesis import strategies as st

from service.decision_ids import HOUR_US, DecisionIds

DAY_US = 24 * HOUR_US


def test_bits_follow_each_other_within_an_hour_and_begin_anew_in_the_next():
    ids = DecisionIds(2, DAY_US)
    taken = [ids.take(0, 21, 5 * HOUR_US), ids.take(0, 11, 5 * HOUR_US), ids.take(1, 21, 5 * HOUR_US)]
    assert [(one.hour, one.partition, one.bit) for one in taken] == [(5, 0, 0), (5, 0, 21), (5, 1, 0)]
    assert ids.take(0, 21, 6 * HOUR_US).bit == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 500), st.integers(0, 60 * HOUR_US)), max_size=60))
def test_no_bit_is_given_twice_whatever_the_clock_does(steps):
    ids = DecisionIds(3, DAY_US)
    given_bits: set = set()
    for partition, n_bits, now_us in steps:
        one = ids.take(partition, n_bits, now_us)
        bits = {(one.boot, one.hour, one.partition, one.bit + i) for i in range(n_bits)}
        assert not bits & given_bits
        given_bits |= bits


def test_ordinals_count_what_was_logged():
    ids = DecisionIds(2, DAY_US)
    assert ids.ordinal(ids.boot, 0) == 0
    ids.logged(ids.boot, 0)
    assert (ids.ordinal(ids.boot, 0), ids.ordinal(ids.boot, 1)) == (1, 0)


def test_a_partition_idle_for_longer_than_receipts_live_begins_a_new_boot_at_ordinal_0():
    ids = DecisionIds(2, DAY_US)
    first = ids.take(0, 1, HOUR_US)
    ids.logged(first.boot, 0)
    assert ids.take(1, 1, DAY_US).boot == first.boot
    later = ids.take(0, 1, DAY_US + HOUR_US + 1)
    assert later.boot != first.boot
    assert ids.ordinal(later.boot, 0) == 0
    assert ids.ordinal(first.boot, 0) == 1
