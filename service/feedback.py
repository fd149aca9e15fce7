"""From posted events to log entries: the receipt says all that learning needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from bandits.records import (
    IMPRESSION,
    MAX_DECISION_KEYS,
    MAX_RECEIPT_BYTES,
    NO_POSITION,
    REWARD,
    Event,
    Receipt,
    RecordError,
    decode_receipt,
    encode_events,
    entry_keys,
)
from service.event_ids import FIND_AT_ONCE, EventIds
from service.kept_replies import Key
from service.log import Appended, LogFull, LogUnavailable
from service.log_writer import LogWriter, QueueFull
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.receipts import ReceiptError, Signer
from service.rewards import Generations, RewardError, Rewards
from service.schemas import Accepted, EventIn, FeedbackOne, FeedbackRequest, KeptReceipt

MAX_EVENTS_PER_ENTRY = 4000
RETRY_AFTER_S = 1
BREATH = 64
"""Receipts of a batch taken in before other connections get their turn."""
_receipt_of = msgspec.json.Decoder(KeptReceipt).decode


@dataclass(slots=True)
class _Checked:
    """What a request comes to: partition, bytes and keys of each entry, and counts of its events.

    Bytes from the start: receipts and events of a full batch, kept, had the collector stop everything for 0.13 s.
    """

    entries: list[tuple[int, bytes, int]] = field(default_factory=list)
    accepted: int = 0
    not_learned: int = 0
    impressions: int = 0

    def add(self, body: bytes, receipt: Receipt, keys: int, events: Sequence[Event]) -> None:
        """Take in the events of one receipt, whose decision has so many keys."""
        self.accepted += len(events)
        self.impressions += sum(event.kind == IMPRESSION for event in events)
        if receipt.nolearn:
            self.not_learned += len(events)
            return
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
        event_ids: EventIds,
        *,
        surfaces: Sequence[str],
        partitions: int,
        clock_fault: Callable[[], str],
    ) -> None:
        self._signer, self._writer, self._generations = signer, writer, generations
        self._metrics, self._surfaces, self._partitions = metrics, frozenset(surfaces), partitions
        self._event_ids, self._clock_fault = event_ids, clock_fault

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
            detail = f"outcome unknown, retry is safe: {_told(failure)}"
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
            kept = await self._kept(request.batch)
            for i, one in enumerate(request.batch):
                await _breathe(i)
                try:
                    await self._check_one(one, checked, kept)
                except Problem as problem:
                    raise problem.at(f"batch[{i}]") from problem
            return checked
        if request.events is None:
            raise invalid("events", "needed beside receipt or event_id")
        one = FeedbackOne(request.events, request.receipt, request.event_id, request.surface)
        await self._check_one(one, checked, await self._kept([one]))
        return checked

    async def _kept(self, ones: Sequence[FeedbackOne]) -> Mapping[Key, str]:
        """The receipts of the replies kept for the event ids among these."""
        keys: dict[Key, None] = {}
        for i, one in enumerate(ones):
            await _breathe(i)
            if one.event_id is not None and one.receipt is None:
                # What is wrong with a key is said in its turn.
                with suppress(Problem):
                    keys[self._event_ids.key(one.surface, one.event_id)] = None
        receipts: dict[Key, str] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), FIND_AT_ONCE):
            found = await self._event_ids.find(wanted[start : start + FIND_AT_ONCE])
            receipts |= {key: _receipt_of(reply).receipt for key, reply in found.items()}
        return receipts

    def _receipt(self, one: FeedbackOne, kept: Mapping[Key, str]) -> str:
        """The receipt given, or that of the reply kept for the event id given."""
        if one.event_id is None:
            if one.receipt is None:
                raise invalid("receipt", "needed: exactly one of receipt, event_id, batch")
            return one.receipt
        if one.receipt is not None:
            raise invalid("event_id", "not beside receipt: exactly one of receipt, event_id, batch")
        key = self._event_ids.key(one.surface, one.event_id)
        receipt = kept.get(key)
        if receipt is None:
            rule = "no reply is kept for it, or it is older than receipts.event_ttl_s"
            raise Problem(404, f"unknown event_id {one.event_id!r} on surface {key[0]!r}: {rule}")
        return receipt

    async def _check_one(self, one: FeedbackOne, checked: _Checked, kept: Mapping[Key, str]) -> None:
        token = self._receipt(one, kept)
        if one.surface is not None and one.surface not in self._surfaces:
            raise Problem(404, f"unknown surface {one.surface!r}")
        try:
            body = self._signer.open(token)
        except ReceiptError as fault:
            raise Problem(400, str(fault)) from fault
        receipt, keys = _decoded(body)
        if one.surface is not None and receipt.surface != one.surface:
            raise Problem(400, f"receipt is of surface {receipt.surface!r}, not {one.surface!r}")
        if receipt.expires_us < time.time_ns() // 1000:
            raise Problem(400, "receipt is expired")
        if receipt.partition >= self._partitions:
            raise Problem(400, f"receipt is of partition {receipt.partition}, this log has {self._partitions}")
        generation = self._generations.get(receipt.totals)
        if generation is None:
            raise Problem(400, "receipt is of a generation that was retired, or that this data directory never had")
        events = []
        for i, event in enumerate(one.events):
            await _breathe(i)
            events.append(self._event(event, f"events[{i}]", receipt, generation.rewards))
        checked.add(body, receipt, keys, events)

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


def _decoded(body: bytes) -> tuple[Receipt, int]:
    """The receipt of an opened token, and its decision's keys; Problem 400 where it is none that a server gives out."""
    try:
        receipt = decode_receipt(body)
        keys = entry_keys(receipt.positions, receipt.contexts)
    except (RecordError, IndexError) as fault:
        raise Problem(400, f"receipt is signed, but cannot be read: {fault}") from fault
    if keys > MAX_DECISION_KEYS or len(body) > MAX_RECEIPT_BYTES:
        raise Problem(400, f"receipt is signed, but has {keys} keys and {len(body)} bytes: more than any decision")
    return receipt, keys


def _told(failure: LogUnavailable) -> str:
    """What a client may know of it: the path of the log is for the server's own messages only."""
    if isinstance(failure, QueueFull):
        return str(failure)
    return "the log is full" if isinstance(failure, LogFull) else "the log cannot be written"


async def _breathe(i: int) -> None:
    if i % BREATH == BREATH - 1:
        await asyncio.sleep(0)
