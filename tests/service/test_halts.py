"""A halted partition says so in its state, until somebody claims it again."""

from __future__ import annotations

import msgspec
import pytest

from service.log import Frame
from service.store_memory import MemoryStore
from service.updater import Halt
from tests.bandits.strategies import NOW_US
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
