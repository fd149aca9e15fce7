import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.sqlite_file import UnusableFile
from service.store import Fenced, Gap, StoreUnavailable
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from tests.contracts import PARTITIONS, DurableStoreContract


@pytest.fixture
def reopen(tmp_path):
    opened = []

    def open_again():
        for store in opened:
            store.close()
        opened.append(SqliteStore(tmp_path / "state.db", PARTITIONS))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


class TestSqliteStore(DurableStoreContract):
    pass


keys = st.lists(st.binary(max_size=2), max_size=4, unique=True)
writes = st.tuples(st.just("apply"), st.dictionaries(st.binary(max_size=2), st.binary(max_size=6), max_size=5))
removals = st.tuples(st.just("delete"), keys)
claims = st.tuples(st.just("claim"), st.just(None))
operations = st.lists(
    st.tuples(st.one_of(writes, removals, claims), st.integers(0, 1), st.integers(-1, 1), st.booleans()), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(operations, keys)
def test_memory_and_file_hold_the_same_bytes_and_refuse_the_same(steps, asked):
    with tempfile.TemporaryDirectory() as directory, closing(SqliteStore(Path(directory) / "state.db", 2)) as file:
        stores = (MemoryStore(2), file)
        tokens = [[[store.claim(p).token] for p in range(2)] for store in stores]
        nexts = [0, 0]
        for (kind, content), partition, shift, stale in steps:
            start = max(0, nexts[partition] + shift)
            outcomes = []
            for store, held in zip(stores, tokens, strict=True):
                token = held[partition][0 if stale else -1]
                try:
                    if kind == "claim":
                        claim = store.claim(partition)
                        held[partition].append(claim.token)
                        outcomes.append((claim.next, claim.meta))
                    elif kind == "apply":
                        outcomes.append(store.apply(partition, token, content, start=start, stop=start + 2))
                    else:
                        outcomes.append(store.delete(partition, token, content, at=start))
                except (Fenced, Gap) as error:
                    outcomes.append((type(error), str(error)))
            assert outcomes[0] == outcomes[1]
            if kind == "apply" and outcomes[0] is None:
                nexts[partition] = start + 2
        for partition in range(2):
            memory, file_ = (sorted(store.scan(partition)) for store in stores)
            assert memory == file_
            assert stores[0].read(partition, asked) == stores[1].read(partition, asked)
            assert stores[0].claim(partition).next == stores[1].claim(partition).next == nexts[partition]


def test_a_write_of_many_keys_sets_and_removes_in_one_go(reopen):
    store = reopen()
    token = store.claim(0).token
    store.write(0, token, {b"%d" % i: b"v" for i in range(5000)}, start=0, stop=1)
    changes = {b"%d" % i: None if i % 2 else b"w" for i in range(4000)}
    store.write(0, token, changes, start=1, stop=2)
    expected = {b"%d" % i: b"w" for i in range(0, 4000, 2)} | {b"%d" % i: b"v" for i in range(4000, 5000)}
    assert dict(reopen().scan(0)) == expected


def test_a_write_that_fails_halfway_leaves_everything_as_it_was(reopen):
    """The value of the last key is not bytes, so SQLite refuses the statement after others have run."""
    store = reopen()
    token = store.claim(0).token
    store.write(0, token, {b"%d" % i: b"v" for i in range(600)}, start=0, stop=1)
    broken = {b"%d" % i: b"w" for i in range(600)} | {b"x": object()}
    with pytest.raises(StoreUnavailable, match=r"state\.db: Error binding parameter"):
        store.write(0, token, broken, start=1, stop=2)
    assert dict(store.scan(0)) == {b"%d" % i: b"v" for i in range(600)}
    store.apply(0, token, {b"0": b"w"}, start=1, stop=2)


def test_a_closed_store_is_unavailable(reopen):
    store = reopen()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.scan(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        store.claim(0)


def test_another_number_of_partitions_is_refused(tmp_path, reopen):
    reopen()
    with pytest.raises(UnusableFile, match="parameter store made with 3 partitions, 1 asked for"):
        SqliteStore(tmp_path / "state.db", 1)


def test_a_foreign_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    content = path.read_bytes()
    with pytest.raises(UnusableFile, match=r"state\.db: a SQLite file, but not a parameter store of banditd"):
        SqliteStore(path, 1)
    assert path.read_bytes() == content


def test_a_damaged_file_is_reported(tmp_path, reopen):
    store = reopen()
    store.write(0, store.claim(0).token, {b"%d" % i: bytes(1000) for i in range(300)}, start=0, stop=1)
    store.close()
    path = tmp_path / "state.db"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * (len(content) - len(content) // 2))
    with pytest.raises((UnusableFile, StoreUnavailable), match=r"state\.db: database disk image is malformed"):
        reopen().scan(0)
