"""banditd doctor: the stored state is what its log gives, and whatever differs is named."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given

from bandits.names import arm_key
from bandits.records import Retired, encode_retire
from service.doctor import refold
from service.doctor.directory import Directory
from service.doctor.state import state
from tests.bandits.strategies import NOW_US, TTL_US, logs
from tests.service.directories import (
    change_meta,
    diagnosed,
    edit,
    faults,
    fill,
    meta_of,
    opened,
    put_value,
    stored,
    take_snapshot,
)
from tests.service.logs import decided, decision, rewarded

HOUR_US = 3_600_000_000
A_CHUNK = b"c" + struct.pack("<QQI", 7, arm_key("a"), 1)
"""Chunk of slots 64 to 127 of arm a; see fill."""


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "data")


def flipped(value, bit):
    return (int.from_bytes(value, "little") ^ 1 << bit).to_bytes(len(value), "little")


def test_a_sound_directory(folder):
    """Four frames, each with an impression of weight 1/2 (2**14 units squared) on every slot."""
    assert faults(folder) == {}
    assert struct.unpack("<qQ3q", stored(folder)[A_CHUNK])[2] == 4 * 2**28
    assert diagnosed(folder)["state"].detail == "the log's first 4 frames give what is stored"


@given(entries=logs())
def test_whatever_the_updater_makes_of_a_log_is_sound(entries, tmp_path_factory):
    data = tmp_path_factory.mktemp("any") / "data"
    with opened(data) as made:
        for entry in entries:
            made.put([entry])
        made.fold()
    assert faults(data) == {}


def test_frames_beyond_the_checkpoint_are_no_fault(folder):
    with opened(folder) as made:
        made.put([decided(decision(9))])
    assert faults(folder) == {}
    assert diagnosed(folder)["state"].detail.endswith("; 1 frames are not in it yet")


def test_a_flipped_bit_of_a_cell_is_named(folder):
    """Bit 0 of reward_sum of slot 64: four rewards of 1 on a weight of 1/2 are 4 * 2**14 * 2**15 units.

    Keys: 2 arms x 3 slots, each a chunk, 2 names, 4 chunks of dedupe bits, a boot, a table of totals."""
    put_value(folder, A_CHUNK, flipped(stored(folder)[A_CHUNK], 8 * (16 + 16)))
    reward_sum = 4 * 2**29
    assert faults(folder) == {
        "state": "partition 0: cells of table 0000000000000007, arm 'a', slots 64 to 127: reward_sum of slot 64 is "
        f"{reward_sum + 1}, the log gives {reward_sum}; 1 of 14 keys differ; restore a "
        "snapshot, or delete state.sqlite to fold the whole log again"
    }


def test_any_flipped_bit_of_any_value_is_noticed(folder):
    chosen = random.Random(4)
    values = {key: value for key, value in stored(folder).items() if key[:1] not in (b"m", b"r")}
    assert {key[:1] for key in values} == {b"c", b"t", b"d", b"b", b"n"}
    for key, value in values.items():
        for bit in chosen.sample(range(8 * len(value)), min(6, 8 * len(value))):
            put_value(folder, key, flipped(value, bit))
            assert set(faults(folder)) == {"state"}, (key, bit)
        put_value(folder, key, value)
    assert faults(folder) == {}


@pytest.mark.parametrize("kind", [b"c", b"t", b"d", b"b", b"n"])
def test_a_removed_key_is_missing(kind, folder):
    key = next(key for key in sorted(stored(folder)) if key[:1] == kind)
    edit(folder / "state.sqlite", "DELETE FROM value_0 WHERE key = ?", key)
    found = faults(folder)["state"]
    assert "missing, the log gives" in found
    words = {
        b"c": "cells of",
        b"t": "totals of",
        b"d": "dedupe bits 0 to 255 of boot 0",
        b"b": "ordinals",
        b"n": "text",
    }
    assert f"partition 0: {words[kind]}" in found


def test_an_extra_cell_and_an_unknown_key(folder):
    extra = b"c" + struct.pack("<QQI", 7, arm_key("a"), 9)
    put_value(folder, extra, stored(folder)[A_CHUNK])
    assert "arm 'a', slots 576 to 639: stored, but the log does not give it; 1 of" in faults(folder)["state"]
    put_value(folder, b"!", b"")
    assert "partition 0: unknown key 21: stored, but the log does not give it; 2 of" in faults(folder)["state"]


@pytest.mark.parametrize("name", ["watermark", "checksum"])
def test_a_wrong_watermark_or_checksum(name, folder):
    right = getattr(meta_of(folder), name)
    change_meta(folder, **{name: right - 1})
    assert faults(folder)["state"].startswith(
        f"partition 0: {name} at 4 is {right - 1}, the log gives {right}; restore a snapshot"
    )


def test_a_checkpoint_that_does_not_stand_where_it_says(folder):
    change_meta(folder, next=3)
    assert faults(folder)["state"].startswith("partition 0: the state stands at 4, its key m at 3;")


def test_a_checkpoint_from_another_log(folder, tmp_path):
    other = fill(tmp_path / "other")
    (other / "state.sqlite").replace(folder / "state.sqlite")
    found = faults(folder)
    assert set(found) == {"state"}
    assert found["state"].startswith(f"partition 0: the state is of log {meta_of(folder).topic.hex()}, this is ")


def test_a_checkpoint_of_another_fold(folder):
    change_meta(folder, fold_version=99)
    found = faults(folder)
    assert set(found) == {"versions", "state"}
    assert found["versions"].startswith("partition 0: folded by version 99, this is ")


def test_a_halted_partition(folder):
    change_meta(folder, halt="frame 4 is damaged")
    assert faults(folder) == {"halts": "partition 0 is halted: frame 4 is damaged"}


@pytest.mark.parametrize(("gone", "words"), [((2,), "frame 2 is"), ((0,), "frame 0 is"), ((1, 2), "frames 1 to 2 are")])
def test_a_missing_frame_is_named_by_partition_and_offset(gone, words, tmp_path):
    folder = fill(tmp_path / "data", n_frames=8, partitions=2)
    for offset in gone:
        assert edit(folder / "log.sqlite", "DELETE FROM frame WHERE partition = 1 AND offset = ?", offset) == 1
    found = faults(folder)
    assert set(found) == {"log", "state"}
    assert found["log"] == found["state"] == f"partition 1: {words} missing from the log; restore the log from a copy"


def test_a_lost_tail_of_the_log(folder):
    edit(folder / "log.sqlite", "DELETE FROM frame WHERE offset = 3")
    assert faults(folder) == {
        "state": "partition 0: the log ends at 3, the state stands at 4; restore the log",
    }


def test_a_damaged_frame_and_one_of_another_log(folder, tmp_path):
    edit(
        folder / "log.sqlite",
        "UPDATE frame SET body = CAST(substr(body, 1, 90) || x'00' || substr(body, 92) AS BLOB) WHERE offset = 1",
    )
    found = faults(folder)
    assert set(found) == {"log", "state"}
    assert found["log"].startswith("partition 0: frame 1 is damaged (frame's checksum is ")
    other = fill(tmp_path / "other")
    with opened(other) as foreign:
        body = foreign.log.read(0, 1, 1)[0].body
    edit(folder / "log.sqlite", "UPDATE frame SET body = ? WHERE offset = 1", body)
    assert faults(folder)["log"].startswith("partition 0: frame 1 was written for log ")


def test_many_faults_are_cut_to_three_and_a_number(tmp_path):
    folder = fill(tmp_path / "data", n_frames=10)
    edit(folder / "log.sqlite", "UPDATE frame SET body = x'00'")
    found = faults(folder)["log"]
    assert found.count("is damaged") == 3
    assert found.endswith("; and 7 more")


def test_expired_dedupe_bits_may_be_there_or_not(folder):
    """A frame a day and an hour later lets the bits of the first four decisions go, whenever their owner does it."""
    with opened(folder) as made:
        made.now_us = NOW_US + TTL_US + HOUR_US + 1
        made.put([])
        (updater,) = made.fold()
        before = stored(folder)
        assert faults(folder, made.now_us) == {}
        assert updater.expire() > 0
    assert len(stored(folder)) < len(before)
    assert faults(folder, made.now_us) == {}


def test_live_bits_that_claim_to_have_expired_are_noticed(folder):
    key = next(key for key in stored(folder) if key[:1] == b"d")
    put_value(folder, key, struct.pack("<q", 0) + stored(folder)[key][8:])
    assert "dedupe bits 0 to 255" in faults(folder)["state"]


def test_bits_that_come_again_after_their_deletion(folder):
    """A receipt of the same hour and chunk that lasts longer: the chunk begins anew where it had been deleted."""
    with opened(folder) as made:
        made.now_us = NOW_US + TTL_US + HOUR_US + 1
        made.put([])
        (updater,) = made.fold()
        updater.expire()
        made.put([decided(decision(0, bit=40, expires_us=NOW_US + TTL_US + HOUR_US))])
        made.fold()
    assert faults(folder, made.now_us) == {}


def test_what_a_retire_entry_dropped_may_be_left_by_a_crash_but_nothing_else(folder):
    left = stored(folder)
    with opened(folder) as made:
        made.put_bytes([encode_retire([Retired(7, arm_key("a"))], NOW_US)])
        made.fold()
        assert A_CHUNK not in stored(folder)
        assert faults(folder) == {}
        put_value(folder, A_CHUNK, left[A_CHUNK])
        assert faults(folder) == {}
        made.put([])
        made.fold()
        assert faults(folder) == {}
        put_value(folder, A_CHUNK, left[A_CHUNK])
    assert "slots 64 to 127: stored, but the log does not give it; 1 of" in faults(folder)["state"]


def test_a_log_that_was_cut_needs_a_snapshot_that_reaches_it(folder):
    with opened(folder) as made:
        made.now_us += 1
        made.put([decided(decision(4))])
        made.fold()
        assert made.log.trim(0, made.now_us) == 4
    found = faults(folder)
    assert set(found) == {"state"}
    assert found["state"].startswith("partition 0: the log begins at 4 and no snapshot in ")
    assert found["state"].endswith(f"banditd snapshot --data {folder}")


def test_a_log_cut_while_it_is_read_is_begun_again(folder, monkeypatch):
    """The first look at the log sees frames 0 to 3; they are gone when the fold asks for them."""
    with opened(folder) as made:
        path = take_snapshot(folder)
        made.now_us += 1
        made.put([decided(decision(4))])
        made.fold()
        whole, reads = refold.refold, []

        def cut_first(log, *given):
            reads.append(log.bounds(0))
            if len(reads) == 1:
                made.log.trim(0, made.now_us)
            return whole(log, *given)

        monkeypatch.setattr("service.doctor.state.refold", cut_first)
        directory = Directory(folder)
        detail = state(directory)
        directory.close()
    assert reads == [(0, 5), (4, 5)]
    assert detail == f"the log's first 5 frames give what is stored, where the log was cut from {path.name}"


def test_the_state_is_recomputed_from_the_newest_snapshot_that_fits(folder):
    """Of three snapshots the newest is damaged, the next stands beyond the state, which was put back."""
    first = take_snapshot(folder)
    with opened(folder) as made:
        before = stored(folder)
        made.now_us += 1
        made.put([rewarded(decision(5))])
        made.fold()
        made.log.trim(0, made.now_us)
        take_snapshot(folder)
        damaged = take_snapshot(folder)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    edit(folder / "state.sqlite", "DELETE FROM value_0")
    for key, value in before.items():
        put_value(folder, key, value)
    edit(folder / "state.sqlite", "UPDATE partition SET next = 4")
    found = diagnosed(folder)
    assert found["state"].detail == (
        f"the log's first 4 frames give what is stored, where the log was cut from {first.name}; "
        "1 frames are not in it yet"
    )
    assert not found["snapshots"].ok
    assert "damaged or cut" in found["snapshots"].detail
    put_value(folder, A_CHUNK, flipped(before[A_CHUNK], 8 * 16))
    assert "weight_sq_sum of slot 64" in faults(folder)["state"]
