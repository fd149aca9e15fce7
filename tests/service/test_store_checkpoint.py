import shutil
import sys
import threading

import pytest

from service.store import Fenced, StoreUnavailable
from service.store_checkpoint import CheckpointedStore
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from tests.contracts import PARTITIONS, DurableStoreContract


@pytest.fixture
def open_at():
    """Open a checkpointed store on a path; files are closed at the end, without a last checkpoint."""
    files = []

    def open_path(path):
        files.append(SqliteStore(path, PARTITIONS))
        return CheckpointedStore(MemoryStore(PARTITIONS), files[-1])

    yield open_path
    for file in files:
        file.close()


@pytest.fixture
def crash(tmp_path, open_at):
    """Open a copy of the file as it would be found if the process died now."""
    copies = iter(range(100))

    def die():
        directory = tmp_path / f"crash{next(copies)}"
        directory.mkdir()
        for name in ("state.db", "state.db-wal"):
            if (tmp_path / name).exists():
                shutil.copy(tmp_path / name, directory / name)
        return open_at(directory / "state.db")

    return die


@pytest.fixture
def reopen(tmp_path, open_at):
    opened = []

    def open_again():
        for store in opened:
            store.close()
        opened[:] = [open_at(tmp_path / "state.db")]
        return opened[0]

    return open_again


@pytest.fixture
def eager_threads():
    """Threads change so often that a lock too few is seen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestCheckpointedStore(DurableStoreContract):
    pass


def test_a_crash_falls_back_to_values_and_offset_of_the_last_checkpoint(reopen, crash):
    store = reopen()
    token = store.claim(0).token
    store.apply(0, token, {b"a": b"1", b"b": b"1", b"m": b"meta"}, start=0, stop=5)
    store.delete(0, token, [b"b"], at=5)
    assert store.checkpointed(0) == 0
    assert store.checkpoint(0) == 3
    assert store.checkpointed(0) == 5
    store.apply(0, token, {b"a": b"2", b"c": b"2"}, start=5, stop=9)
    store.delete(0, token, [b"m"], at=9)

    found = crash()
    assert dict(found.scan(0)) == {b"a": b"1", b"m": b"meta"}
    claim = found.claim(0)
    assert (claim.next, claim.meta) == (5, b"meta")


def test_nothing_is_there_after_a_crash_before_the_first_checkpoint(reopen, crash):
    store = reopen()
    store.apply(1, store.claim(1).token, {b"a": b"1"}, start=0, stop=1)
    found = crash()
    assert found.scan(1) == []
    assert found.claim(1).next == 0


def test_a_checkpoint_of_all_partitions_counts_changed_keys_once(reopen):
    store = reopen()
    for p in range(PARTITIONS):
        token = store.claim(p).token
        for i in range(4):
            store.apply(p, token, {b"k": b"%d" % i, b"%d" % i: b""}, start=i, stop=i + 1)
    assert store.checkpoint() == PARTITIONS * 5
    assert store.checkpoint() == 0


def test_a_move_without_values_is_checkpointed(reopen, crash):
    store = reopen()
    store.apply(0, store.claim(0).token, {}, start=0, stop=8)
    assert store.checkpoint() == 0
    assert crash().claim(0).next == 8


def test_a_key_removed_and_written_again_is_there(reopen, crash):
    store = reopen()
    token = store.claim(0).token
    store.apply(0, token, {b"a": b"1", b"b": b"1"}, start=0, stop=1)
    store.checkpoint()
    store.delete(0, token, [b"a", b"b"], at=1)
    store.apply(0, token, {b"a": b"2"}, start=1, stop=2)
    store.checkpoint()
    assert crash().scan(0) == [(b"a", b"2")]


def test_a_failed_checkpoint_loses_nothing(tmp_path, crash):
    """While it fails, the first change is overwritten and another made: the next checkpoint holds the latest of all."""

    class FailingFile(SqliteStore):
        failing = True

        def write(self, partition, token, changes, *, start, stop):
            if self.failing:
                store.apply(0, held, {b"a": b"2", b"c": b"2"}, start=1, stop=2)
                store.delete(0, held, [b"b"], at=2)
                raise StoreUnavailable("disk full")
            super().write(partition, token, changes, start=start, stop=stop)

    file = FailingFile(tmp_path / "state.db", PARTITIONS)
    store = CheckpointedStore(MemoryStore(PARTITIONS), file)
    held = store.claim(0).token
    store.apply(0, held, {b"a": b"1", b"b": b"1", b"d": b"1"}, start=0, stop=1)
    with pytest.raises(StoreUnavailable, match="disk full"):
        store.checkpoint()
    assert store.checkpointed(0) == 0
    assert crash().scan(0) == []
    file.failing = False
    assert store.checkpoint() == 4
    found = crash()
    assert dict(found.scan(0)) == {b"a": b"2", b"c": b"2", b"d": b"1"}
    assert found.claim(0).next == 2
    store.close()


def test_refused_writes_leave_nothing_to_checkpoint(reopen):
    store = reopen()
    stale = store.claim(0).token
    store.claim(0)
    with pytest.raises(Fenced):
        store.apply(0, stale, {b"a": b"1"}, start=0, stop=1)
    with pytest.raises(Fenced):
        store.delete(0, stale, [b"a"], at=0)
    assert store.checkpoint() == 0
    assert store.checkpointed(0) == 0


def test_a_second_store_on_the_file_fences_off_the_first(tmp_path, open_at):
    first, second = open_at(tmp_path / "state.db"), open_at(tmp_path / "state.db")
    first.apply(0, first.claim(0).token, {b"a": b"first"}, start=0, stop=1)
    with pytest.raises(Fenced):
        first.checkpoint()
    second.apply(0, second.claim(0).token, {b"a": b"second"}, start=0, stop=1)
    assert second.checkpoint() == 1
    assert open_at(tmp_path / "state.db").scan(0) == [(b"a", b"second")]


def test_every_checkpoint_taken_during_applies_is_one_moment(reopen, crash, eager_threads):
    """After the apply to offset n, key k mod 7 holds the last k < n: any other content would be torn."""
    store = reopen()
    token = store.claim(0).token
    applied = threading.Event()

    def work():
        for n in range(3000):
            store.apply(0, token, {b"%d" % (n % 7): b"%d" % n, b"last": b"%d" % n}, start=n, stop=n + 1)
            if n % 5 == 4:
                store.delete(0, token, [b"last"], at=n + 1)
        applied.set()

    worker = threading.Thread(target=work)
    worker.start()
    checkpoints = 0
    while not applied.is_set() or not checkpoints:
        store.checkpoint(0)
        checkpoints += 1
        if checkpoints <= 15:
            found = crash()
            n = found.claim(0).next
            values = {b"%d" % (k % 7): b"%d" % k for k in range(max(0, n - 7), n)}
            with_last = values | {b"last": b"%d" % (n - 1)}
            # The delete is a call of its own, so a checkpoint may lie between it and its apply.
            assert dict(found.scan(0)) in ([with_last] if n % 5 else [values, with_last])
    worker.join()
    store.checkpoint()
    final = crash()
    assert final.claim(0).next == 3000
    assert dict(final.scan(0)) == {b"%d" % (k % 7): b"%d" % k for k in range(2993, 3000)}


def test_two_checkpoints_of_a_partition_follow_each_other(tmp_path):
    class MeetingFile(SqliteStore):
        """Its first write gives a second one time to begin beside it."""

        entered = 0
        met = threading.Event()
        begun = threading.Event()

        def write(self, partition, token, changes, *, start, stop):
            self.entered += 1
            self.begun.set()
            if self.entered == 2:
                self.met.set()
            else:
                assert not self.met.wait(0.1)
            super().write(partition, token, changes, start=start, stop=stop)

    file = MeetingFile(tmp_path / "state.db", PARTITIONS)
    store = CheckpointedStore(MemoryStore(PARTITIONS), file)
    token = store.claim(0).token
    store.apply(0, token, {b"a": b"1"}, start=0, stop=1)
    counts = []
    first = threading.Thread(target=lambda: counts.append(store.checkpoint(0)))
    first.start()
    file.begun.wait()
    store.apply(0, token, {b"b": b"1", b"c": b"1"}, start=1, stop=2)
    counts.append(store.checkpoint(0))
    first.join()
    assert counts == [1, 2]
    assert file.claim(0).next == 2
    file.close()


def test_a_checkpoint_waits_for_an_apply_under_way(tmp_path):
    """Else it could hold the apply's values without its offset, or the reverse."""
    applying, copied = threading.Event(), threading.Event()

    class MeetingMemory(MemoryStore):
        """Its apply gives a checkpoint time to pass by."""

        def apply(self, partition, token, values, *, start, stop):
            super().apply(partition, token, values, start=start, stop=stop)
            applying.set()
            passed.append(copied.wait(0.1))

    def copy():
        applying.wait()
        counts.append(store.checkpoint(0))
        copied.set()

    passed, counts = [], []
    file = SqliteStore(tmp_path / "state.db", PARTITIONS)
    store = CheckpointedStore(MeetingMemory(PARTITIONS), file)
    copier = threading.Thread(target=copy)
    copier.start()
    store.apply(0, store.claim(0).token, {b"a": b"1"}, start=0, stop=1)
    copier.join()
    assert passed == [False]
    assert counts == [1]
    file.close()


def test_close_copies_what_changed(tmp_path, open_at):
    store = open_at(tmp_path / "state.db")
    store.apply(2, store.claim(2).token, {b"a": b"1"}, start=0, stop=1)
    store.close()
    assert open_at(tmp_path / "state.db").scan(2) == [(b"a", b"1")]


def test_stores_of_different_partitions_are_refused(tmp_path):
    file = SqliteStore(tmp_path / "state.db", 2)
    with pytest.raises(ValueError, match="memory has 3 partitions, the file 2"):
        CheckpointedStore(MemoryStore(3), file)
    file.close()
