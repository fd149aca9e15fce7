"""The table of cells: sums that merge, chunks that come back byte for byte, growth that loses nothing."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bandits.cells import CellTable, cells_of, decode

INT64 = 2**63 - 1
MAX_Q = 16 << 15

keys = st.tuples(st.sampled_from([1, 2**64 - 1]), st.sampled_from([0, 7, 2**63]), st.integers(0, 200))
large = st.tuples(st.just(5), st.just(5), st.sampled_from([0, 2**18 - 1, 2**32 - 1]))
increments = st.tuples(
    keys | large, st.tuples(st.integers(0, MAX_Q**2), st.integers(-MAX_Q, MAX_Q), st.integers(-(2**40), 2**40))
)
rows = st.lists(increments, max_size=60)


def table_of(increments_given):
    table = CellTable(rows=1, cells=65)
    for (name, arm, slot), (weight_sq, weight, reward) in increments_given:
        table.add(name, arm, slot, weight_sq, weight, reward)
    return table


def values_of(table):
    return table.values(np.arange(table.n_chunks, dtype=np.int32))


def sums_of(table):
    return {(t, a, s): sums for t, a, s, sums in cells_of(values_of(table))}


def summed(increments_given):
    """The same in a dictionary."""
    sums = defaultdict(lambda: [0, 0, 0])
    for key, change in increments_given:
        for k in range(3):
            sums[key][k] += change[k]
    return {key: tuple(found) for key, found in sums.items()}


@given(rows)
def test_a_table_is_the_sum_of_its_increments(given_rows):
    table = table_of(given_rows)
    assert sums_of(table) == summed(given_rows)
    for (name, arm, slot), sums in summed(given_rows).items():
        assert table.get(name, arm, slot) == sums
    assert table.get(99, 99, 99) == (0, 0, 0)


@given(rows, rows)
def test_summing_two_tables_equals_summing_the_union(first, second):
    total = CellTable()
    for part in (first, second):
        CellTable().replace(decode(values_of(table_of(part))), total)
    assert sums_of(total) == sums_of(table_of(first + second))


@given(rows, st.permutations(range(20)))
def test_order_does_not_matter_nor_show_in_the_bytes(given_rows, order):
    shuffled = [given_rows[i] for i in order if i < len(given_rows)] + given_rows[20:]
    assert values_of(table_of(shuffled)) == values_of(table_of(given_rows))


@given(rows)
def test_values_decode_to_the_table_they_came_from(given_rows):
    values = values_of(table_of(given_rows))
    loaded = CellTable(rows=1, cells=65)
    loaded.replace(decode(values), CellTable())
    assert values_of(loaded) == values
    assert all(key[:1] == b"c" and len(key) == 21 for key in values)


def test_the_bytes_of_a_chunk_by_hand():
    """Slots 65 and 127 are bits 1 and 63 of chunk 1: epoch 0, the mask, then three sums for each."""
    table = CellTable()
    table.add(3, 4, 127, 7, 8, -9)
    table.add(3, 4, 65, 1, -2, 3)
    key = b"c" + (3).to_bytes(8, "little") + (4).to_bytes(8, "little") + (1).to_bytes(4, "little")
    mask = np.array([1 << 63 | 1 << 1], np.uint64).view(np.int64)[0]
    assert values_of(table) == {key: np.array([0, mask, 1, -2, 3, 7, 8, -9], np.int64).tobytes()}


@given(rows, rows)
def test_replace_moves_the_total_by_the_difference(before, more):
    """A partition's chunks grow; the total, which other partitions are part of, grows by as much."""
    other = table_of([((1, 7, 3), (5, 6, 7)), ((9, 9, 9), (1, 1, 1))])
    total, partition = CellTable(), CellTable()
    CellTable().replace(decode(values_of(other)), total)
    partition.replace(decode(values_of(table_of(before))), total)
    partition.replace(decode(values_of(table_of(before + more))), total)
    expected = summed(before + more + [((1, 7, 3), (5, 6, 7)), ((9, 9, 9), (1, 1, 1))])
    assert sums_of(total) == expected
    assert sums_of(partition) == summed(before + more)


def test_replace_can_make_a_cell_smaller():
    total, partition = CellTable(), CellTable()
    for sums in ((10, 20, 30), (1, -2, 3)):
        partition.replace(decode(values_of(table_of([((1, 2, 3), sums)]))), total)
        assert partition.get(1, 2, 3) == total.get(1, 2, 3) == sums


def test_changed_chunks_are_told_once():
    table = table_of([((1, 7, 0), (1, 1, 1)), ((1, 7, 64), (1, 1, 1)), ((1, 7, 1), (1, 1, 1))])
    assert table.keys(table.take_changed())["chunk"].tolist() == [0, 1]
    assert table.take_changed().size == 0
    table.add(1, 7, 100, 1, 1, 1)
    assert table.keys(table.take_changed())["chunk"].tolist() == [1]
    table.add(1, 7, 100, 1, 1, 1)
    table.mark_clean()
    assert table.take_changed().size == 0


def test_growth_keeps_every_cell():
    """20,000 cells in full and in nearly empty chunks, far beyond what the table began with."""
    rng = np.random.default_rng(5)
    picked = [(1, arm, slot) for arm in range(60) for slot in range(256)]
    picked += [(2, int(arm), int(slot)) for arm, slot in rng.integers(0, 2**32, (5000, 2)).tolist()]
    order = rng.permutation(len(picked))
    table = table_of([(picked[i], (int(i), -int(i), 1)) for i in order])
    assert sums_of(table) == {key: (i, -i, 1) for i, key in enumerate(picked)}


def test_sums_saturate_at_int64_and_are_counted():
    table = CellTable()
    for _ in range(2):
        table.add(1, 1, 1, INT64 - 5, -INT64 + 5, INT64 - 5)
    assert table.get(1, 1, 1) == (INT64, -INT64, INT64)
    assert table.saturated == 3
    table.add(1, 1, 1, 1, 1, -1)
    assert table.get(1, 1, 1) == (INT64, -INT64 + 1, INT64 - 1)
    assert table.saturated == 4


def test_the_total_of_two_large_partitions_saturates_instead_of_turning_negative():
    """Of weight 16, 2**25 impressions of one cell fill an int64; two partitions may have that many each."""
    total = CellTable()
    for _ in range(2):
        CellTable().replace(decode(values_of(table_of([((1, 1, 1), (INT64, INT64, -INT64))]))), total)
    assert total.get(1, 1, 1) == (INT64, INT64, -INT64)
    assert total.saturated == 3
