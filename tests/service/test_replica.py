"""The replica: at every moment the sum over partitions of what the store holds, however it came to know."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.cells import cells_of
from service.replica import Replica, slices
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from service.updater import RING, Updater
from tests.bandits.strategies import NOW_US, logs
from tests.service.logs import ListLog, decided, decision, rewarded


class WatchedStore(MemoryStore):
    """Counts scans, and lets a test do something between two reads."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__(partitions)
        self.scans = 0
        self.before_read = lambda keys: None

    def scan(self, partition):
        self.scans += 1
        return super().scan(partition)

    def read(self, partition, keys):
        self.before_read(keys)
        return super().read(partition, keys)


def updaters(log, store):
    return [Updater(log, store, p, clock_us=lambda: NOW_US, max_frames=1) for p in range(log.partitions)]


def follow(them):
    for one in them:
        while one.step():
            pass


def scanned(store):
    """Sums of all cells and totals over all partitions, zeros left out, and names: straight from the keys."""
    cells, totals, names = defaultdict(lambda: np.zeros(3, np.int64)), defaultdict(lambda: np.zeros(2, np.int64)), {}
    for partition in range(store.partitions):
        values = dict(MemoryStore.scan(store, partition) if isinstance(store, MemoryStore) else store.scan(partition))
        for table, arm, slot, sums in cells_of({k: v for k, v in values.items() if k[:1] == b"c"}):
            cells[table, arm, slot] += sums
        for key, value in values.items():
            if key[:1] == b"t":
                totals[int.from_bytes(key[1:], "little")] += np.frombuffer(value, np.int64)
            if key[:1] == b"n":
                names[int.from_bytes(key[1:], "little")] = value.decode()
    found = {key: tuple(sums.tolist()) for key, sums in cells.items() if sums.any()}
    return found, {table: tuple(total.tolist()) for table, total in totals.items()}, names


def known(replica, tables=()):
    values = replica.cells.values(np.arange(replica.cells.n_chunks, dtype=np.int32))
    cells = {(t, a, s): sums for t, a, s, sums in cells_of(values) if any(sums)}
    return cells, {table: replica.totals(table) for table in tables}, dict(replica.names)


def assert_equal_to_a_scan(replica, store):
    expected = scanned(store)
    assert known(replica, expected[1]) == expected


def update(replica):
    return replica.publish(replica.poll())


def test_the_first_poll_loads_and_later_ones_read_what_changed():
    log, store = ListLog(), WatchedStore()
    log.put([decided(decision(0))])
    them = updaters(log, store)
    follow(them)
    replica = Replica(store, 1)
    store.scans = 0
    update(replica)
    assert store.scans == 1
    assert replica.poll() == []
    for number in range(1, 5):
        log.put([decided(decision(number, items=[f"i{number}"])), rewarded(decision(number - 1))])
        follow(them)
        update(replica)
        assert_equal_to_a_scan(replica, store)
        assert replica.next_of(0) == number + 1
    assert store.scans == 1


def test_an_empty_store_gives_nothing():
    replica = Replica(MemoryStore(2), 2)
    assert replica.poll() == []
    assert (replica.next_of(1), replica.totals(1), replica.cells.n_chunks) == (0, (0, 0), 0)


def test_the_version_names_where_all_partitions_stand():
    log, store = ListLog(2), MemoryStore(2)
    them = updaters(log, store)
    first, second = Replica(store, 2), Replica(store, 2)
    versions = []
    for number, partition in enumerate([0, 1, 1]):
        log.put([decided(decision(number))], partition)
        follow(them)
        update(first)
        versions.append(first.version)
    update(second)
    assert second.version == first.version
    assert len(set(versions)) == 3


def test_changed_rows_are_those_of_the_changed_cells():
    log, store = ListLog(), MemoryStore(1)
    them = updaters(log, store)
    replica = Replica(store, 1)
    log.put([decided(decision(0, items=["a"])), decided(decision(1, items=["b"]))])
    follow(them)
    assert update(replica).size == 4
    log.put([rewarded(decision(0, items=["a"]))])
    follow(them)
    rows = update(replica)
    arms = set(replica.cells.keys(rows)["arm"].tolist())
    assert (rows.size, len(arms)) == (2, 1)


@pytest.mark.parametrize("n_applies", [RING - 1, RING, RING + 1, 2 * RING + 3])
def test_a_poll_after_more_applies_than_the_ring_holds_reloads(n_applies):
    log, store = ListLog(), WatchedStore()
    them = updaters(log, store)
    log.put([decided(decision(0))])
    follow(them)
    replica = Replica(store, 1)
    update(replica)
    store.scans = 0
    for number in range(1, n_applies + 1):
        log.put([decided(decision(number, items=[f"i{number % 7}"]))])
    follow(them)
    update(replica)
    assert store.scans == (n_applies >= RING)
    assert_equal_to_a_scan(replica, store)


def test_a_new_owner_makes_the_replica_reload():
    log, store = ListLog(), WatchedStore()
    log.put([decided(decision(0))])
    follow(updaters(log, store))
    replica = Replica(store, 1)
    update(replica)
    log.put([rewarded(decision(0))])
    them = updaters(log, store)
    follow(them)
    store.scans = 0
    update(replica)
    assert store.scans == 1
    assert_equal_to_a_scan(replica, store)


def test_a_state_that_fell_back_takes_its_cells_out_of_the_sum():
    """A restored snapshot: the store stands where it stood before, and so do the sums."""
    log, store = ListLog(2), MemoryStore(2)
    them = updaters(log, store)
    log.put([decided(decision(0, items=["kept"]))], 0)
    log.put([decided(decision(1, items=["other"]))], 1)
    follow(them)
    snapshot = dict(store.scan(0))
    log.put([decided(decision(2, items=["gone"])), rewarded(decision(0, items=["kept"]))], 0)
    follow(them)
    replica = Replica(store, 2)
    update(replica)
    store.load(0, snapshot, 1)
    del log.frames[0][1:]
    log.put([decided(decision(3, items=["new"]))], 0)
    follow([Updater(log, store, 0, clock_us=lambda: NOW_US)])
    update(replica)
    expected = scanned(store)
    found = known(replica, expected[1])
    assert found[:2] == expected[:2]


def test_an_apply_in_the_middle_of_a_poll_is_not_lost():
    """It comes between the ring and the values, touching a cell that the ring read before does not name."""
    log, store = ListLog(), WatchedStore()
    them = updaters(log, store)
    log.put([decided(decision(0, items=["a"]))])
    follow(them)
    replica = Replica(store, 1)
    update(replica)
    log.put([rewarded(decision(0, items=["a"]))])
    follow(them)

    def apply_once(keys):
        if len(keys) > 1:
            store.before_read = lambda keys: None
            log.put([decided(decision(1, items=["b"])), decided(decision(2, items=["a"]))])
            follow(them)

    store.before_read = apply_once
    update(replica)
    update(replica)
    assert_equal_to_a_scan(replica, store)


def test_a_ring_that_is_overwritten_in_the_middle_of_a_poll_makes_it_reload():
    """The entry that named a's change is gone by the time it is read: the one in its place begins elsewhere."""
    log, store = ListLog(), WatchedStore()
    them = updaters(log, store)
    log.put([decided(decision(0, items=["a"]))])
    follow(them)
    replica = Replica(store, 1)
    update(replica)
    log.put([rewarded(decision(0, items=["a"]))])
    follow(them)

    def overwrite(keys):
        if keys != [b"m"]:
            store.before_read = lambda keys: None
            for number in range(1, RING + 1):
                log.put([decided(decision(number, items=["b"]))])
            follow(them)

    store.before_read = overwrite
    store.scans = 0
    update(replica)
    assert store.scans == 1
    assert_equal_to_a_scan(replica, store)


@given(
    st.lists(st.tuples(logs(2), st.integers(0, 1), st.sampled_from(["", "poll", "claim", "flood"])), max_size=8),
    st.integers(1, 5),
)
@settings(max_examples=30)
def test_it_equals_a_full_scan_after_any_sequence_of_applies_and_polls(steps, chunks):
    log, store = ListLog(2), MemoryStore(2)
    them = updaters(log, store)
    replica = Replica(store, 2)
    for number, (entries, partition, then) in enumerate(steps):
        log.put([replace(e, receipt=replace(e.receipt, boot=number)) for e in entries], partition)
        if then == "flood":
            for _ in range(RING + 1):
                log.put([], partition)
        if then == "claim":
            them = updaters(log, store)
        follow(them)
        if then == "poll":
            for portion in slices(replica.poll(), chunks):
                replica.publish(portion)
            assert_equal_to_a_scan(replica, store)
    update(replica)
    assert_equal_to_a_scan(replica, store)


@given(st.lists(logs(2), max_size=4))
@settings(max_examples=15)
def test_memory_and_sqlite_hold_the_same_bytes_for_the_same_log(frames):
    """But for the token, which is drawn anew at every claim."""
    log = ListLog()
    for number, entries in enumerate(frames):
        log.put([replace(e, receipt=replace(e.receipt, boot=number)) for e in entries])
    with tempfile.TemporaryDirectory() as folder, closing(SqliteStore(Path(folder) / "state.sqlite", 1)) as file:
        states = []
        for store in (MemoryStore(1), file):
            (one,) = updaters(log, store)
            follow([one])
            values = {key: value.replace(one.meta.token, bytes(16)) for key, value in store.scan(0)}
            states.append((values, store.claim(0).next))
        assert states[0] == states[1]
        assert states[0][1] == len(frames)


@given(logs(8))
@settings(max_examples=30)
def test_one_four_and_eight_partitions_give_the_same_sums(entries):
    found = []
    for partitions in (1, 4, 8):
        log, store = ListLog(partitions), MemoryStore(partitions)
        for entry in entries:
            log.put([entry], entry.receipt.ordinal % partitions)
        follow(updaters(log, store))
        replica = Replica(store, partitions)
        update(replica)
        assert_equal_to_a_scan(replica, store)
        found.append(known(replica, scanned(store)[1]))
    assert found[0] == found[1] == found[2]


def test_a_published_slice_is_a_part_and_the_last_one_says_where_it_stands():
    log, store = ListLog(), MemoryStore(1)
    log.put([decided(decision(0, items=["a", "b", "c"], n_slots=3))])
    follow(updaters(log, store))
    replica = Replica(store, 1)
    portions = list(slices(replica.poll(), 4))
    assert [len(portion) for portion in portions] == [1, 1, 1]
    parts = [part for portion in portions for part in portion]
    assert [part.cells.keys.size for part in parts] == [4, 4, 1]
    assert [part.reload for part in parts] == [True, False, False]
    for part in parts:
        assert replica.next_of(0) == 0
        replica.publish([part])
    assert replica.next_of(0) == 1
    assert_equal_to_a_scan(replica, store)


def test_small_changes_of_several_partitions_are_published_together():
    log, store = ListLog(3), MemoryStore(3)
    for partition in range(3):
        log.put([decided(decision(0, partition=partition, items=["a"]))], partition)
    follow(updaters(log, store))
    replica = Replica(store, 3)
    assert [len(portion) for portion in slices(replica.poll(), 100)] == [3]
    assert list(slices(replica.poll(), 100)) == []
