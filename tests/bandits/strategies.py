"""Random but valid receipts, entries and logs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from bandits.names import arm_key, key64
from bandits.records import (
    DECISION,
    DEFERRED,
    EVENTS,
    IMPRESSION,
    NO_POSITION,
    REWARD,
    Details,
    Entry,
    Event,
    Position,
    Receipt,
    ReceiptContext,
    Retire,
    Retired,
    encode_decision,
    encode_events,
    encode_receipt,
    encode_retire,
)

NOW_US = 1_700_000_000_000_000
TTL_US = 86_400_000_000
BITS_EACH = 512

ids = st.text(alphabet=st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)


@st.composite
def contexts(draw: st.DrawFn, named: bool) -> ReceiptContext:
    slots = sorted(draw(st.sets(st.integers(0, 2**18 - 1) | st.integers(0, 130), min_size=1, max_size=6)))
    quanta = [draw(st.integers(-(2**19), 2**19)) for _ in slots]
    name = "feature:" + draw(ids) if named else None
    return ReceiptContext(
        table=key64(draw(st.sampled_from(["home", "live"]))),
        slots=np.array(slots, "<u4").tobytes(),
        quanta=np.array(quanta, "<i4").tobytes(),
        name=name,
        arm=0 if name is None else arm_key(name),
    )


@st.composite
def receipts(draw: st.DrawFn, number: int = 0) -> Receipt:
    """A receipt whose dedupe bits are its own as long as `number` is."""
    all_contexts = [draw(contexts(named=i > 0)) for i in range(draw(st.integers(1, 2)))]
    items = draw(st.lists(st.sampled_from([f"item-{i}" for i in range(9)]), unique=True, max_size=5))
    positions = []
    for item in items:
        references = []
        for index, context in enumerate(all_contexts):
            n = len(context.slots) // 4
            bits = draw(st.none() | st.integers(0, 2**n - 1))
            references.append((index, b"" if bits is None else bits.to_bytes((n + 7) // 8, "little")))
        positions.append(Position(arm_key(item), item, draw(st.floats(0.01, 1)), tuple(references)))
    return Receipt(
        boot=draw(st.sampled_from([3, 2**64 - 1])),
        hour=draw(st.integers(0, 3)),
        partition=0,
        bit=BITS_EACH * number,
        ordinal=number,
        issued_us=NOW_US,
        expires_us=NOW_US + TTL_US,
        totals=key64(draw(st.sampled_from(["home", "live"]))),
        surface="home",
        names=tuple(range(draw(st.integers(1, 4)))),
        contexts=tuple(all_contexts),
        positions=tuple(positions),
        flags=draw(st.sampled_from([0, 0, DEFERRED])),
    )


def events_for(receipt: Receipt) -> st.SearchStrategy[Event]:
    last = len(receipt.positions) - 1
    impression = st.builds(Event, st.integers(0, last) | st.just(NO_POSITION), st.just(IMPRESSION))
    # One reward has one value however often it is sent: with two, the first wins and order would matter.
    reward = st.builds(
        lambda p, name: Event(
            p, REWARD, name, (7919 * (receipt.ordinal + 1) * (p + 3) * (name + 5)) % 2**16 - 2**15, 0.5
        ),
        st.integers(0, last),
        st.integers(0, len(receipt.names) - 1),
    )
    return impression | reward


DETAILS = Details("diag_linucb", "explore", ("plackett_luce", 0.02, 20, 0.01), "v1", [0.5])


@st.composite
def logs(draw: st.DrawFn, max_decisions: int = 4) -> list[Entry]:
    """Entries of several decisions in any order; some lost, some twice, some deferred, some late."""
    entries: list[Entry] = []
    for number in range(draw(st.integers(1, max_decisions))):
        receipt = draw(receipts(number))
        late = draw(st.sampled_from([0, 0, 0, 1, -1]))
        receipt = replace(receipt, issued_us=receipt.issued_us + late * 30 * 3_600_000_000)
        receipt = replace(receipt, expires_us=receipt.issued_us + TTL_US)
        entries += [Entry(DECISION, receipt, details=DETAILS)] * draw(st.integers(0, 2))
        if receipt.positions:
            for _ in range(draw(st.integers(0, 3))):
                entries.append(Entry(EVENTS, receipt, events=tuple(draw(st.lists(events_for(receipt), max_size=4)))))
    return draw(st.permutations(entries))


def retirements() -> st.SearchStrategy[Retire]:
    """Of the tables and arms that receipts name."""
    table = st.sampled_from(["home", "live"]).map(key64)
    arm = st.none() | st.sampled_from([f"item-{i}" for i in range(9)]).map(arm_key)
    rows = st.lists(st.builds(Retired, table, arm), min_size=1, max_size=3).map(tuple)
    return st.builds(Retire, rows, st.integers(NOW_US, NOW_US + 2 * TTL_US))


@st.composite
def retiring_logs(draw: st.DrawFn) -> list[tuple[int, Entry | Retire]]:
    """Entries with their append times; retirements among them, and receipts issued before and after those."""
    at_us, timed = NOW_US, []
    for entry in draw(logs(6)):
        at_us += draw(st.integers(0, 3))
        if draw(st.integers(0, 3)) == 0:
            timed.append((at_us, draw(retirements())))
        if entry.receipt.issued_us == NOW_US:
            # All entries of one decision carry the same receipt.
            issued_us = NOW_US + 4 * (entry.receipt.ordinal % 4)
            entry = replace(entry, receipt=replace(entry.receipt, issued_us=issued_us))
        timed.append((at_us, entry))
    return timed


def encode_entry(entry: Entry | Retire) -> bytes:
    if isinstance(entry, Retire):
        return encode_retire(entry.rows, entry.until_us)
    receipt = encode_receipt(entry.receipt)
    if entry.kind == DECISION:
        assert entry.details is not None
        return encode_decision(receipt, entry.details)
    return encode_events(receipt, entry.events)
