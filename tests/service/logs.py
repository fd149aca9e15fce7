"""Logs and frames for tests of what follows a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bandits.names import arm_key
from bandits.records import (
    DECISION,
    EVENTS,
    REWARD,
    Entry,
    Event,
    Position,
    Receipt,
    ReceiptContext,
    encode_frame,
)
from service.log import Appended, Frame, OutOfRange
from tests.bandits.strategies import DETAILS, NOW_US, TTL_US, encode_entry

TOPIC = bytes(range(16))


class ListLog:
    """A FeedbackLog in lists, whose frames tests may change, lose or date as they like."""

    def __init__(self, partitions: int = 1, topic_id: bytes = TOPIC) -> None:
        self.topic_id, self.partitions, self.append_us = topic_id, partitions, NOW_US
        self.frames: list[list[Frame]] = [[] for _ in range(partitions)]

    def append(self, frames: Sequence[tuple[int, bytes]]) -> list[Appended]:
        appended = []
        for partition, body in frames:
            offset = self.bounds(partition)[1]
            self.frames[partition].append(Frame(offset, self.append_us, body))
            appended.append(Appended(partition, offset, self.append_us))
        return appended

    def put(self, entries: Iterable[Entry], partition: int = 0, original_us: int = -1) -> None:
        """Append one frame of entries."""
        self.append([(partition, encode_frame([encode_entry(e) for e in entries], self.topic_id, original_us))])

    def read(self, partition: int, start: int, max_frames: int) -> list[Frame]:
        first, stop = self.bounds(partition)
        if not first <= start <= stop:
            raise OutOfRange(f"partition {partition} holds [{first}, {stop}), asked for {start}")
        return [frame for frame in self.frames[partition] if frame.offset >= start][:max_frames]

    def bounds(self, partition: int) -> tuple[int, int]:
        frames = self.frames[partition]
        return (frames[0].offset, frames[-1].offset + 1) if frames else (0, 0)

    def close(self) -> None:
        """There is nothing to release."""


def decision(number: int = 0, items: Sequence[str] = ("a", "b"), n_slots: int = 2, **changes: object) -> Receipt:
    """The number-th decision of one boot: some items over the same slots 0, 64, 128 .. with weight 1/2."""
    slots = np.arange(n_slots, dtype="<u4") * 64
    context = ReceiptContext(7, slots.tobytes(), np.full(n_slots, 1 << 14, "<i4").tobytes())
    positions = tuple(Position(arm_key(item), item, 0.5) for item in items)
    receipt = Receipt(9, 0, 0, 512 * number, number, NOW_US, NOW_US + TTL_US, 1, "home", (0,), (context,), positions)
    return replace(receipt, **changes)  # type: ignore[arg-type]


def decided(receipt: Receipt) -> Entry:
    return Entry(DECISION, receipt, details=DETAILS)


def rewarded(receipt: Receipt, position: int = 0, value: int = 1 << 15) -> Entry:
    return Entry(EVENTS, receipt, events=(Event(position, REWARD, 0, value, value / (1 << 15)),))
