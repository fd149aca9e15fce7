"""The fold: equal to its model, blind to order, to splits and to repetition."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.cells import cells_of
from bandits.mirror import Mirror
from bandits.names import arm_key
from bandits.records import (
    DECISION,
    DEFERRED,
    EVENTS,
    IMPRESSION,
    REWARD,
    Entry,
    Event,
    Position,
    Receipt,
    ReceiptContext,
    RecordError,
    encode_frame,
)
from tests.bandits.fold_model import HOUR_US, FoldModel
from tests.bandits.strategies import DETAILS, NOW_US, TTL_US, encode_entry, logs

TOPIC = bytes(16)


def fold(entries, size=3, append_us=NOW_US):
    mirror, values = Mirror(), {}
    for start in range(0, len(entries), size):
        mirror.fold(encode_frame([encode_entry(e) for e in entries[start : start + size]], TOPIC), append_us)
        values |= mirror.take_changes()
    return mirror, values


def chunks(values):
    return {key: value for key, value in values.items() if key[:1] == b"c"}


def totals(values):
    return {
        int.from_bytes(key[1:], "little"): np.frombuffer(value, np.int64).tolist()
        for key, value in values.items()
        if key[:1] == b"t"
    }


def one_decision(**changes):
    """Two items over slots 5 and 70 with weights 1/2 and 1/4; the second item has no edge at slot 70."""
    context = ReceiptContext(1, np.array([5, 70], "<u4").tobytes(), np.array([1 << 14, 1 << 13], "<i4").tobytes())
    positions = (Position(arm_key("a"), "a", 0.5), Position(arm_key("b"), "b", 0.25, ((0, b"\x01"),)))
    receipt = Receipt(9, 0, 0, 0, 0, NOW_US, NOW_US + TTL_US, 1, "home", (0,), (context,), positions)
    return replace(receipt, **changes)


def sums(values):
    return {(arm, slot): found for _, arm, slot, found in cells_of(chunks(values))}


def test_one_decision_and_one_reward_by_hand():
    """Impressions add q*q and q: 2**28 and 2**14 at slot 5, 2**26 and 2**13 at slot 70; a 1 adds q * 2**15."""
    receipt = one_decision()
    reward = Entry(EVENTS, receipt, events=(Event(0, REWARD, 0, 1 << 15, 1.0),))
    _, values = fold([Entry(DECISION, receipt, details=DETAILS), reward])
    assert sums(values) == {
        (arm_key("a"), 5): (1 << 28, 1 << 14, 1 << 29),
        (arm_key("a"), 70): (1 << 26, 1 << 13, 1 << 28),
        (arm_key("b"), 5): (1 << 28, 1 << 14, 0),
    }
    assert totals(values) == {1: [2, 1 << 15]}
    assert values[b"n" + arm_key("b").to_bytes(8, "little")] == b"b"


def test_a_lost_decision_heals_with_its_first_event_and_gaps_are_counted():
    """Ordinals 0 and 2 arrive, 1 is lost: one decision lost, and the impressions of 2 are there from its reward."""
    first, third = one_decision(), one_decision(bit=512, ordinal=2)
    mirror, values = fold(
        [Entry(DECISION, first, details=DETAILS), Entry(EVENTS, third, events=(Event(1, REWARD, 0, 1 << 15, 1.0),))]
    )
    assert mirror.lost == 1
    assert totals(values) == {1: [4, 1 << 15]}


def test_a_deferred_position_counts_by_its_own_event():
    receipt = one_decision(flags=DEFERRED)
    entries = [Entry(DECISION, receipt, details=DETAILS)]
    assert totals(fold(entries)[1]) == {}
    entries.append(Entry(EVENTS, receipt, events=(Event(1, IMPRESSION),)))
    assert totals(fold(entries)[1]) == {1: [1, 0]}
    entries.append(Entry(EVENTS, receipt, events=(Event(255, IMPRESSION),)))
    assert totals(fold(entries)[1]) == {1: [2, 0]}


def test_an_hour_past_expiry_at_the_watermark_an_entry_does_not_count():
    entry, edge = Entry(DECISION, one_decision(), details=DETAILS), NOW_US + TTL_US + HOUR_US
    assert fold([entry], append_us=edge)[0].counts["decisions"] == 1
    mirror, values = fold([entry], append_us=edge + 1)
    assert (mirror.counts["expired"], values) == (1, {})


def test_a_decision_issued_more_than_an_hour_ahead_does_not_count():
    entry = Entry(DECISION, one_decision(), details=DETAILS)
    assert fold([entry], append_us=NOW_US - HOUR_US)[0].counts["decisions"] == 1
    assert fold([entry], append_us=NOW_US - HOUR_US - 1)[0].counts["early"] == 1


def test_a_second_id_on_the_same_arm_is_skipped_and_counted():
    receipt = one_decision()
    other = replace(receipt, bit=512, ordinal=1, positions=(replace(receipt.positions[0], item="other"),))
    mirror, values = fold([Entry(DECISION, r, details=DETAILS) for r in (receipt, other)])
    assert mirror.counts["collisions"] == 1
    assert totals(values) == {1: [2, 0]}


def test_a_damaged_frame_changes_nothing():
    frame = bytearray(encode_frame([encode_entry(Entry(DECISION, one_decision(), details=DETAILS))], TOPIC))
    frame[-1] ^= 1
    mirror = Mirror()
    with pytest.raises(RecordError, match="checksum"):
        mirror.fold(bytes(frame), NOW_US)
    assert (mirror.take_changes(), mirror.watermark) == ({}, 0)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_entries_of_random_bytes_are_counted_and_skipped(entries):
    mirror = Mirror()
    mirror.fold(encode_frame(entries, TOPIC), NOW_US)
    assert mirror.take_changes() == {}


@given(logs())
def test_the_compiled_fold_equals_its_model(log):
    model = FoldModel()
    model.fold(log, NOW_US)
    mirror, values = fold(log)
    assert {(t, a, s): list(found) for t, a, s, found in cells_of(chunks(values))} == dict(model.cells)
    assert totals(values) == dict(model.totals)
    assert mirror.lost == sum(highest + 1 - seen for seen, highest in model.ordinals.values())
    bits = {key: np.frombuffer(value, np.uint64)[1:] for key, value in values.items() if key[:1] == b"d"}
    assert sum(int(word).bit_count() for words in bits.values() for word in words) == len(model.bits)


@given(logs(), st.data())
def test_order_and_frames_do_not_matter(log, data):
    expected = fold(log)[1]
    shuffled = data.draw(st.permutations(log))
    assert fold(shuffled, size=data.draw(st.integers(1, 8)))[1] == expected


@given(logs(), st.data())
def test_resent_entries_count_once(log, data):
    again = data.draw(st.lists(st.sampled_from(log), max_size=5)) if log else []
    assert fold(log + again)[1] == fold(log)[1]


@given(logs(), st.lists(st.integers(0, 3), min_size=32, max_size=32))
def test_any_split_into_partitions_gives_the_same_sums(log, partition_of):
    """Every entry of a decision goes to one partition; the cells are the sum over partitions."""
    parts = [[e for e in log if partition_of[e.receipt.ordinal] == p] for p in range(4)]
    total: dict = {}
    for part in parts:
        for table, arm, slot, found in cells_of(chunks(fold(part)[1])):
            total[table, arm, slot] = tuple(np.add(total.get((table, arm, slot), (0, 0, 0)), found).tolist())
    assert total == {(t, a, s): found for t, a, s, found in cells_of(chunks(fold(log)[1]))}


@given(logs(), logs())
@settings(max_examples=50)
def test_a_loaded_mirror_goes_on_like_the_one_it_was_saved_from(first, second):
    second = [replace(e, receipt=replace(e.receipt, boot=77)) for e in second]
    whole = fold(first + second)[1]
    mirror, values = fold(first)
    loaded = Mirror()
    loaded.load(values.items(), mirror.watermark)
    assert loaded.take_changes() == {}
    for entry in second:
        loaded.fold(encode_frame([encode_entry(entry)], TOPIC), NOW_US)
    assert values | loaded.take_changes() == whole


def test_of_two_values_for_one_reward_the_first_wins():
    receipt = one_decision()
    rewards = [Entry(EVENTS, receipt, events=(Event(0, REWARD, 0, value, 0.0),)) for value in (100, -7)]
    assert totals(fold(rewards)[1]) == {1: [2, 100]}


def test_expired_dedupe_bits_leave_and_the_rest_stay():
    old = Entry(DECISION, one_decision(), details=DETAILS)
    new = Entry(
        DECISION, one_decision(boot=10, issued_us=NOW_US + TTL_US, expires_us=NOW_US + 2 * TTL_US), details=DETAILS
    )
    mirror, values = fold([old, new], append_us=NOW_US + TTL_US)
    gone = mirror.take_expired(NOW_US + TTL_US + HOUR_US + 1)
    assert sorted(key[:9] for key in gone) == [b"b" + (9).to_bytes(8, "little"), b"d" + (9).to_bytes(8, "little")]
    assert set(gone) < set(values)
    assert mirror.take_expired(NOW_US + TTL_US + HOUR_US + 1) == []
    mirror.fold(encode_frame([encode_entry(new)], TOPIC), NOW_US)
    assert mirror.counts["duplicates"] == 1


def test_growth_keeps_every_cell():
    """3,000 decisions of two fresh items pass every initial capacity; totals and cells are all there."""
    entries = []
    for i in range(3000):
        receipt = one_decision(bit=512 * i, ordinal=i)
        items = tuple(replace(p, item=f"{p.item}{i}", arm=arm_key(f"{p.item}{i}")) for p in receipt.positions)
        entries.append(Entry(DECISION, replace(receipt, positions=items), details=DETAILS))
    mirror, values = fold(entries, size=256)
    assert totals(values) == {1: [6000, 0]}
    assert len(sums(values)) == 9000
    assert mirror.lost == 0
