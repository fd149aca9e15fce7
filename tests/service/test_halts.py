"""A halted partition says so in its state, until somebody claims it again."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import numpy as np
import pytest

from bandits.mirror import decode_meta, encode_meta
from service.log import Frame
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from service.updater import Halt
from tests.bandits.strategies import NOW_US
from tests.service.harness import running
from tests.service.updaters import filled, folded, follow, halt, learned, meta_of, updater


def test_the_next_claim_clears_the_reason_of_a_halt():
    log, store = filled(2), MemoryStore(1)
    whole, log.frames[0][1] = log.frames[0][1], Frame(1, NOW_US, b"damaged")
    halt(log, store, "frame 1 is damaged")
    log.frames[0][1] = whole
    one = updater(log, store)
    assert (meta_of(store).halt, meta_of(store).token) == ("", one.meta.token)
    follow(one)
    assert learned(store) == folded(log)
    assert (meta_of(store).next, meta_of(store).halt) == (2, "")


def test_a_halt_leaves_where_the_partition_stands():
    log, store = filled(3), MemoryStore(1)
    follow(updater(log, store))
    before, meta = learned(store), meta_of(store)
    log.frames[0].append(Frame(3, NOW_US, b"damaged"))
    token = halt(log, store, "frame 3 is damaged") and meta_of(store).token
    assert learned(store) == before
    assert meta_of(store) == msgspec.structs.replace(meta, token=token, halt=meta_of(store).halt)


def test_a_halt_is_raised_where_the_state_cannot_take_its_reason():
    log, store = filled(2), MemoryStore(1)
    one = updater(log, store, max_frames=1)
    one.step()
    log.frames[0][1] = Frame(1, NOW_US, b"damaged")
    store.claim(0)
    with pytest.raises(Halt, match="frame 1 is damaged"):
        follow(one)
    assert (meta_of(store).next, meta_of(store).halt) == (1, "")


CHUNK = b"c" + bytes(20)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"m", b"no meta"),
        (b"m", msgspec.msgpack.encode([1, 2, 3])),
        (b"m", msgspec.msgpack.encode(["next"])),
        (b"x" + bytes(17), bytes(16)),
        (b"x" + bytes(16), bytes(24)),
        (CHUNK, np.array([0, 1, 2, 3], np.int64).tobytes()),
        (CHUNK, np.array([0, -1, 1, 2, 3], np.int64).tobytes()),
        (CHUNK, bytes(7)),
        (CHUNK[:-1], bytes(16)),
        (b"d" + bytes(16), bytes(39)),
        (b"t" + bytes(8), bytes(17)),
    ],
    ids=[
        "m",
        "types in m",
        "text in m",
        "tombstone",
        "its key",
        "cut",
        "mask",
        "words",
        "chunk's key",
        "bits",
        "total",
    ],
)
def test_a_state_that_cannot_be_read_halts_with_what_to_restore(key, value):
    log, store = filled(1), MemoryStore(1)
    follow(updater(log, store))
    store.load(0, dict(store.scan(0)) | {key: value}, 1)
    with pytest.raises(Halt, match=r"state cannot be read \(") as halted:
        updater(log, store)
    assert halted.value.remedy == "there is no snapshot; or start with an empty data directory"
    if key == b"m":
        # What cannot be read is not written over.
        assert store.read(0, [b"m"]) == [value]
    else:
        assert meta_of(store).halt == halted.value.reason


def test_a_state_that_turns_unreadable_under_a_running_updater_halts_it_and_is_left_alone():
    log, store = filled(1), MemoryStore(1)
    one = updater(log, store)
    follow(one)
    store.load(0, dict(store.scan(0)) | {b"m": b"no meta"}, 1)
    one.drop()
    with pytest.raises(Halt, match="state cannot be read"):
        one.step()
    assert store.read(0, [b"m"]) == [b"no meta"]


def test_a_halt_that_a_start_clears_leaves_the_file_at_once(tmp_path):
    path = tmp_path / "data" / "state.sqlite"
    with running(tmp_path / "data", "[server]\npartitions = 1\n") as server:
        server.reward(server.recommend(items=["a"]), 1.0)
    with closing(SqliteStore(path, 1)) as store:
        claim = store.claim(0)
        meta = msgspec.structs.replace(decode_meta(claim.meta), halt="frame 1 is damaged")
        store.apply(0, claim.token, {b"m": encode_meta(meta)}, start=meta.next, stop=meta.next)
    with running(tmp_path / "data", "[server]\npartitions = 1\n") as server:
        assert server.node.updaters[0].cleared_halt
        with closing(sqlite3.connect(path)) as file:
            (raw,) = file.execute("SELECT value FROM value_0 WHERE key = ?", (b"m",)).fetchone()
        assert decode_meta(raw).halt == ""
