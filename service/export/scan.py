"""First reading of a partition: which decisions and events count, judged as the fold judges them.

Only headers are looked at; a decision is decoded when its rows are made.
"""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np

from bandits.kernels.fold import HOUR_US
from bandits.kernels.parse import MAX_CONTEXTS, positions_of
from bandits.records import (
    DECISION,
    DEFERRED,
    ENTRY,
    ENTRY_RECEIPT_AT,
    EVENT,
    EVENTS,
    FRAME,
    HEADER,
    NO_POSITION,
    RETIRE,
    REWARD,
    frame_append_us,
    frame_checksum,
)

DECISION_AT = np.dtype(
    [("boot", "<u8"), ("low", "<u8"), ("issued", "<i8"), ("offset", "<i8"), ("at", "<u4"), ("deferred", "u1")]
)
"""Where a decision's entry lies: frame and byte. (boot, low) is its id within the partition, low = hour << 32 | bit."""
EVENT_OF = np.dtype([("boot", "<u8"), ("low", "<u8"), ("position", "u1"), ("code", "u1"), ("raw", "<f8")])
"""An event and its decision; code 0 activates the position, code k is the reward of the k-th name, counted from 1."""
NOWHERE = 254
"""Position of an event that only tells of its decision."""

_DECISION, _EVENT = struct.Struct("<QQqqIB"), struct.Struct("<QQBBd")
_U16, _U32 = struct.Struct("<H"), struct.Struct("<I")


class Scan:
    """Takes in the frames of one partition in order and keeps 37 bytes a decision, 26 an event.

    ignored  entries that the fold passes over, and those of other surfaces
    """

    def __init__(self, surface: str, ignored: Counter[str]) -> None:
        self._surface, self._ignored = surface.encode(), ignored
        self._watermark = 0
        self._decisions, self._events = bytearray(), bytearray()
        self._contexts = np.zeros(MAX_CONTEXTS, np.int64)

    @property
    def decisions(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """DECISION_AT of each entry that counts, in the order of the log; duplicates included."""
        return np.frombuffer(bytes(self._decisions), DECISION_AT)

    @property
    def events(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """EVENT_OF of each event that counts, in the order of the log; duplicates included."""
        return np.frombuffer(bytes(self._events), EVENT_OF)

    def frame(self, offset: int, body: bytes, append_us: int) -> None:
        """Take in one frame; RecordError where its bytes are damaged."""
        frame_checksum(body)
        self._watermark = max(self._watermark, frame_append_us(body, append_us))
        data, at = np.frombuffer(body, np.uint8), FRAME.size
        while at + ENTRY.size <= len(body):
            kind, size = ENTRY.unpack_from(body, at)
            stop = at + ENTRY.size + size
            if stop > len(body):
                break
            if kind != RETIRE and not (size >= 4 and self._entry(kind, body, data, offset, at, stop)):
                self._ignored["malformed"] += 1
            at = stop
        if at != len(body):
            self._ignored["malformed"] += 1

    def _entry(self, kind: int, body: bytes, data: object, offset: int, at: int, stop: int) -> bool:
        """Whether the entry could be read."""
        receipt = at + ENTRY_RECEIPT_AT
        tail = receipt + _U32.unpack_from(body, receipt - 4)[0]
        if kind not in (DECISION, EVENTS) or tail > stop or tail - receipt <= HEADER.size:
            return False
        _, flags, n_positions, n_names, _, _, boot, hour, bit, _, issued, expires, _ = HEADER.unpack_from(body, receipt)
        surface = receipt + HEADER.size + 4 * n_names
        if surface >= tail:
            return False
        if body[surface + 1 : surface + 1 + body[surface]] != self._surface:
            self._ignored["other_surfaces"] += 1
            return True
        if positions_of(data, receipt, tail, self._contexts)[0] < 0:
            return False
        if kind == EVENTS and (tail + 2 > stop or tail + 2 + EVENT.size * _U16.unpack_from(body, tail)[0] != stop):
            return False
        if issued > self._watermark + HOUR_US:
            self._ignored["early"] += 1
        elif self._watermark > expires + HOUR_US:
            self._ignored["expired"] += 1
        elif kind == DECISION:
            self._decisions += _DECISION.pack(boot, hour << 32 | bit, issued, offset, at, flags & DEFERRED)
        else:
            self._take_events(boot, hour << 32 | bit, flags & DEFERRED, n_positions, n_names, body[tail + 2 : stop])
        return True

    def _take_events(self, boot: int, low: int, deferred: int, n_positions: int, n_names: int, packed: bytes) -> None:
        before = len(self._events)
        for position, kind, name, _, raw in EVENT.iter_unpack(packed):
            if kind == REWARD and position < n_positions and name < n_names:
                self._events += _EVENT.pack(boot, low, position, 1 + name, raw)
            elif deferred and (position < n_positions or position == NO_POSITION):
                self._events += _EVENT.pack(boot, low, position, 0, 0.0)
        if len(self._events) == before:
            self._events += _EVENT.pack(boot, low, NOWHERE, 0, 0.0)
