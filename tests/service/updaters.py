"""An updater over a log in lists, and what it has made of it."""

from __future__ import annotations

import pytest

from bandits.mirror import Mirror, decode_meta
from service.updater import Halt, Updater
from tests.bandits.strategies import NOW_US
from tests.service.logs import ListLog, decided, decision, rewarded


def updater(log, store, now_us=NOW_US, **bounds):
    return Updater(log, store, 0, clock_us=lambda: now_us, **bounds)


def follow(one):
    while one.step():
        pass


def learned(store):
    """All keys but the meta and the ring, which say how the state came about."""
    return {key: value for key, value in store.scan(0) if key[:1] not in (b"m", b"r")}


def folded(log):
    """What a mirror makes of the same frames, without any store."""
    mirror, values = Mirror(), {}
    for frame in log.frames[0]:
        mirror.fold(frame.body, frame.append_us, frame.offset + 1)
        values |= mirror.take_changes()
        for key in mirror.take_dropped():
            values.pop(key, None)
    return values


def meta_of(store):
    return decode_meta(store.read(0, [b"m"])[0])


def filled(n_frames=3):
    log = ListLog()
    for number in range(n_frames):
        log.put([decided(decision(number)), rewarded(decision(number))])
    return log


def halt(log, store, reason, **given):
    """The reason why the updater cannot start, or go on."""
    with pytest.raises(Halt, match=reason) as caught:
        follow(updater(log, store, **given))
    assert str(caught.value).startswith("halted: ")
    assert caught.value.partition == 0
    if "folded by version" not in reason:
        assert meta_of(store).halt == caught.value.reason
    return caught.value
