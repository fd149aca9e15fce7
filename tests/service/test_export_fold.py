"""What is exported is what was learned: sums over rows are the totals of the fold."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.mirror import Mirror
from bandits.names import WEIGHT_UNIT
from bandits.records import DECISION, EVENTS, REWARD
from service.rewards import Rewards
from service.settings import RewardSettings
from tests.bandits.strategies import DETAILS, NOW_US, logs
from tests.service.exporting import exported, generations
from tests.service.logs import ListLog

HOUR_US = 3_600_000_000
WEIGHTS = (1.0, 0.5, 2.0, -0.25)
BY_NAMES = {n: Rewards([RewardSettings(f"r{i}", (-4.0, 4.0), WEIGHTS[i]) for i in range(n)]) for n in range(1, 5)}
"""Generation n has n rewards, and n names its totals table. Weights are powers of two: raw values are exact."""


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return generations(tmp_path_factory.mktemp("laws") / "generations.json", BY_NAMES)


def of_generation(entry):
    """The entry with the names, totals and raw values of the generation that has as many rewards."""
    receipt = entry.receipt
    rewards = BY_NAMES[len(receipt.names)]
    raw = [WEIGHT_UNIT * rewards.scale / one.weight for one in rewards.settings]
    return replace(
        entry,
        receipt=replace(receipt, names=rewards.hashes, totals=len(receipt.names)),
        events=tuple(replace(e, raw=e.value * raw[e.name]) if e.kind == REWARD else e for e in entry.events),
    )


@st.composite
def frames(draw):
    """Entries cut into frames, with append times around the receipts' beginnings and ends."""
    entries = [of_generation(entry) for entry in draw(logs())]
    cuts = sorted(draw(st.sets(st.integers(0, len(entries)), max_size=4)) | {0, len(entries)})
    return [
        (NOW_US + draw(st.sampled_from([-40, -1, 0, 20, 25, 26, 40, 60])) * HOUR_US, entries[start:stop])
        for start, stop in zip(cuts[:-1], cuts[1:], strict=True)
    ]


def log_of(dated, kept=None):
    """A log of frames, with the entries of some decisions only."""
    log = ListLog()
    for append_us, entries in dated:
        log.append_us = append_us
        log.put([entry for entry in entries if kept is None or entry.receipt.decision_id in kept])
    return log


def folded(log):
    """Impressions and rewards of each totals table, and what the fold counted."""
    mirror = Mirror()
    for frame in log.frames[0]:
        mirror.fold(frame.body, frame.append_us)
    totals = {
        int.from_bytes(key[1:], "little"): tuple(np.frombuffer(value, np.int64).tolist())
        for key, value in mirror.take_changes().items()
        if key[:1] == b"t"
    }
    return totals, mirror.counts


@given(frames())
def test_rows_and_their_rewards_sum_to_what_was_learned_from_the_same_decisions(known, dated):
    rows, _ = exported(log_of(dated), known)
    generation = {e.receipt.decision_id: e.receipt.totals for _, entries in dated for e in entries}
    impressions, rewards = Counter(), Counter()
    for row in rows:
        impressions[generation[row.decision_id]] += 1
        rewards[generation[row.decision_id]] += row.reward if row.rewards else 0.0
    totals, _ = folded(log_of(dated, kept={row.decision_id for row in rows}))
    assert impressions == Counter({n: count for n, (count, _) in totals.items()})
    for n, (_, total) in totals.items():
        assert rewards[n] == total * WEIGHT_UNIT * BY_NAMES[n].scale


@given(frames())
def test_every_decision_that_was_learned_is_exported_or_counted(known, dated):
    _, outcome = exported(log_of(dated), known)
    _, counts = folded(log_of(dated))
    left = outcome.left_out
    known_only = left["deferred_not_activated"] + left["known_only_from_events"] + left["without_items"]
    assert outcome.decisions + known_only == counts["decisions"]
    assert (left["early"], left["expired"]) == (counts["early"], counts["expired"])


@given(frames())
def test_where_no_entry_is_lost_all_that_was_learned_is_in_the_rows(known, dated):
    """Every decision's entry comes first, in time for all."""
    receipts = {e.receipt.decision_id: e.receipt for _, entries in dated for e in entries}
    first = [next(e for _, es in dated for e in es if e.receipt == r) for r in receipts.values()]
    decided = [replace(e, kind=DECISION, details=DETAILS, events=()) for e in first]
    whole = [(NOW_US + 30 * HOUR_US, decided), *((NOW_US + 30 * HOUR_US, entries) for _, entries in dated)]
    rows, outcome = exported(log_of(whole), known)
    totals, _ = folded(log_of(whole))
    assert outcome.left_out["known_only_from_events"] == 0
    assert len(rows) == sum(impressions for impressions, _ in totals.values())


@given(frames(), st.randoms(use_true_random=False))
def test_the_first_of_different_values_is_exported_as_it_was_learned(known, dated, random):
    """Each reward event gets a value of its own."""
    for _, entries in dated:
        for i, entry in enumerate(entries):
            if entry.kind == EVENTS:
                changed = [replace(e, value=random.randrange(-(2**15), 2**15 + 1)) for e in entry.events]
                entries[i] = of_generation(replace(entry, events=tuple(changed)))
    rows, _ = exported(log_of(dated), known)
    totals, _ = folded(log_of(dated, kept={row.decision_id for row in rows}))
    names = {e.receipt.decision_id: len(e.receipt.names) for _, entries in dated for e in entries}
    for n, rewards in BY_NAMES.items():
        exported_sum = sum(row.reward for row in rows if row.rewards and names[row.decision_id] == n)
        assert exported_sum == totals.get(n, (0, 0))[1] * WEIGHT_UNIT * rewards.scale


@given(frames())
def test_rows_are_sorted_and_positions_come_once(known, dated):
    rows, _ = exported(log_of(dated), known)
    found = [(row.timestamp, row.decision_id, row.position) for row in rows]
    assert found == sorted(set(found))
