"""The updater: the store is the fold of a log's prefix, whatever happens, or the partition is halted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bandits.mirror import encode_meta
from bandits.names import arm_key
from bandits.records import DECISION, ReceiptContext, encode_frame
from service.log import Frame
from service.store import MAX_KEYS, Fenced
from service.store_memory import MemoryStore
from service.updater import Halt, Updater
from tests.bandits.strategies import NOW_US, TTL_US, encode_entry, logs
from tests.service.logs import ListLog, decided, decision, rewarded
from tests.service.updaters import filled, folded, follow, halt, learned, meta_of, updater

HOUR_US = 3_600_000_000


class CountingStore(MemoryStore):
    """Remembers how many keys each write had."""

    def __init__(self) -> None:
        super().__init__(1)
        self.applied: list[int] = []
        self.deleted: list[int] = []

    def apply(self, partition: int, token: bytes, values: Mapping[bytes, bytes], *, start: int, stop: int) -> None:
        super().apply(partition, token, values, start=start, stop=stop)
        self.applied.append(len(values))

    def delete(self, partition: int, token: bytes, keys: list[bytes], *, at: int) -> None:
        super().delete(partition, token, keys, at=at)
        self.deleted.append(len(keys))


def test_a_fresh_store_is_claimed_at_zero_and_follows_the_log():
    log, store = filled(3), MemoryStore(1)
    one = updater(log, store)
    assert (one.meta.next, one.meta.topic) == (0, log.topic_id)
    assert one.step() == 3
    assert one.step() == 0
    meta = meta_of(store)
    assert (meta.next, meta.watermark, store.claim(0).next) == (3, NOW_US, 3)
    assert learned(store) == folded(log)


@given(st.lists(logs(2), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 40))
def test_the_store_is_the_fold_of_the_log(frames, max_frames, max_keys):
    log, store = ListLog(), MemoryStore(1)
    one = updater(log, store, max_frames=max_frames, max_keys=max_keys)
    for number, entries in enumerate(frames):
        log.put([replace(e, receipt=replace(e.receipt, boot=number)) for e in entries])
        if number % 2:
            follow(one)
    follow(updater(log, store, max_frames=max_frames, max_keys=max_keys))
    assert learned(store) == folded(log)
    assert meta_of(store).next == len(frames) == store.claim(0).next


def test_resent_frames_move_next_and_count_once():
    log, store = filled(2), MemoryStore(1)
    once = folded(log)
    log.append([(0, frame.body) for frame in log.frames[0]])
    one = updater(log, store)
    follow(one)
    assert meta_of(store).next == 4
    assert learned(store) == once
    assert one.mirror.counts["duplicates"] == 4


def test_whoever_is_fenced_off_claims_again_and_comes_to_the_same_state():
    log, store = filled(2), MemoryStore(1)
    first = updater(log, store)
    first.step()
    second = updater(log, store)
    log.put([decided(decision(2))])
    assert first.step() == 0
    assert first.step() == 1
    with pytest.raises(Fenced):
        store.apply(0, second.meta.token, {}, start=3, stop=3)
    log.put([rewarded(decision(2), position=1)])
    assert second.step() == 0
    follow(second)
    assert learned(store) == folded(log)
    assert meta_of(store).next == 4


def test_an_updater_of_today_goes_on_where_the_last_one_stopped():
    log, store = filled(3), MemoryStore(1)
    follow(updater(log, store))
    log.put([rewarded(decision(1), position=1), rewarded(decision(1))])
    follow(updater(log, store))
    assert learned(store) == folded(log)


def test_another_log_halts():
    store = MemoryStore(1)
    follow(updater(filled(), store))
    other = filled()
    other.topic_id = bytes(16)
    found = halt(other, store, "state is of log 0001.*this is 00")
    assert found.remedy == "there is no snapshot; or start with an empty data directory"


def test_a_log_without_its_beginning_and_no_state_halts():
    log = filled()
    del log.frames[0][0]
    halt(log, MemoryStore(1), "log begins at 1 and there is no state")


def test_a_log_that_begins_beyond_the_state_halts():
    log, store = filled(1), MemoryStore(1)
    follow(updater(log, store))
    for number in range(1, 4):
        log.put([decided(decision(number))])
    del log.frames[0][:2]
    halt(log, store, "log begins at 2, state stands at 1")


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_log_that_ends_before_the_state_halts(left):
    log, store = filled(3), MemoryStore(1)
    follow(updater(log, store))
    del log.frames[0][left:]
    halt(log, store, f"log ends at {left}, state stands at 3")


def test_a_trimmed_log_that_reaches_the_state_is_followed():
    log, store = filled(3), MemoryStore(1)
    follow(updater(log, store))
    log.put([decided(decision(3))])
    expected = folded(log)
    del log.frames[0][:3]
    follow(updater(log, store))
    assert learned(store) == expected


def test_frames_lost_under_a_running_updater_halt_it():
    log, store = filled(3), MemoryStore(1)
    one = updater(log, store)
    follow(one)
    del log.frames[0][1:]
    with pytest.raises(Halt, match=r"holds \[0, 1\), asked for 3.*the log lost frames"):
        one.step()


def test_a_hole_in_the_log_halts_and_leaves_the_state():
    log, store = filled(4), MemoryStore(1)
    del log.frames[0][2]
    halt(log, store, "log has frame 3 where 2 belongs")
    assert (learned(store), meta_of(store).next) == ({}, 0)


@pytest.mark.parametrize("body", [b"", b"BF", b"XX" + bytes(60)])
def test_a_damaged_frame_halts_and_leaves_the_state(body):
    log, store = filled(2), MemoryStore(1)
    log.frames[0][1] = Frame(1, NOW_US, body)
    halt(log, store, "frame 1 is damaged")
    assert (learned(store), meta_of(store).next) == ({}, 0)


@given(st.integers(0, 8 * len(filled(1).frames[0][0].body) - 1))
@example(8 * 35 + 7)
def test_any_flipped_bit_of_a_frame_halts(bit):
    """The sign of its original append time too, which would otherwise look like a wrong clock."""
    log = filled(1)
    body = bytearray(log.frames[0][0].body)
    body[bit // 8] ^= 1 << bit % 8
    log.frames[0][0] = Frame(0, NOW_US, bytes(body))
    halt(log, MemoryStore(1), "frame 0 is damaged")


@pytest.mark.parametrize("other", [encode_frame([encode_entry(decided(decision(5)))], bytes(16)), b"damaged"])
def test_another_frame_at_next_minus_one_halts(other):
    """A lost and refilled tail: only the last folded frame is looked at again."""
    log, store = filled(2), MemoryStore(1)
    follow(updater(log, store))
    log.frames[0][1] = Frame(1, NOW_US, other)
    halt(log, store, "frame 1 is not the one that was folded")


def test_an_append_time_an_hour_ahead_of_the_clock_halts_before_it_moves_the_watermark():
    log, store = filled(1), MemoryStore(1)
    follow(updater(log, store, now_us=NOW_US - HOUR_US))
    assert meta_of(store).watermark == NOW_US
    log.append_us += 2
    log.put([decided(decision(1))])
    halt(log, store, "frame 1 was appended 3600 s ahead of this machine's clock", now_us=NOW_US - HOUR_US + 1)
    assert meta_of(store).watermark == NOW_US


def test_an_imported_frame_is_judged_by_its_own_append_time():
    log, store = ListLog(), MemoryStore(1)
    log.append_us += 30 * 24 * HOUR_US
    log.put([decided(decision(0))], original_us=NOW_US)
    follow(updater(log, store, now_us=log.append_us))
    assert meta_of(store).watermark == NOW_US
    assert learned(store)


def test_state_of_another_fold_version_halts():
    log, store = filled(1), MemoryStore(1)
    follow(updater(log, store))
    later = msgspec.structs.replace(meta_of(store), fold_version=2)
    store.apply(0, store.claim(0).token, {b"m": encode_meta(later)}, start=1, stop=1)
    halt(log, store, "state was folded by version 2, this is 1")


def test_expired_keys_are_deleted_and_only_they():
    log, store = filled(2), MemoryStore(1)
    one = updater(log, store, now_us=NOW_US + 2 * TTL_US)
    follow(one)
    before = set(learned(store))
    assert one.expire() == 0
    log.append_us = NOW_US + TTL_US + HOUR_US + 1
    log.put([decided(decision(0, boot=10, issued_us=log.append_us, expires_us=log.append_us + TTL_US))])
    follow(one)
    gone = before - set(learned(store))
    assert gone == set()
    n = one.expire()
    gone = before - set(learned(store))
    assert len(gone) == n == 3
    assert {key[:9] for key in gone} == {kind + (9).to_bytes(8, "little") for kind in (b"d", b"b")}
    log.put([decided(decision(1, boot=10, issued_us=log.append_us, expires_us=log.append_us + TTL_US))])
    follow(one)
    assert one.expire() == 0


def test_whoever_is_fenced_off_while_expiring_claims_again():
    log, store = filled(1), MemoryStore(1)
    one = updater(log, store, now_us=NOW_US + 2 * TTL_US)
    follow(one)
    log.append_us = NOW_US + TTL_US + HOUR_US + 1
    log.put([])
    follow(one)
    updater(log, store, now_us=log.append_us)
    before = learned(store)
    one.expire()
    assert learned(store) == before
    assert one.expire() > 0
    assert len(learned(store)) < len(before)


def wide(number: int, n_keys: int):
    """A decision with as many keys as an entry may have, all of them its own."""
    receipt = decision(number, items=[f"item{number}"], n_slots=n_keys - 12, boot=number, totals=number)
    return decided(receipt)


def test_frames_of_the_largest_size_never_make_an_apply_too_large():
    """Frames of 3,000 keys, and small ones with a boot and a totals table of their own in every entry."""
    log, store = ListLog(), CountingStore()
    number = 0
    for n_entries in (130, 0, 199, 199, 0, 250, 0):
        # Each touches dedupe bits, a boot and a total.
        small = [decision(i, items=["same"], n_slots=0, boot=i, totals=i) for i in range(number, number + n_entries)]
        log.put(map(decided, small) if small else [wide(number, 1500), wide(number + 1, 1500)])
        number += n_entries + 2
    one = Updater(log, store, 0, clock_us=lambda: NOW_US)
    follow(one)
    assert meta_of(store).next == 7
    assert max(store.applied) <= MAX_KEYS
    assert max(store.applied) > 3300
    assert learned(store) == folded(log)


def test_a_frame_beyond_its_bound_halts_with_its_offset():
    log, store = filled(1), MemoryStore(1)
    log.put([wide(1, 2000), wide(2, 2000)])
    halt(log, store, "frame 1 changes 3994 keys with those before it, more than 3500")
    assert (learned(store), meta_of(store).next) == ({}, 0)


def test_many_expired_keys_go_in_writes_of_the_largest_size():
    log, store = ListLog(), CountingStore()
    for start in range(0, 4000, 200):
        log.put([decided(decision(i, items=[], boot=i)) for i in range(start, start + 200)])
    one = updater(log, store, now_us=NOW_US + 2 * TTL_US)
    follow(one)
    log.append_us = NOW_US + TTL_US + HOUR_US + 1
    log.put([])
    follow(one)
    assert one.expire() == 8000
    assert store.deleted == [3500, 3500, 1000]
    assert learned(store) == {}


def test_an_entry_of_a_later_kind_is_skipped_and_counted():
    log, store = ListLog(), MemoryStore(1)
    entry = bytearray(encode_entry(decided(decision(0))))
    assert entry[0] == DECISION
    entry[0] = 77
    log.append([(0, encode_frame([bytes(entry), encode_entry(decided(decision(1)))], log.topic_id))])
    one = updater(log, store)
    follow(one)
    assert one.mirror.counts["malformed"] == 1
    assert one.mirror.counts["decisions"] == 1


def test_cells_of_items_and_of_named_arms_are_where_the_receipt_says():
    """A further context of the arm feature:x beside the item's own: both get the impression."""
    receipt = decision(0, items=["a"])
    own = receipt.contexts[0]
    shared = ReceiptContext(7, own.slots[:4], own.quanta[:4], "feature:x", arm_key("feature:x"))
    positions = (replace(receipt.positions[0], references=((0, b""), (1, b""))),)
    log, store = ListLog(), MemoryStore(1)
    log.put([decided(replace(receipt, contexts=(own, shared), positions=positions))])
    follow(updater(log, store))
    names = {value for key, value in store.scan(0) if key[:1] == b"n"}
    assert names == {b"a", b"feature:x"}


def test_a_frame_written_for_another_log_halts():
    log = ListLog()
    log.append([(0, encode_frame([], b"another log's id"))])
    updater = Updater(log, MemoryStore(1), 0, clock_us=lambda: NOW_US)
    with pytest.raises(Halt, match="was written for log 616e6f74"):
        updater.step()
