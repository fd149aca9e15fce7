"""Retire entries on their way through updater, store and replica, and crashes in between."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits import cells
from bandits.names import arm_key
from bandits.records import Entry, Retire, Retired
from bandits.tombstones import stale_keys
from service.replica import Replica, slices
from service.store import StoreUnavailable
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from service.updater import Updater
from tests.bandits.strategies import NOW_US, TTL_US, retirements, retiring_logs
from tests.service.logs import ListLog, decided, decision, rewarded
from tests.service.test_replica import known, scanned
from tests.service.updaters import folded, follow, learned, meta_of, updater

TABLE, TOTALS = 7, 1
"""Of every decision that tests.service.logs makes."""


class Crashing(MemoryStore):
    """A store whose n-th write never returns: before it takes place, or after it."""

    def __init__(self, crash_at: int, *, done: bool) -> None:
        super().__init__(1)
        self.left, self.done = crash_at, done

    def apply(self, partition, token, values, *, start, stop):
        self._write(super().apply, partition, token, values, start=start, stop=stop)

    def delete(self, partition, token, keys, *, at):
        self._write(super().delete, partition, token, keys, at=at)

    def _write(self, write, *given, **more):
        self.left -= 1
        if self.left != 0 or self.done:
            write(*given, **more)
        if self.left == 0:
            raise StoreUnavailable("crashed")


def retire(*rows):
    return Retire(rows, NOW_US + TTL_US)


class CrashingClaims(MemoryStore):
    """A store whose n-th apply, delete or claim from a moment on fails."""

    left = 0

    def apply(self, *given, **more):
        self._count()
        super().apply(*given, **more)

    def delete(self, *given, **more):
        self._count()
        super().delete(*given, **more)

    def claim(self, partition):
        self._count()
        return super().claim(partition)

    def _count(self):
        self.left -= 1
        if self.left == 0:
            raise StoreUnavailable("crashed")


def put(log, entries, append_us=NOW_US, partition=0):
    log.append_us = append_us
    log.put(entries, partition)


def log_with_retirements():
    """Three arms learned; b retired; learned again; the whole table retired; learned again under later receipts."""
    log = ListLog()
    for number in range(3):
        put(log, [decided(decision(number, items=["a", "b", f"c{number}"])), rewarded(decision(number))])
    put(log, [retire(Retired(TABLE, arm_key("b")))], NOW_US + 1)
    later = decision(3, items=["a", "b"], issued_us=NOW_US + 2)
    put(log, [decided(later), rewarded(later, position=1)], NOW_US + 2)
    put(log, [retire(Retired(TABLE), Retired(TOTALS))], NOW_US + 3)
    put(log, [retire(Retired(TABLE, arm_key("a")))], NOW_US + 4)
    last = decision(4, items=["a", "d"], issued_us=NOW_US + 5)
    put(log, [decided(last), rewarded(last), rewarded(later)], NOW_US + 5)
    return log


def test_what_is_retired_is_gone_from_the_store_and_comes_back_from_nothing():
    """Of the last decision's two items over two slots four cells are left: 2**28, 2**14, and 2**29 for the reward."""
    log, store = log_with_retirements(), MemoryStore(1)
    one = updater(log, store)
    follow(one)
    sums, totals, names = scanned(store)
    expected = (1 << 28, 1 << 14)
    assert sums == {(TABLE, arm_key(i), s): (*expected, 1 << 29 if i == "a" else 0) for i in "ad" for s in (0, 64)}
    assert totals == {TOTALS: (2, 1 << 15)}
    assert sorted(names.values()) == ["a", "d"]
    assert one.mirror.counts["retired"] == 1
    assert learned(store) == folded(log)


def test_retire_frames_are_applied_alone_and_what_they_drop_goes_before_the_next_apply():
    class Watched(MemoryStore):
        def apply(self, partition, token, values, *, start, stop):
            assert stale_keys(dict(self.scan(0)), start) == []
            applies.append((start, stop))
            super().apply(partition, token, values, start=start, stop=stop)

    applies: list[tuple[int, int]] = []
    log = log_with_retirements()
    follow(updater(log, Watched(1)))
    assert [bounds for bounds in applies if bounds[0] != bounds[1]] == [(0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("crash_at", range(1, 13))
def test_a_crash_at_any_write_leads_to_the_same_state(crash_at, done):
    log, store = log_with_retirements(), Crashing(crash_at, done=done)
    one = updater(log, store)
    try:
        follow(one)
    except StoreUnavailable:
        stored = dict(store.scan(0))
        at = meta_of(store).next if b"m" in stored else 0
        left = set(stale_keys(stored, at))
        prefix = ListLog()
        prefix.frames[0] = log.frames[0][:at]
        assert {key: v for key, v in learned(store).items() if key not in left} == folded(prefix)
    again = updater(log, store)
    follow(again)
    assert learned(store) == folded(log)
    assert meta_of(store).next == 8


def test_an_updater_that_lives_on_after_a_failed_write_comes_to_the_same_state():
    for crash_at in range(1, 13):
        log, store = log_with_retirements(), Crashing(crash_at, done=True)
        one = updater(log, store)
        while meta_of_next(store) < 8:
            try:
                one.step()
            except StoreUnavailable:
                one.drop()
        one.step()
        assert learned(store) == folded(log), crash_at


def meta_of_next(store):
    return meta_of(store).next if store.read(0, [b"m"])[0] else 0


@given(retiring_logs(), st.integers(1, 3), st.integers(1, 40), st.integers(1, 12), st.booleans())
@settings(max_examples=40)
def test_the_store_is_the_fold_of_any_log_with_retirements(timed, size, max_keys, crash_at, done):
    log, store = ListLog(), Crashing(crash_at, done=done)
    for append_us, entry in timed:
        put(log, [entry], append_us)
    for _ in range(2):
        one = updater(log, store, max_frames=size, max_keys=max_keys)
        try:
            follow(one)
        except StoreUnavailable:
            continue
        break
    follow(updater(log, store))
    assert learned(store) == folded(log)


@given(retiring_logs())
@settings(max_examples=10)
def test_memory_and_sqlite_hold_the_same_after_retirements(timed):
    log = ListLog()
    for append_us, entry in timed:
        put(log, [entry], append_us)
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "s.sqlite", 1)) as file:
        memory = MemoryStore(1)
        for store in (memory, file):
            follow(updater(log, store))
        assert learned(file) == learned(memory) == folded(log)


def test_crashed_deletes_are_made_up_for_in_sqlite(tmp_path):
    log, path = log_with_retirements(), tmp_path / "s.sqlite"
    with closing(SqliteStore(path, 1)) as store:
        one = updater(log, store, max_frames=4)
        follow_until(one, 5)
        store.delete = fail  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            one.step()
        stale = stale_keys(dict(store.scan(0)), 6)
        assert {key[:1] for key in stale} == {b"c", b"t", b"n"}
    with closing(SqliteStore(path, 1)) as store:
        updater(log, store)
        assert stale_keys(dict(store.scan(0)), 6) == []
        follow(updater(log, store))
        assert learned(store) == folded(log)


def follow_until(one, stop):
    while one.meta.next < stop:
        one.step()


def fail(*given, **more):
    raise StoreUnavailable("the disk is away")


def replicated(replica):
    sums, _, names = known(replica)
    return sums, {arm: name for arm, name in names.items() if arm in {arm for _, arm, _ in sums}}


def update(replica, portion=2):
    """Poll and publish in portions; whether all rows have moved."""
    return [replica.publish(changes) is None for changes in slices(replica.poll(), portion)]


def test_a_replica_reads_a_partition_anew_and_gives_the_memory_of_what_was_retired_back(monkeypatch):
    monkeypatch.setattr(cells, "WASTED_CHUNKS", 1)
    log, store = ListLog(2), MemoryStore(2)
    them = [Updater(log, store, p, clock_us=lambda: NOW_US) for p in range(2)]
    for p in range(2):
        put(log, [decided(decision(p, items=["a", "b", f"only{p}"]))], partition=p)
    for one in them:
        follow(one)
    replica = Replica(store, 2)
    update(replica)
    old = replica.cells
    before, n_chunks = known(replica), old.n_chunks
    dead = [Retired(TABLE, arm_key(item)) for item in ("b", "only0")]
    put(log, [retire(*dead)], partition=0)
    follow(them[0])
    assert update(replica)[-1] is True
    assert replicated(replica) == (scanned(store)[0], {k: v for k, v in scanned(store)[2].items()})
    assert replica.cells.n_chunks == n_chunks - 2
    assert arm_key("only0") not in replica.names
    put(log, [retire(*dead)], partition=1)
    follow(them[1])
    assert update(replica)[-1] is True
    assert {arm for _, arm, _ in known(replica)[0]} == {arm_key("a"), arm_key("only1")}
    assert arm_key("b") not in replica.names
    kept = old.values(np.arange(old.n_chunks, dtype=np.int32))
    assert len(kept) == n_chunks
    assert len(before[0]) == 8


def test_scoring_keeps_its_table_while_little_of_it_is_gone():
    """Ten of 2,200 chunks leave, and 990 more: only a thousand are worth the copy of all others."""
    log, store = ListLog(), MemoryStore(1)
    for start in range(0, 2200, 100):
        put(log, [decided(decision(start, items=[f"i{i}" for i in range(start, start + 100)], n_slots=1))])
    one = updater(log, store)
    follow(one)
    replica = Replica(store, 1)
    update(replica)
    table, wanted = replica.cells, set(range(2200))
    for gone, is_kept in ((range(10), True), (range(10, 999), True), (range(999, 1000), False)):
        put(log, [retire(*[Retired(TABLE, arm_key(f"i{i}")) for i in gone])])
        follow(one)
        assert (not any(update(replica, 5000))) is is_kept is (replica.cells is table)
        wanted -= set(gone)
        assert known(replica)[0].keys() == {(TABLE, arm_key(f"i{i}"), 0) for i in wanted}
        assert known(replica)[2].keys() == {arm_key(f"i{i}") for i in wanted}
        assert replica.take_left() == {arm_key(f"i{i}"): set() for i in gone}
        assert replica.cells.n_chunks - replica.cells.n_gone == len(wanted)
    assert (replica.cells.n_chunks, replica.cells.n_gone) == (1200, 0)


def test_an_arm_is_gone_when_the_last_partition_has_let_go_of_it_and_may_come_back():
    log, store = ListLog(2), MemoryStore(2)
    them = [Updater(log, store, p, clock_us=lambda: NOW_US + 9) for p in range(2)]
    for p in range(2):
        put(log, [decided(decision(p, items=["a", "b"], n_slots=1))], partition=p)
    replica, a, b = Replica(store, 2), arm_key("a"), arm_key("b")

    def follow_all():
        for one in them:
            follow(one)
        update(replica)
        return replica.take_left(), replica.cells.n_gone

    assert follow_all() == ({}, 0)
    put(log, [retire(Retired(TABLE, b))], NOW_US + 1, partition=0)
    assert follow_all() == ({b: {TABLE}}, 0)
    put(log, [retire(Retired(TABLE, b))], NOW_US + 1, partition=1)
    assert follow_all() == ({b: set()}, 1)
    put(log, [retire(Retired(TABLE, a))], NOW_US + 1, partition=1)
    assert follow_all() == ({a: {TABLE}}, 1)
    put(log, [decided(decision(5, items=["b"], n_slots=1, issued_us=NOW_US + 2))], NOW_US + 2, partition=1)
    assert follow_all() == ({}, 0)
    assert known(replica, [TOTALS]) == scanned(store)


def test_a_replica_learns_that_keys_went_where_a_crash_came_before_the_new_token():
    """Before the keys are deleted, or after it: the replica has followed the apply, and the next claim tells it."""
    for crash_at in (2, 3):
        log, store = ListLog(), CrashingClaims(1)
        put(log, [decided(decision(0, items=["a", "b"]))])
        one = updater(log, store)
        follow(one)
        replica = Replica(store, 1)
        update(replica)
        put(log, [retire(Retired(TABLE, arm_key("b")))])
        store.left = crash_at
        with pytest.raises(StoreUnavailable):
            follow(one)
        update(replica)
        updater(log, store)
        update(replica)
        assert known(replica, [TOTALS]) == scanned(store), crash_at


def test_no_score_sees_a_partition_without_its_cells_while_it_is_read_anew():
    log, store = ListLog(), MemoryStore(1)
    put(log, [decided(decision(0, items=["a", "b", "c"]))])
    follow(updater(log, store))
    replica = Replica(store, 1)
    update(replica)
    a = (TABLE, arm_key("a"), 0)
    put(log, [retire(Retired(TABLE, arm_key("b")))])
    follow(updater(log, store))
    for portion in slices(replica.poll(), 1):
        replica.publish(portion)
        assert replica.cells.get(*a) == (1 << 28, 1 << 14, 0)
        assert replica.totals(TOTALS) == (3, 0)
    assert replica.cells.get(TABLE, arm_key("b"), 0) == (0, 0, 0)


@given(
    st.lists(st.tuples(retiring_logs(), st.integers(0, 1), st.sampled_from(["", "poll", "claim"])), max_size=4),
    st.lists(retirements(), min_size=1, max_size=3),
    st.integers(1, 5),
    st.sampled_from([1, 1000]),
)
@settings(max_examples=30)
def test_a_replica_equals_a_full_scan_after_any_retirements(steps, last, portion, wasted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "WASTED_CHUNKS", wasted)
        check_any_retirements(steps, last, portion)


def check_any_retirements(steps, last, portion):
    log, store = ListLog(2), MemoryStore(2)
    them = [Updater(log, store, p, clock_us=lambda: NOW_US, max_frames=2) for p in range(2)]
    replica = Replica(store, 2)
    for number, (timed, partition, then) in enumerate(steps):
        for append_us, entry in timed:
            if isinstance(entry, Entry):
                entry = replace(entry, receipt=replace(entry.receipt, boot=number))
            put(log, [entry], append_us, partition)
        if then == "claim":
            them = [Updater(log, store, p, clock_us=lambda: NOW_US) for p in range(2)]
        for one in them:
            follow(one)
        if then == "poll":
            update(replica, portion)
            assert known(replica, scanned(store)[1])[:2] == scanned(store)[:2]
    for entry in last:
        put(log, [entry], NOW_US + 100)
    for one in them:
        follow(one)
    update(replica, portion)
    assert known(replica, scanned(store)[1])[:2] == scanned(store)[:2]
    expected = scanned(store)
    sums, names = replicated(replica)
    assert names == {arm: name for arm, name in expected[2].items() if arm in {arm for _, arm, _ in sums}}
