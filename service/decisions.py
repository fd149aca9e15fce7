"""From what was drawn to a log entry and a sealed receipt, whatever was decided."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, cast

from bandits.records import (
    ENTRY_RECEIPT_AT,
    MAX_ENTRY_BYTES,
    MAX_RECEIPT_BYTES,
    NOLEARN,
    Details,
    Position,
    Receipt,
    ReceiptContext,
    encode_decision,
    encode_receipt,
    entry_keys,
    set_ordinal,
)
from service.decision_ids import DecisionId, DecisionIds
from service.log_writer import LogWriter
from service.metrics import Metrics
from service.partitions import partition_of
from service.problems import invalid
from service.receipts import Signer
from service.schemas import AdLoadDecision, Decision
from service.surface import Surface

MAX_LOGGED_DISTRIBUTION = 64
MAX_UNLEARNED_ARMS = 200_000
"""No server serves half as many new arms before the fold has learned of them."""
Mode = Literal["explore", "exploit", "holdout"]
Reply = Decision | AdLoadDecision


@dataclass(frozen=True, slots=True)
class Begun:
    """A decision that has an id and a mode, and nothing else yet."""

    id: DecisionId
    mode: Mode
    issued_us: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A drawn slate or ad load of which nothing is logged yet.

    encoded, entry   receipt and log entry, whose ordinal is given by commit
    decision         the reply, whose receipt is sealed by commit
    """

    surface: Surface
    receipt: Receipt
    encoded: bytes
    entry: bytes
    decision: Reply


@dataclass(frozen=True, slots=True)
class Sealed:
    """A decision whose receipt is sealed before its entry is logged.

    ordinal, entry   None, and empty, where nothing is learned from it, as the receipt says
    """

    prepared: Prepared
    ordinal: int | None
    entry: bytes

    @property
    def decision(self) -> Reply:
        return self.prepared.decision


class Decisions:
    """Gives decisions their ids, receipts and entries; used on the thread that scores.

    ttl_s    lifetime of receipts
    """

    def __init__(
        self,
        writer: LogWriter,
        signer: Signer,
        ids: DecisionIds,
        metrics: Metrics,
        *,
        n_partitions: int,
        user_key: bytes,
        ttl_s: int,
    ) -> None:
        self._writer, self._signer, self._ids, self._metrics = writer, signer, ids, metrics
        self._n_partitions, self._user_key, self._ttl_us = n_partitions, user_key, ttl_s * 10**6
        self._withdrawn: dict[tuple[int, int], list[int]] = {}

    def begin(self, surface: Surface, user: str | None, n: int) -> Begun:
        """Id and mode of a decision of n positions."""
        now_us = time.time_ns() // 1000
        partition = self._ids.next_partition() if user is None else partition_of(user, self._n_partitions)
        decision = self._ids.take(partition, 1 + n * (1 + len(surface.rewards.hashes)), now_us)
        mode = surface.mode(user, str(decision).encode(), self._user_key)
        return Begun(decision, cast(Mode, mode), now_us)

    def hash_user(self, user: str | None) -> bytes | None:
        """How a user id stands in the log."""
        return None if user is None else hash_user(user, self._user_key)

    def prepare(
        self,
        surface: Surface,
        begun: Begun,
        reply: Reply,
        details: Details,
        *,
        totals: int,
        contexts: tuple[ReceiptContext, ...],
        positions: tuple[Position, ...],
        flags: int,
        at: tuple[str, str],
    ) -> Prepared:
        """Receipt and entry of a decision; leaves no trace until it is committed.

        at   fields that are named where the receipt, or the entry, becomes too large
        """
        receipt = Receipt(
            begun.id.boot,
            begun.id.hour,
            begun.id.partition,
            begun.id.bit,
            0,
            begun.issued_us,
            begun.issued_us + self._ttl_us,
            totals,
            surface.name,
            surface.rewards.hashes,
            contexts,
            positions,
            flags,
        )
        encoded = encode_receipt(receipt)
        if len(encoded) > MAX_RECEIPT_BYTES:
            rule = f"receipt would have {len(encoded)} bytes, at most {MAX_RECEIPT_BYTES}"
            raise invalid(at[0], f"{rule}: ask for fewer items")
        entry = encode_decision(encoded, details)
        if len(entry) > MAX_ENTRY_BYTES:
            rule = f"log entry would have {len(entry)} bytes, at most {MAX_ENTRY_BYTES}"
            raise invalid(at[1], f"{rule}: send fewer {at[1]}")
        return Prepared(surface, receipt, encoded, entry, reply)

    def commit(self, prepared: Prepared) -> Reply:
        """Queue the decision's entry and seal its receipt; where it cannot be learned the receipt says so."""
        receipt, decision = prepared.receipt, prepared.decision
        encoded, entry = bytearray(prepared.encoded), bytearray(prepared.entry)
        ordinal = self._ids.ordinal(receipt.boot, receipt.partition)
        set_ordinal(encoded, 0, ordinal)
        set_ordinal(entry, ENTRY_RECEIPT_AT, ordinal)
        reason = self._full(prepared.surface, receipt)
        if not reason:
            if self._writer.offer(receipt.partition, bytes(entry), entry_keys(receipt.positions, receipt.contexts)):
                self._ids.logged(receipt.boot, receipt.partition)
                prepared.surface.served(_arms(receipt))
                if _is_near_max_arms(prepared.surface):
                    prepared.surface.arms.update(_arms(receipt))
            else:
                reason = "log_queue"
        if reason:
            self._metrics.nolearn(reason)
            encoded[1] |= NOLEARN
        self._metrics.decision(decision.surface, decision.mode)
        decision.receipt = self._signer.seal(bytes(encoded))
        return decision

    def seal(self, prepared: Prepared) -> Sealed:
        """Give a decision its ordinal and seal its receipt, so that its reply can be kept before it is logged.

        It has to be logged or withdrawn then: what is never logged counts as lost.
        """
        receipt, decision = prepared.receipt, prepared.decision
        encoded, entry = bytearray(prepared.encoded), bytearray(prepared.entry)
        reason = self._full(prepared.surface, receipt)
        if reason:
            self._metrics.nolearn(reason)
            encoded[1] |= NOLEARN
            sealed = Sealed(prepared, None, b"")
        else:
            ordinal = self._reserve(receipt.boot, receipt.partition)
            set_ordinal(encoded, 0, ordinal)
            set_ordinal(entry, ENTRY_RECEIPT_AT, ordinal)
            prepared.surface.served(_arms(receipt))
            if _is_near_max_arms(prepared.surface):
                prepared.surface.arms.update(_arms(receipt))
            sealed = Sealed(prepared, ordinal, bytes(entry))
        decision.receipt = self._signer.seal(bytes(encoded))
        return sealed

    def log(self, sealed: Sealed) -> None:
        """Queue a sealed decision's entry. Without room it is lost, as by a failed append: its events heal it."""
        receipt, decision = sealed.prepared.receipt, sealed.decision
        self._metrics.decision(decision.surface, decision.mode)
        if sealed.ordinal is not None:
            keys = entry_keys(receipt.positions, receipt.contexts)
            if not self._writer.offer(receipt.partition, sealed.entry, keys):
                self._metrics.nolearn("log_queue")

    def withdraw(self, sealed: Sealed) -> None:
        """Forget a sealed decision that nobody was told of: the next one sealed in its partition takes its ordinal."""
        receipt = sealed.prepared.receipt
        if sealed.ordinal is not None and receipt.boot == self._ids.boot:
            self._withdrawn = {key: found for key, found in self._withdrawn.items() if key[0] == receipt.boot}
            self._withdrawn.setdefault((receipt.boot, receipt.partition), []).append(sealed.ordinal)

    def _reserve(self, boot: int, partition: int) -> int:
        withdrawn = self._withdrawn.get((boot, partition))
        if withdrawn:
            return withdrawn.pop()
        ordinal = self._ids.ordinal(boot, partition)
        self._ids.logged(boot, partition)
        return ordinal

    def _full(self, surface: Surface, receipt: Receipt) -> str:
        if len(surface.arms) + len(receipt.positions) <= surface.settings.max_arms:
            return ""
        unseen = sum(arm not in surface.arms for arm in _arms(receipt))
        return "max_arms" if unseen and len(surface.arms) + unseen > surface.settings.max_arms else ""


def _is_near_max_arms(surface: Surface) -> bool:
    """Whether arms have to be counted as they are served; else as they are learned, which is cheaper, will do."""
    return surface.settings.max_arms <= MAX_UNLEARNED_ARMS or len(surface.arms) > surface.settings.max_arms // 2


def _arms(receipt: Receipt) -> Iterator[int]:
    """Arms that get state from this decision: those with an edge to any of its slots."""
    for position in receipt.positions:
        if any(not mask or mask.count(0) < len(mask) for _, mask in position.references):
            yield position.arm


def hash_user(user: str, key: bytes) -> bytes:
    """How a user id stands in the log: a keyed hash, 16 bytes."""
    return blake2b(user.encode(), key=key[:64], digest_size=16).digest()
