"""From posted events to log entries: the receipt says all that learning needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bandits.records import (
    IMPRESSION,
    NO_POSITION,
    REWARD,
    Event,
    Receipt,
    decode_receipt,
    encode_events,
    entry_keys,
)
from service.log import Appended, LogUnavailable
from service.log_writer import LogWriter
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.receipts import ReceiptError, Signer
from service.rewards import Generations, RewardError, Rewards
from service.schemas import Accepted, EventIn, FeedbackOne, FeedbackRequest

MAX_EVENTS_PER_ENTRY = 4000
RETRY_AFTER_S = 1
BREATH = 64
"""Receipts of a batch taken in before other connections get their turn."""


@dataclass(slots=True)
class _Checked:
    """What a request comes to: partition, bytes and keys of each entry, and counts of its events.

    Bytes from the start: receipts and events of a full batch, kept, had the collector stop everything for 0.13 s.
    """

    entries: list[tuple[int, bytes, int]] = field(default_factory=list)
    accepted: int = 0
    not_learned: int = 0
    impressions: int = 0

    def add(self, body: bytes, receipt: Receipt, events: Sequence[Event]) -> None:
        """Take in the events of one receipt."""
        self.accepted += len(events)
        self.impressions += sum(event.kind == IMPRESSION for event in events)
        if receipt.nolearn:
            self.not_learned += len(events)
            return
        keys = entry_keys(receipt.positions, receipt.contexts)
        for start in range(0, len(events), MAX_EVENTS_PER_ENTRY):
            entry = encode_events(body, events[start : start + MAX_EVENTS_PER_ENTRY])
            self.entries.append((receipt.partition, entry, keys))


class Feedback:
    """Checks posted events against their receipts and appends them; used on the event loop."""

    def __init__(
        self,
        signer: Signer,
        writer: LogWriter,
        generations: Generations,
        metrics: Metrics,
        *,
        surfaces: Sequence[str],
        partitions: int,
        clock_fault: Callable[[], str],
    ) -> None:
        self._signer, self._writer, self._generations = signer, writer, generations
        self._metrics, self._surfaces, self._partitions = metrics, frozenset(surfaces), partitions
        self._clock_fault = clock_fault

    async def accept(self, request: FeedbackRequest, received_s: float) -> tuple[Accepted, list[Appended]]:
        """Append all events, or none where any is wrong; returns when they are in the log.

        Raises Problem: 4xx for what is wrong, 503 where the outcome is unknown and sending all again is safe.
        """
        checked = await self._check(request)
        if fault := self._clock_fault():
            raise Problem(503, fault, headers={"Retry-After": str(RETRY_AFTER_S)})
        waiting: list[asyncio.Future[Appended]] = []
        try:
            for i, (partition, entry, keys) in enumerate(checked.entries):
                await _breathe(i)
                waiting.append(self._writer.submit(partition, entry, keys))
            appended = [await waiter for waiter in waiting]
        except LogUnavailable as failure:
            for waiter in waiting:
                # The outcome of one that is done has to be looked at, or the loop complains.
                if not waiter.cancel() and not waiter.cancelled():
                    waiter.exception()
            detail = f"outcome unknown, retry is safe: {failure}"
            raise Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)}) from failure
        accepted, not_learned = checked.accepted, checked.not_learned
        self._metrics.events(checked.impressions, accepted - checked.impressions)
        return (Accepted(accepted, not_learned) if not_learned else Accepted(accepted)), appended

    async def _check(self, request: FeedbackRequest) -> _Checked:
        checked = _Checked()
        if request.batch is not None:
            for name in ("receipt", "event_id", "events", "surface"):
                if getattr(request, name) is not None:
                    raise invalid(name, "not beside batch: exactly one of receipt, event_id, batch")
            for i, one in enumerate(request.batch):
                await _breathe(i)
                try:
                    await self._check_one(one, checked)
                except Problem as problem:
                    raise problem.at(f"batch[{i}]") from problem
            return checked
        if request.events is None:
            raise invalid("events", "needed beside receipt or event_id")
        one = FeedbackOne(request.events, request.receipt, request.event_id, request.surface)
        await self._check_one(one, checked)
        return checked

    async def _check_one(self, one: FeedbackOne, checked: _Checked) -> None:
        if one.event_id is not None:
            raise invalid("event_id", "event ids are not available in this version: send the receipt")
        if one.receipt is None:
            raise invalid("receipt", "needed: exactly one of receipt, event_id, batch")
        if one.surface is not None and one.surface not in self._surfaces:
            raise Problem(404, f"unknown surface {one.surface!r}")
        try:
            body = self._signer.open(one.receipt)
        except ReceiptError as fault:
            raise Problem(400, str(fault)) from fault
        receipt = decode_receipt(body)
        if one.surface is not None and receipt.surface != one.surface:
            raise Problem(400, f"receipt is of surface {receipt.surface!r}, not {one.surface!r}")
        if receipt.expires_us < time.time_ns() // 1000:
            raise Problem(400, "receipt is expired")
        if receipt.partition >= self._partitions:
            raise Problem(400, f"receipt is of partition {receipt.partition}, this log has {self._partitions}")
        generation = self._generations.get(receipt.totals)
        if generation is None:
            raise Problem(400, "receipt is of a generation that this data directory does not know")
        events = []
        for i, event in enumerate(one.events):
            await _breathe(i)
            events.append(self._event(event, f"events[{i}]", receipt, generation.rewards))
        checked.add(body, receipt, events)

    def _event(self, event: EventIn, path: str, receipt: Receipt, rewards: Rewards) -> Event:
        position = NO_POSITION
        if event.item is not None:
            position = next((i for i, p in enumerate(receipt.positions) if p.item == event.item), -1)
            if position < 0:
                raise invalid(f"{path}.item", f"item {event.item!r} was not served by this decision")
        if event.kind == "impression":
            for given in ("value", "name"):
                if getattr(event, given) is not None:
                    raise invalid(f"{path}.{given}", "an impression has none")
            return Event(position, IMPRESSION)
        if position == NO_POSITION:
            if len(receipt.positions) != 1:
                raise invalid(f"{path}.item", f"needed: this decision served {len(receipt.positions)} items")
            position = 0
        if event.value is None:
            raise invalid(f"{path}.value", "a reward needs one")
        try:
            name = rewards.place(event.name)
        except RewardError as fault:
            raise invalid(f"{path}.name", str(fault)) from fault
        try:
            raw, value, clipped = rewards.weigh(name, event.value)
        except RewardError as fault:
            raise invalid(f"{path}.value", str(fault)) from fault
        if clipped:
            self._metrics.clipped(receipt.surface)
        return Event(position, REWARD, name, value, raw)


async def _breathe(i: int) -> None:
    if i % BREATH == BREATH - 1:
        await asyncio.sleep(0)
