"""Rows of small logs, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from bandits.errors import UsageError
from bandits.names import arm_key
from bandits.records import (
    DECISION,
    DEFERRED,
    ENTRY,
    EVENTS,
    IMPRESSION,
    NO_POSITION,
    NULL_PROPENSITY,
    REWARD,
    Details,
    Entry,
    Event,
    Position,
    ReceiptContext,
    Retired,
    encode_frame,
    encode_receipt,
    encode_retire,
)
from tests.bandits.strategies import NOW_US, TTL_US
from tests.service.exporting import CLICK_STARS, TOTALS, exported, generations, left
from tests.service.logs import TOPIC, ListLog, decided, decision

HOUR_US = 3_600_000_000
IMPRESSIONS = Event(NO_POSITION, IMPRESSION)
DETAILS = Details(
    policy="diag_linucb",
    mode="explore",
    sampler=("plackett_luce", 0.02, 20, 0.01),
    parameters="v1",
    scores=[0.75, 0.5],
    user=b"\x01\xab",
    candidates=["a", "b", "c"],
    exclude=["z"],
    distribution=[0.5, 0.25, 0.25],
    features={"age": 0.5},
    item_features=[{"jazz": 1.0}, None, None],
)


@pytest.fixture
def known(tmp_path):
    return generations(tmp_path / "generations.json", {TOTALS: CLICK_STARS})


def of_two_rewards(number=0, **changes):
    return decision(number, names=CLICK_STARS.hashes, **changes)


def events(receipt, *given):
    return Entry(EVENTS, receipt, events=given)


def reward(name, raw, position=0):
    """An event of CLICK_STARS."""
    return Event(position, REWARD, name, CLICK_STARS.weigh(name, raw)[1], raw)


def log_of(*entries):
    log = ListLog()
    log.put(entries)
    return log


def columns(rows, *names):
    return [tuple(getattr(row, name) for name in names) for row in rows]


def test_every_column_by_hand(known):
    """Decided at NOW, default 9 after an hour: a is clicked and has -3 stars, 1 - 3/2 = -0.5; b has none yet.

    The context is slots 0 and 64, each with 2**14 quanta, 1/2.
    """
    receipt = of_two_rewards(3, positions=(Position(7, "a", 0.5), Position(8, "b", NULL_PROPENSITY)))
    log = log_of(Entry(DECISION, receipt, details=DETAILS), events(receipt, reward(1, -3.0), reward(0, 1.0)))
    rows, outcome = exported(log, known, NOW_US + HOUR_US - 1, default_reward=9.0)
    shared = {
        "version": 1,
        "decision_id": "0000000000000009-0-0-600",
        "timestamp": NOW_US,
        "surface": "home",
        "user": "01ab",
        "policy": "diag_linucb",
        "mode": "explore",
        "features": {"age": 0.5},
        "slots": [0, 64],
        "weights": [0.5, 0.5],
    }
    first = shared | {
        "position": 0,
        "item": "a",
        "propensity": 0.5,
        "score": 0.75,
        "reward": -0.5,
        "rewards": {"click": 1.0, "stars": -3.0},
        "candidates": ["a", "b", "c"],
        "graph": None,
        "exclude": ["z"],
        "distribution": [0.5, 0.25, 0.25],
        "item_features": [{"jazz": 1.0}, None, None],
    }
    second = shared | {
        "position": 1,
        "item": "b",
        "propensity": None,
        "score": 0.5,
        "reward": None,
        "rewards": {},
        "candidates": None,
        "graph": None,
        "exclude": None,
        "distribution": None,
        "item_features": None,
    }
    assert [msgspec.structs.asdict(row) for row in rows] == [first, second]
    assert (outcome.rows, outcome.decisions, left(outcome)) == (2, 1, {})


def test_without_reward_there_is_none_until_the_wait_window_has_passed_and_then_the_default(known):
    """Each row for itself; an impression is no reward, and a reward of 0 is one."""
    receipt = of_two_rewards()
    log = log_of(decided(receipt), events(receipt, IMPRESSIONS, reward(0, 0.0, position=1)))
    for now_us, expected in ((NOW_US + HOUR_US - 1, None), (NOW_US + HOUR_US, -1.0)):
        rows, _ = exported(log, known, now_us, default_reward=-1.0)
        assert columns(rows, "reward", "rewards") == [(expected, {}), (0.0, {"click": 0.0})]
    rows, _ = exported(log, known, NOW_US, default_reward=-1.0, wait_window_s=0)
    assert columns(rows, "reward") == [(-1.0,), (0.0,)]


def test_some_of_the_rewards_are_summed_while_others_are_out(known):
    receipt = of_two_rewards()
    rows, _ = exported(log_of(decided(receipt), events(receipt, reward(1, 3.0))), known)
    assert columns(rows[:1], "reward", "rewards") == [(1.5, {"stars": 3.0})]


def test_the_first_value_counts_wherever_the_decision_entry_lies(known):
    receipt = of_two_rewards()
    log = log_of(events(receipt, reward(1, 1.0), reward(1, 2.0)), decided(receipt))
    log.put([events(receipt, reward(1, 3.0)), decided(receipt)])
    rows, outcome = exported(log, known)
    assert columns(rows, "position", "rewards") == [(0, {"stars": 1.0}), (1, {})]
    assert left(outcome) == {"duplicate": 3}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([Event(2, IMPRESSION)], [2]),
        ([reward(0, 1.0, position=1)], [1]),
        ([Event(2, IMPRESSION), reward(0, 1.0, position=1)], [1, 2]),
        ([Event(2, IMPRESSION), IMPRESSIONS], [0, 1, 2]),
    ],
)
def test_of_a_deferred_decision_the_activated_positions_are_exported(known, given, shown):
    receipt = of_two_rewards(items=("a", "b", "c"), flags=DEFERRED)
    details = msgspec.structs.replace(DETAILS, scores=[3.0, 2.0, 1.0])
    rows, outcome = exported(log_of(Entry(DECISION, receipt, details=details), events(receipt, *given)), known)
    assert columns(rows, "position", "item", "score") == [(p, "abc"[p], 3.0 - p) for p in shown]
    assert [row.candidates for row in rows] == [["a", "b", "c"]] + [None] * (len(shown) - 1)
    assert [row.distribution for row in rows] == [[0.5, 0.25, 0.25]] + [None] * (len(shown) - 1)
    assert left(outcome) == {}


def test_what_is_left_out_is_counted(known):
    """A receipt lives for a day: at 26 hours its events are too late, and a decision of the day after is too early."""
    late, later = of_two_rewards(0), NOW_US + TTL_US + HOUR_US + 1
    log = log_of(
        decided(of_two_rewards(1, flags=DEFERRED)),
        decided(of_two_rewards(2, flags=DEFERRED)),
        events(of_two_rewards(2, flags=DEFERRED)),
        events(of_two_rewards(3), reward(0, 1.0)),
        events(of_two_rewards(3), reward(0, 1.0)),
        events(of_two_rewards(4)),
        decided(of_two_rewards(5, surface="shop")),
        events(of_two_rewards(5, surface="shop"), reward(0, 1.0)),
        decided(of_two_rewards(6, items=())),
        decided(of_two_rewards(7, totals=99)),
        decided(decision(8)),
        decided(of_two_rewards(9, issued_us=NOW_US + HOUR_US + 1)),
        decided(late),
    )
    log.append_us = later
    log.put([events(late, reward(0, 1.0)), decided(of_two_rewards(10))])
    rows, outcome = exported(log, known)
    assert columns(rows, "decision_id", "rewards") == [(late.decision_id, {})] * 2
    assert (outcome.rows, outcome.decisions) == (2, 1)
    assert left(outcome) == {
        "deferred_not_activated": 2,
        "known_only_from_events": 2,
        "without_items": 1,
        "unknown_generation": 2,
        "early": 1,
        "expired": 2,
        "duplicate": 1,
        "other_surfaces": 2,
    }


def test_entries_that_cannot_be_read_are_counted_and_passed_over(known):
    log, good = ListLog(), of_two_rewards()
    torn = b"\x01\x09\x00\x00\x00" + b"\x05\x00\x00\x00abcde"
    unknown_kind = b"\x09\x00\x00\x00\x00"
    receipt = encode_receipt(of_two_rewards(1))
    body = len(receipt).to_bytes(4, "little") + receipt + b"no details"
    log.append([(0, encode_frame([torn, unknown_kind, ENTRY.pack(DECISION, len(body)) + body], TOPIC))])
    log.put([decided(good)])
    log.append([(0, encode_frame([encode_retire([Retired(7)], NOW_US)], TOPIC))])
    rows, outcome = exported(log, known)
    assert (len(rows), left(outcome)) == (2, {"malformed": 3})


def test_rows_are_in_the_order_of_time_then_of_the_decisions_name(known):
    """Partitions 0 and 1, each out of order over more frames than are kept, with ties within and between them."""
    times = np.random.default_rng(7).integers(0, 100, 200).tolist()
    log = ListLog(partitions=2)
    for number, late_us in enumerate(times):
        receipt = of_two_rewards(number, partition=number % 2, issued_us=NOW_US + late_us)
        log.put([decided(receipt), events(receipt, reward(0, number / 200))], number % 2)
    rows, _ = exported(log, known)
    found = columns(rows, "timestamp", "decision_id", "position")
    assert found == sorted(found)
    assert len(set(found)) == 400
    # The click of each is its number: rows have the content of their own decision.
    numbers = [(int(row.decision_id.split("-")[3], 16) // 512, row) for row in rows if row.position == 0]
    assert all((row.timestamp, row.rewards) == (NOW_US + times[n], {"click": n / 200}) for n, row in numbers)


def test_slots_and_weights_are_of_the_positions_first_context(known):
    """One position per context, as idle times have it, and one that refers to none."""
    contexts = [
        ReceiptContext(7, np.array([slot], "<u4").tobytes(), np.array([quanta], "<i4").tobytes())
        for slot, quanta in ((2**32 - 1, 1 << 15), (3, -1))
    ]
    references = [((1, b""), (0, b"")), ((0, b""),), ()]
    positions = tuple(Position(arm_key(i), i, 0.5, r) for i, r in zip("abc", references, strict=True))
    rows, _ = exported(log_of(decided(of_two_rewards(contexts=tuple(contexts), positions=positions))), known)
    assert columns(rows, "slots", "weights") == [([3], [-(2.0**-15)]), ([2**32 - 1], [1.0]), ([], [])]


def test_a_damaged_frame_is_named(known):
    log = log_of(decided(of_two_rewards()))
    (frame,) = log.frames[0]
    log.frames[0] = [replace(frame, body=frame.body[:-1] + b"\xff")]
    with pytest.raises(UsageError, match="partition 0: frame 0 is damaged .*; restore the log from a copy"):
        exported(log, known)


def test_a_frame_of_another_log_is_named(known):
    log = log_of(decided(of_two_rewards()))
    log.topic_id = bytes(16)
    with pytest.raises(UsageError, match="frame 0 is damaged .it was written for another log"):
        exported(log, known)


def test_a_log_that_is_trimmed_meanwhile_is_refused_and_not_half_exported(known):
    class Trimmed(ListLog):
        reads = 0

        def read(self, partition, start, max_frames):
            self.reads += 1
            if self.reads == 2:
                self.frames[0] = self.frames[0][1:]
            return super().read(partition, start, max_frames)

    log = Trimmed()
    for number in range(2):
        log.put([decided(of_two_rewards(number))])
    with pytest.raises(UsageError, match="trimmed while it was read; start the export again"):
        exported(log, known)


def test_what_is_appended_after_the_start_is_left_for_the_next_export(known):
    class Growing(ListLog):
        def read(self, partition, start, max_frames):
            self.put([decided(of_two_rewards(len(self.frames[0])))])
            return super().read(partition, start, max_frames)

    log = Growing()
    log.put([decided(of_two_rewards())])
    rows, _ = exported(log, known)
    assert {row.decision_id for row in rows} == {of_two_rewards().decision_id}
