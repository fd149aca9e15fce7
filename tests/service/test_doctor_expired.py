"""Keys that expired and came again: their owner's choice when to delete them is no fault, and hides no other."""

from __future__ import annotations

import random
import struct

import pytest

from bandits.names import arm_key
from bandits.records import Retired, encode_retire
from tests.bandits.strategies import NOW_US, TTL_US
from tests.service.directories import faults, opened, put_value, stored, take_snapshot
from tests.service.logs import decided, decision

SECOND_US, HOUR_US = 10**6, 3600 * 10**6
GONE_US = NOW_US + TTL_US + HOUR_US
"""Beyond this watermark the keys of a decision at NOW_US may be deleted."""
BOOT = b"b" + struct.pack("<Q", 9)


def later(number, at_us, **changes):
    return decided(decision(number, issued_us=at_us, expires_us=at_us + TTL_US, **changes))


def put_at(made, at_us, *entries):
    made.now_us = at_us
    made.put(entries)
    return made.fold()[0]


def came_again(folder, expire_at_us, again_us, *, ticks=()):
    """A boot's decision at NOW_US, frames of nothing, a deletion at one of them, and a decision of it once more."""
    with opened(folder) as made:
        put_at(made, NOW_US, later(0, NOW_US))
        for at_us in ticks:
            updater = put_at(made, at_us)
            if at_us == expire_at_us:
                updater.expire()
        put_at(made, again_us, later(1, again_us))
    return stored(folder)


@pytest.mark.parametrize("apart_us", [1, 20 * SECOND_US, 59 * SECOND_US, 61 * SECOND_US, 8 * HOUR_US])
def test_a_boot_that_was_deleted_or_not_before_it_served_again_is_no_fault(apart_us, tmp_path):
    """Whether its expiry and its next decision lie within a minute of the log's time or far apart."""
    ticks = [GONE_US - 10 * SECOND_US, GONE_US + 1]
    again_us = GONE_US + 1 + apart_us
    deleted = came_again(tmp_path / "deleted", GONE_US + 1, again_us, ticks=ticks)
    kept = came_again(tmp_path / "kept", None, again_us, ticks=ticks)
    assert (struct.unpack("<3q", deleted[BOOT])[0], struct.unpack("<3q", kept[BOOT])[0]) == (1, 2)
    assert faults(tmp_path / "deleted", again_us) == {}
    assert faults(tmp_path / "kept", again_us) == {}


def test_a_boot_that_came_again_stays_no_fault_for_as_long_as_it_serves(tmp_path):
    folder = tmp_path / "data"
    again_us = GONE_US + 20 * SECOND_US
    came_again(folder, GONE_US + 1, again_us, ticks=[GONE_US - 1, GONE_US + 1])
    with opened(folder) as made:
        for number in range(2, 40):
            put_at(made, again_us + number * HOUR_US, later(number, again_us + number * HOUR_US))
            assert faults(folder, made.now_us) == {}


@pytest.mark.parametrize("again_us", [GONE_US, GONE_US + 1])
def test_a_boot_that_no_owner_could_delete_between_is_compared(again_us, tmp_path):
    """At the watermark of the frame before it had not expired, though the frame's own may have passed its expiry."""
    folder = tmp_path / "data"
    came_again(folder, None, again_us, ticks=[GONE_US - 10 * SECOND_US, GONE_US])
    assert faults(folder, again_us) == {}
    seen, highest, expiry = struct.unpack("<3q", stored(folder)[BOOT])
    assert seen == 2
    put_value(folder, BOOT, struct.pack("<3q", 1, highest, expiry))
    assert "ordinals of boot 0000000000000009: differs" in faults(folder, again_us)["state"]


def test_only_the_key_that_came_again_is_passed_over(tmp_path):
    folder = tmp_path / "data"
    again_us = GONE_US + 20 * SECOND_US
    values = came_again(folder, GONE_US + 1, again_us, ticks=[GONE_US + 1])
    others = [k for k, v in values.items() if k[:1] in (b"c", b"t", b"n") or (k[:1] == b"d" and _expiry(v) > GONE_US)]
    assert {key[:1] for key in others} == {b"c", b"t", b"n", b"d"}
    for key in others:
        put_value(folder, key, bytes([values[key][0] ^ 1]) + values[key][1:])
        assert set(faults(folder, again_us)) == {"state"}, key
        put_value(folder, key, values[key])
    assert faults(folder, again_us) == {}


def _expiry(value):
    return int.from_bytes(value[:8], "little")


def test_bits_of_a_snapshot_that_had_expired_by_then_may_come_again(tmp_path):
    """The log is cut to the snapshot, in which the expired bits still stand; then their owner deletes them."""
    folder = tmp_path / "data"
    with opened(folder) as made:
        put_at(made, NOW_US, later(0, NOW_US))
        put_at(made, GONE_US + 1)
        take_snapshot(folder)
        made.fold()[0].expire()
        late = decision(0, bit=40, expires_us=GONE_US)
        put_at(made, GONE_US + 2, decided(late))
        made.log.trim(0, GONE_US + 2)
        assert made.log.bounds(0)[0] == 2
    assert faults(folder, GONE_US + 2) == {}


@pytest.mark.parametrize("expires", [True, False])
def test_a_tombstone_that_was_deleted_or_not_before_it_came_again(expires, tmp_path):
    """It becomes the same either way, and is compared."""
    folder = tmp_path / "data"
    rows = [Retired(7, arm_key("a"))]
    with opened(folder) as made:
        put_at(made, NOW_US, later(0, NOW_US))
        made.put_bytes([encode_retire(rows, NOW_US + TTL_US)])
        made.fold()
        updater = put_at(made, GONE_US + 1)
        if expires:
            assert updater.expire() > 0
        made.put_bytes([encode_retire(rows, GONE_US + TTL_US)])
        made.fold()
    assert faults(folder, GONE_US + 1) == {}
    ((key, value),) = [(key, value) for key, value in stored(folder).items() if key[:1] == b"x"]
    put_value(folder, key, bytes([value[0] ^ 1]) + value[1:])
    assert "tombstone of table 0000000000000007, arm" in faults(folder, GONE_US + 1)["state"]


@pytest.mark.parametrize("seed", range(10))
def test_whenever_an_owner_deletes_what_has_expired_doctor_agrees(seed, tmp_path):
    """Sixty frames of three boots, at times from a second to a day apart; the fold and the deletions as they come."""
    chosen, folder = random.Random(seed), tmp_path / "data"
    with opened(folder) as made:
        for number in range(60):
            made.now_us += chosen.choice([1, SECOND_US, 30 * SECOND_US, 61 * SECOND_US, HOUR_US, 13 * HOUR_US])
            issued_us = made.now_us - chosen.choice([0, 1, HOUR_US, TTL_US])
            boot, hour = chosen.randrange(3), issued_us // (12 * HOUR_US)
            some = [later(number, issued_us, boot=boot, hour=hour, bit=64 * number % 8192)]
            made.put(some if chosen.random() < 0.6 else [])
            if chosen.random() < 0.5:
                (updater,) = made.fold()
                if chosen.random() < 0.5:
                    updater.expire()
                assert faults(folder, made.now_us) == {}
