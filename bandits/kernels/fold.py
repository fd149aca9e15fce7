"""The fold: entries of one frame, in the bytes of bandits.records, added to a partition's state.

Total and deterministic: an entry that cannot be read is skipped and counted; nothing but the frame, its append time
and the state is looked at.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from bandits.kernels.chunks import Chunks, add, saturating
from bandits.kernels.index import Index, find, insert
from bandits.kernels.parse import (
    CONTEXT_BYTES,
    POSITION_BYTES,
    REFERENCE_BYTES,
    i32,
    i64,
    position_end,
    positions_of,
    u16,
    u32,
    u64,
)
from bandits.kernels.retire import is_retired

EVENT_BYTES = 15
HOUR_US = 3_600_000_000

DONE = -1
"""fold_entries has read the whole frame."""

COUNTERS = (
    "decisions",
    "impressions",
    "rewards",
    "duplicates",
    "expired",
    "early",
    "collisions",
    "malformed",
    "saturated",
    "retired",
)
DECISIONS, IMPRESSIONS, REWARDS, DUPLICATES, EXPIRED, EARLY, COLLISIONS, MALFORMED, SATURATED, RETIRED = range(10)


class State(NamedTuple):
    """What the fold changes.

    cells        Chunks
    totals       Index by table; total int64 (T, 2): impressions, rewards in units of 2**-15
    dedupe       Index by (boot, hour << 32 | chunk); bits uint64 (D, 4); expiry int64 (D,), microseconds
    boots        Index by boot; boot int64 (B, 3): ordinals seen, highest ordinal, expiry
    names        Index by arm; name int64 (N, 2): start and stop in text uint8 (bytes,)
    retired      Index of tombstones, see kernels.retire
    changed      uint8 per row of totals, dedupe and boots: 1 where it changed
    clock        int64 (3,): watermark, text bytes in use, changed rows of dedupe
    counts       int64 (10,): see COUNTERS
    contexts     int64 (MAX_CONTEXTS,): scratch, where each context of the receipt begins
    """

    cells: Chunks
    totals: Index
    total: Any
    total_changed: Any
    dedupe: Index
    bits: Any
    expiry: Any
    dedupe_changed: Any
    boots: Index
    boot: Any
    boot_changed: Any
    names: Index
    name: Any
    text: Any
    retired: Index
    clock: Any
    counts: Any
    contexts: Any


@njit(cache=True, nogil=True)
def name_is(state: Any, arm: Any, data: Any, at: Any, length: Any, keep: Any) -> Any:
    """Whether the arm goes by this text, which it takes, if it is to be kept, where it has none yet."""
    row = find(state.names, arm, np.uint64(0), np.uint64(0))
    if row < 0:
        if not keep:
            return True
        row = insert(state.names, arm, np.uint64(0), np.uint64(0))
        start = state.clock[1]
        for i in range(length):
            state.text[start + i] = data[at + i]
        state.name[row, 0] = start
        state.name[row, 1] = start + length
        state.clock[1] = start + length
        return True
    start = state.name[row, 0]
    if state.name[row, 1] - start != length:
        return False
    for i in range(length):  # noqa: SIM110 (numba compiles no generators)
        if state.text[start + i] != data[at + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def first_time(state: Any, boot: Any, hour: Any, bit: Any, expires: Any) -> Any:
    """Set a dedupe bit; whether it was clear."""
    key = np.uint64(hour) << np.uint64(32) | np.uint64(bit >> 8)
    row = find(state.dedupe, boot, key, np.uint64(0))
    if row < 0:
        row = insert(state.dedupe, boot, key, np.uint64(0))
        state.bits[row, :] = 0
        state.expiry[row] = expires
    word = (bit >> 6) & 3
    flag = np.uint64(1) << np.uint64(bit & 63)
    if state.bits[row, word] & flag:
        return False
    state.bits[row, word] |= flag
    state.expiry[row] = max(state.expiry[row], expires)
    if not state.dedupe_changed[row]:
        state.dedupe_changed[row] = 1
        state.clock[2] += 1
    return True


@njit(cache=True, nogil=True)
def count_ordinal(state: Any, boot: Any, ordinal: Any, expires: Any) -> None:
    row = find(state.boots, boot, np.uint64(0), np.uint64(0))
    if row < 0:
        row = insert(state.boots, boot, np.uint64(0), np.uint64(0))
        state.boot[row, 0] = 0
        state.boot[row, 1] = -1
        state.boot[row, 2] = expires
    state.boot[row, 0] += 1
    state.boot[row, 1] = max(state.boot[row, 1], ordinal)
    state.boot[row, 2] = max(state.boot[row, 2], expires)
    state.boot_changed[row] = 1


@njit(cache=True, nogil=True)
def count_total(state: Any, table: Any, impressions: Any, reward: Any) -> None:
    row = find(state.totals, table, np.uint64(0), np.uint64(0))
    if row < 0:
        row = insert(state.totals, table, np.uint64(0), np.uint64(0))
        state.total[row, :] = 0
    state.total[row, 0] = saturating(state.total[row, 0], impressions, state.counts, SATURATED)
    state.total[row, 1] = saturating(state.total[row, 1], reward, state.counts, SATURATED)
    state.total_changed[row] = 1


@njit(cache=True, nogil=True)
def any_slot(data: Any, at: Any) -> Any:
    """Whether a position's masks leave any slot; ids without cells must not fill the state with their texts."""
    at += POSITION_BYTES + u16(data, at + 16)
    n_references = np.int64(data[at])
    at += 1
    for _ in range(n_references):
        mask_bytes = np.int64(data[at + 2])
        if not mask_bytes:
            return True
        at += REFERENCE_BYTES
        for i in range(mask_bytes):
            if data[at + i]:
                return True
        at += mask_bytes
    return False


@njit(cache=True, nogil=True)
def any_live_slot(state: Any, data: Any, at: Any, issued: Any) -> Any:
    """As any_slot, without the references to what is retired; with tombstones only, for it costs a third of a fold."""
    arm = u64(data, at)
    at += POSITION_BYTES + u16(data, at + 16)
    n_references = np.int64(data[at])
    at += 1
    for _ in range(n_references):
        head = state.contexts[u16(data, at)]
        mask_bytes = np.int64(data[at + 2])
        owner = u64(data, head + 8) if u16(data, head + 16) else arm
        live = not is_retired(state.retired, u64(data, head), owner, issued)
        at += REFERENCE_BYTES
        if live and not mask_bytes:
            return True
        for i in range(mask_bytes):
            if live and data[at + i]:
                return True
        at += mask_bytes
    return False


@njit(cache=True, nogil=True)
def add_position(state: Any, data: Any, receipt: Any, at: Any, is_reward: Any, value: Any) -> None:
    """Add an impression or a reward of one position to all its cells and to the totals, but for what is retired."""
    issued, totals = i64(data, receipt + 32), u64(data, receipt + 48)
    arm = u64(data, at)
    length = u16(data, at + 16)
    some = state.retired.used[0] > 0
    keep = any_live_slot(state, data, at, issued) if some else any_slot(data, at)
    if not name_is(state, arm, data, at + POSITION_BYTES, length, keep):
        state.counts[COLLISIONS] += 1
        return
    at += POSITION_BYTES + length
    n_references = np.int64(data[at])
    at += 1
    skipped = False
    for _ in range(n_references):
        head = state.contexts[u16(data, at)]
        mask_bytes = np.int64(data[at + 2])
        mask = at + REFERENCE_BYTES
        at = mask + mask_bytes
        table = u64(data, head)
        name = u16(data, head + 16)
        owner = u64(data, head + 8) if name else arm
        if some and is_retired(state.retired, table, owner, issued):
            skipped = True
            continue
        if name and not name_is(state, owner, data, head + CONTEXT_BYTES, name, True):
            state.counts[COLLISIONS] += 1
            continue
        n_slots = u16(data, head + CONTEXT_BYTES + name)
        slots = head + CONTEXT_BYTES + name + 2
        quanta = slots + 4 * n_slots
        for i in range(n_slots):
            if mask_bytes and not (data[mask + (i >> 3)] >> (i & 7)) & 1:
                continue
            q = i32(data, quanta + 4 * i)
            slot = np.uint32(u32(data, slots + 4 * i))
            if is_reward:
                add(state.cells, table, owner, slot, np.int64(0), np.int64(0), q * value)
            else:
                add(state.cells, table, owner, slot, q * q, q, np.int64(0))
    if some and is_retired(state.retired, totals, np.uint64(0), issued):
        skipped = True
    elif is_reward:
        count_total(state, totals, np.int64(0), value)
        state.counts[REWARDS] += 1
    else:
        count_total(state, totals, np.int64(1), np.int64(0))
        state.counts[IMPRESSIONS] += 1
    if skipped:
        state.counts[RETIRED] += 1


@njit(cache=True, nogil=True)
def fold_receipt(state: Any, data: Any, receipt: Any, first: Any, events: Any, n_events: Any) -> None:
    """Fold one decision (n_events = -1) or the events of one; the structure has been checked."""
    flags = data[receipt + 1]
    n_positions, n_names = np.int64(data[receipt + 2]), np.int64(data[receipt + 3])
    boot, hour, bit = u64(data, receipt + 8), u32(data, receipt + 16), u32(data, receipt + 20)
    issued, expires = i64(data, receipt + 32), i64(data, receipt + 40)
    watermark = state.clock[0]
    if issued > watermark + HOUR_US:
        state.counts[EARLY] += 1
        return
    if watermark > expires + HOUR_US:
        state.counts[EXPIRED] += 1
        return
    deferred = flags & 1
    if first_time(state, boot, hour, bit, expires):
        state.counts[DECISIONS] += 1
        count_ordinal(state, boot, i64(data, receipt + 24), expires)
        if not deferred:
            at = first
            for _ in range(n_positions):
                add_position(state, data, receipt, at, False, np.int64(0))
                at = position_end(data, at)
    elif n_events < 0:
        state.counts[DUPLICATES] += 1
    for e in range(n_events):
        event = events + EVENT_BYTES * e
        position, kind, name = np.int64(data[event]), data[event + 1], np.int64(data[event + 2])
        at = first
        for p in range(n_positions):
            if position == p or position == 255:
                own = bit + 1 + p * (1 + n_names)
                if deferred and first_time(state, boot, hour, own, expires):
                    add_position(state, data, receipt, at, False, np.int64(0))
                if kind == 1 and position == p and name < n_names:
                    if first_time(state, boot, hour, own + 1 + name, expires):
                        add_position(state, data, receipt, at, True, i32(data, event + 3))
                    else:
                        state.counts[DUPLICATES] += 1
            at = position_end(data, at)


@njit(cache=True, nogil=True)
def fold_entries(state: Any, data: Any, at: Any, need: Any) -> Any:
    """Fold the entries from byte `at` of a frame's bytes on.

    Returns DONE, or the byte of the first entry that needs more room than the state has;
    need (2,) then says how many cells and how many bytes of names.
    """
    while at + 5 <= data.size:
        kind, size = data[at], u32(data, at + 1)
        body, stop = at + 5, at + 5 + size
        if stop > data.size:
            break
        ok = size >= 4 and (kind == 1 or kind == 2)
        length = u32(data, body) if ok else np.int64(0)
        receipt, tail = body + 4, body + 4 + length
        n_events = np.int64(-1)
        if ok and kind == 2:
            ok = tail + 2 <= stop
            if ok:
                n_events = u16(data, tail)
                ok = tail + 2 + EVENT_BYTES * n_events == stop
        ok = ok and tail <= stop
        first = np.int64(-1)
        if ok:
            first, cells, text = positions_of(data, receipt, tail, state.contexts)
            if first >= 0:
                rows = len(state.cells.keys.rows) - state.cells.keys.used[0]
                arena = len(state.cells.arena) - state.cells.state[0]
                names = len(state.names.rows) - state.names.used[0]
                room = state.text.size - state.clock[1]
                short = (
                    len(state.dedupe.rows) - state.dedupe.used[0] < 4 or len(state.boots.rows) == state.boots.used[0]
                )
                short = short or len(state.totals.rows) == state.totals.used[0] or names < cells + 100
                if short or rows < cells or arena < 65 * cells or room < text:
                    need[0] = cells
                    need[1] = text
                    return at
                fold_receipt(state, data, receipt, first, tail + 2, n_events)
        if first < 0:
            state.counts[MALFORMED] += 1
        at = stop
    if at != data.size:
        state.counts[MALFORMED] += 1
    return np.int64(-1)
