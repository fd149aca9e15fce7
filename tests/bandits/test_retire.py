"""Retirement in the fold: what is retired leaves, what comes later begins from nothing, however the log is cut."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.cells import cells_of
from bandits.kernels.fold import HOUR_US
from bandits.mirror import Mirror
from bandits.names import arm_key
from bandits.records import (
    DECISION,
    EVENTS,
    MAX_RETIRED,
    REWARD,
    Entry,
    Event,
    RecordError,
    Retire,
    Retired,
    decode_frame,
    decode_retire,
    encode_frame,
    encode_retire,
)
from bandits.tombstones import stale_keys, tombstone_expired
from tests.bandits.fold_model import FoldModel
from tests.bandits.strategies import DETAILS, NOW_US, TTL_US, encode_entry, retirements, retiring_logs
from tests.bandits.test_mirror import chunks, one_decision, sums, totals

TOPIC = bytes(16)


def retire(*rows, until_us=NOW_US + TTL_US):
    return Retire(rows, until_us)


def frame(*entries):
    return encode_frame([encode_entry(e) for e in entries], TOPIC)


def cut(log, size):
    """Frames of a log in their order: (append time, entries), a retirement alone."""
    frames = []
    for (append_us, alone), group in groupby(log, lambda one: (one[0], isinstance(one[1], Retire))):
        entries = [entry for _, entry in group]
        step = 1 if alone else size
        frames += [(append_us, entries[start : start + step]) for start in range(0, len(entries), step)]
    return frames


def fold(log, size=3, each=True):
    """A mirror, and the values of a store that took its changes after each frame, or in the end."""
    mirror, values = Mirror(), {}
    for stop, (append_us, entries) in enumerate(cut(log, size), 1):
        mirror.fold(frame(*entries), append_us, stop)
        if each:
            take(mirror, values)
    take(mirror, values)
    return mirror, values


def take(mirror, values):
    values |= mirror.take_changes()
    for key in mirror.take_dropped():
        values.pop(key, None)


def without_stops(values):
    return {key: value[:8] + value[16:] if key[:1] == b"x" else value for key, value in values.items()}


def names(values):
    return {int.from_bytes(key[1:], "little"): v.decode() for key, v in values.items() if key[:1] == b"n"}


@given(retiring_logs(), st.integers(1, 5))
@settings(max_examples=200)
def test_the_compiled_fold_equals_its_model_with_retirements(log, size):
    model = FoldModel()
    for append_us, entry in log:
        if isinstance(entry, Retire):
            model.retire(entry, append_us)
        else:
            model.fold([entry], append_us)
    _, values = fold(log, size)
    assert {(t, a, s): list(found) for t, a, s, found in cells_of(chunks(values))} == dict(model.cells)
    assert totals(values) == dict(model.totals)
    assert names(values) == model.names
    found = {
        (int.from_bytes(key[1:9], "little"), None if key[17] else int.from_bytes(key[9:17], "little")): (
            int.from_bytes(value[:8], "little"),
            int.from_bytes(value[16:], "little"),
        )
        for key, value in values.items()
        if key[:1] == b"x"
    }
    assert found == model.retired


@given(retiring_logs(), st.integers(1, 5), st.integers(1, 5))
def test_frames_and_the_moments_of_taking_changes_do_not_matter(log, size, other):
    expected = fold(log, size)[1]
    assert fold(log, size, each=False)[1] == expected
    assert without_stops(fold(log, other)[1]) == without_stops(expected)


@given(retiring_logs(), st.data())
def test_a_mirror_loaded_between_retirements_goes_on_like_the_one_it_was_saved_from(log, data):
    frames = cut(log, 2)
    at = data.draw(st.integers(0, len(frames)))
    mirror, values = Mirror(), {}
    for stop, (append_us, entries) in enumerate(frames, 1):
        if stop == at:
            loaded = Mirror()
            loaded.load(values.items(), mirror.watermark)
            assert loaded.take_changes() == {}
            mirror = loaded
        mirror.fold(frame(*entries), append_us, stop)
        take(mirror, values)
    assert values == fold(log, 2)[1]


@given(retiring_logs(), retirements(), st.data())
def test_what_a_crash_leaves_of_dropped_keys_is_named(log, entry, data):
    """After the apply of a retire entry any part of the keys it dropped may still be in the store."""
    mirror, values = fold(log)
    next_offset = len(cut(log, 3)) + 1
    mirror.fold(frame(entry), NOW_US + 100, next_offset)
    changes, dropped = mirror.take_changes(), set(mirror.take_dropped())
    left = data.draw(st.sets(st.sampled_from(sorted(dropped)))) if dropped else set()
    stored = {key: value for key, value in (values | changes).items() if key not in dropped - left}
    assert sorted(stale_keys(stored, next_offset)) == sorted(left)
    assert stale_keys(stored, next_offset + 1) == []


def test_a_retired_arm_leaves_and_the_rest_of_its_table_stays():
    """Of one decision over slots 5 and 70 the arm a goes: b keeps its cell, the totals keep both impressions."""
    receipt = one_decision()
    log = [(NOW_US, Entry(DECISION, receipt, details=DETAILS)), (NOW_US, retire(Retired(1, arm_key("a"))))]
    mirror, values = fold(log)
    assert sums(values) == {(arm_key("b"), 5): (1 << 28, 1 << 14, 0)}
    assert (totals(values), names(values)) == ({1: [2, 0]}, {arm_key("b"): "b"})
    assert (mirror.tombstones, mirror.counts["retired"]) == (1, 0)


def test_a_receipt_issued_before_the_retirement_no_longer_counts_and_one_issued_after_it_does():
    """Retired at NOW + 5: the reward of a decision of NOW is skipped, a decision of NOW + 6 begins from nothing."""
    before, after = one_decision(), one_decision(bit=512, ordinal=1, issued_us=NOW_US + 6)
    log = [
        (NOW_US, Entry(DECISION, before, details=DETAILS)),
        (NOW_US + 5, retire(Retired(1))),
        (NOW_US + 6, Entry(EVENTS, before, events=(Event(0, REWARD, 0, 1 << 15, 1.0),))),
        (NOW_US + 6, Entry(DECISION, after, details=DETAILS)),
    ]
    mirror, values = fold(log)
    assert mirror.counts["retired"] == 1
    assert totals(values) == {1: [2, 0]}
    assert sums(values)[arm_key("a"), 5] == (1 << 28, 1 << 14, 0)
    assert mirror.lost == 0


def test_a_retired_decision_keeps_its_dedupe_bits_and_its_ordinal():
    receipt = one_decision(ordinal=3)
    log = [(NOW_US, retire(Retired(1))), *[(NOW_US, Entry(DECISION, receipt, details=DETAILS))] * 2]
    mirror, values = fold(log)
    assert {key[:1] for key in values} == {b"x", b"d", b"b"}
    assert (mirror.lost, mirror.counts["duplicates"], mirror.counts["retired"]) == (3, 1, 2)


def test_tombstones_leave_an_hour_after_the_last_receipt_that_they_keep_from_counting():
    """The entry says when: the fold knows of no configuration."""
    mirror, values = fold([(NOW_US, retire(Retired(1), Retired(1, 7), until_us=NOW_US + 5))])
    assert mirror.take_expired(NOW_US + 5 + HOUR_US) == []
    assert not any(tombstone_expired(value, NOW_US + 5 + HOUR_US) for value in values.values())
    assert all(tombstone_expired(value, NOW_US + 6 + HOUR_US) for value in values.values())
    assert set(mirror.take_expired(NOW_US + 6 + HOUR_US)) == set(values)
    assert mirror.tombstones == 0


def test_what_is_retired_again_stays_so_until_the_receipts_of_both_times_have_expired():
    """Receipts live shorter since the second time: those of before the first one may still come."""
    log = [(NOW_US, retire(Retired(1), until_us=NOW_US + 50)), (NOW_US + 9, retire(Retired(1), until_us=NOW_US + 20))]
    mirror, values = fold(log)
    assert mirror.take_expired(NOW_US + 50 + HOUR_US) == []
    assert set(mirror.take_expired(NOW_US + 51 + HOUR_US)) == set(values)


def test_many_tombstones_survive_growth_and_loading():
    rows = [Retired(1, arm) for arm in range(1, 1 + MAX_RETIRED)]
    mirror, values = fold([(NOW_US, retire(*rows)), (NOW_US, retire(*rows[:7]))])
    assert len(values) == mirror.tombstones == MAX_RETIRED
    loaded = Mirror()
    loaded.load(values.items(), mirror.watermark)
    loaded.fold(frame(Entry(DECISION, one_decision(), details=DETAILS)), NOW_US)
    assert loaded.counts["retired"] == 0
    assert loaded.tombstones == MAX_RETIRED


def test_growth_of_the_table_outlives_a_retirement():
    """500 arms, every other one retired, then all again with a later receipt: 500 cells of a, 250 of them twice."""
    first = [Entry(DECISION, renamed(i), details=DETAILS) for i in range(500)]
    again = [Entry(DECISION, renamed(i, bit=512 * (i + 500), ordinal=i + 500, issued_us=NOW_US + 9), details=DETAILS)
             for i in range(500)]  # fmt: skip
    dead = retire(*[Retired(1, arm_key(f"a{i}")) for i in range(0, 500, 2)])
    log = [(NOW_US, e) for e in first] + [(NOW_US + 1, dead)] + [(NOW_US + 9, e) for e in again]
    found = sums(fold(log, size=100)[1])
    assert [found[arm_key(f"a{i}"), 5][1] for i in range(500)] == [1 << 14, 2 << 14] * 250


def renamed(i, **changes):
    receipt = one_decision(bit=512 * i, ordinal=i)
    position = receipt.positions[0]
    position = type(position)(arm_key(f"a{i}"), f"a{i}", position.propensity, position.references)
    return one_decision(**({"bit": 512 * i, "ordinal": i} | changes), positions=(position,))


@given(retirements())
def test_a_retire_entry_survives_its_frame(entry):
    assert list(decode_frame(frame(entry))) == [entry]
    assert decode_retire(frame(entry)) == entry


RETIRE_ENTRY = encode_retire([Retired(1, 2)], NOW_US)


@pytest.mark.parametrize(
    "entries",
    [
        [RETIRE_ENTRY, RETIRE_ENTRY],
        [RETIRE_ENTRY, encode_entry(Entry(DECISION, one_decision(), details=DETAILS))],
        [encode_entry(Entry(DECISION, one_decision(), details=DETAILS)), RETIRE_ENTRY],
        [RETIRE_ENTRY + b"x"],
        [RETIRE_ENTRY[:-1]],
        [RETIRE_ENTRY[:-1] + b"\2"],
        [RETIRE_ENTRY[:-1] + b"\1"],
        [RETIRE_ENTRY[:5] + b"\1" + RETIRE_ENTRY[6:]],
        [RETIRE_ENTRY[:17] + b"\0\0" + RETIRE_ENTRY[19:]],
        [encode_retire([Retired(1, 2)], -1)],
    ],
    ids=[
        "two",
        "before another",
        "after another",
        "longer",
        "cut",
        "all is 2",
        "all with an arm",
        "receipt",
        "count",
        "until",
    ],
)
def test_a_retire_entry_that_is_malformed_or_not_alone_is_skipped_and_counted(entries):
    mirror = Mirror()
    body = encode_frame(entries, TOPIC)
    mirror.fold(body, NOW_US)
    assert mirror.counts["malformed"] >= 1
    assert mirror.tombstones == 0
    with pytest.raises(RecordError):
        list(decode_frame(body))


@pytest.mark.parametrize("n", [0, MAX_RETIRED + 1])
def test_a_retire_entry_has_a_bounded_number_of_rows(n):
    with pytest.raises(ValueError, match=f"has 1 to 2000 rows, got {n}"):
        encode_retire([Retired(1, arm) for arm in range(n)], NOW_US)


def test_a_retire_frame_needs_its_offset():
    mirror = Mirror()
    with pytest.raises(ValueError, match="needs the offset after it"):
        mirror.fold(frame(retire(Retired(1))), NOW_US)
    assert mirror.watermark == 0


@given(st.integers(0, 8 * len(RETIRE_ENTRY) - 1))
def test_a_retire_entry_with_any_flipped_bit_never_breaks_the_fold(bit):
    entry = bytearray(RETIRE_ENTRY)
    entry[bit // 8] ^= 1 << bit % 8
    mirror = Mirror()
    mirror.fold(encode_frame([bytes(entry)], TOPIC), NOW_US, 1)
    assert (mirror.tombstones == 1) != (mirror.counts["malformed"] > 0)
