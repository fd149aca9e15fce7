"""What a client asked, was answered, posted and had acknowledged, and what must have been learned from it.

The ledger knows the server only through its answers, and the log through its records; it shares no code with the fold.
"""

from __future__ import annotations

import threading
from base64 import urlsafe_b64decode
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bandits.names import feature_slot
from bandits.records import Receipt, Retire, decode_frame, decode_receipt
from service.log import FeedbackLog

UNIT = 1 << 15
TOKEN_HEAD, TOKEN_MAC = 5, 16
"""Bytes of a token before its receipt, and of its signature behind it."""
Sums = tuple[float, float, float]
Cells = dict[tuple[str, int], Sums]


@dataclass(frozen=True, slots=True)
class Reported:
    """One event as the client sends it; no item: an impression of all."""

    kind: str
    item: str | None = None
    value: float | None = None

    def body(self) -> dict[str, Any]:
        given = {"kind": self.kind, "item": self.item, "value": self.value}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """One feedback request: events of some decisions, sent again until it is acknowledged."""

    parts: tuple[tuple[str, tuple[Reported, ...]], ...]
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision as the client has it."""

    receipt: Receipt
    token: str
    features: Mapping[str, float]
    items: tuple[str, ...]
    deferred: bool


@dataclass(slots=True)
class Contents:
    """What a log holds: decision entries, decisions of which events came, and ordinals never seen below the highest."""

    decisions: set[str] = field(default_factory=set)
    events: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    ordinals: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def gaps(self) -> int:
        return sum(max(seen) + 1 - len(seen) for seen in self.ordinals.values())

    def lost(self, receipt: Receipt) -> bool:
        """Whether a decision lies below its boot's highest ordinal, and nothing of it is here."""
        seen = self.ordinals.get((receipt.boot, receipt.partition), set())
        return receipt.ordinal not in seen and bool(seen) and receipt.ordinal < max(seen)


def contents(log: FeedbackLog) -> Contents:
    """Read every frame of a log that holds it from offset 0 on."""
    found = Contents()
    for partition in range(log.partitions):
        at, stop = log.bounds(partition)
        while at < stop:
            frames = log.read(partition, at, 256)
            at = frames[-1].offset + 1
            for entry in (entry for frame in frames for entry in decode_frame(frame.body)):
                if isinstance(entry, Retire):
                    continue
                receipt = entry.receipt
                found.ordinals[receipt.boot, receipt.partition].add(receipt.ordinal)
                if entry.details is not None:
                    found.decisions.add(receipt.decision_id)
                else:
                    found.events[receipt.decision_id] |= {(event.position, event.kind) for event in entry.events}
    return found


class Ledger:
    """Kept by any number of client threads. Rewards are taken to be one, `reward`, with range 0 to 1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.decisions: dict[str, Answered] = {}
        self.posts: dict[Post, int] = {}
        """How often each was acknowledged."""
        self.counts: Counter[str] = Counter()

    def asked(self, requests: int) -> None:
        """Note requests about to be sent."""
        with self._lock:
            self.counts["asked"] += requests

    def answered(self, requests: Sequence[Mapping[str, Any]], decisions: Sequence[Mapping[str, Any]]) -> None:
        """Note the decisions that came for requests, in their order."""
        for request, decision in zip(requests, decisions, strict=True):
            token = decision["receipt"]
            signed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            receipt = decode_receipt(signed[TOKEN_HEAD:-TOKEN_MAC])
            assert receipt.decision_id == decision["decision_id"]
            items = tuple(item["id"] for item in decision["items"])
            one = Answered(receipt, token, request["features"], items, bool(request.get("deferred")))
            with self._lock:
                assert receipt.decision_id not in self.decisions, "a decision id was given twice"
                self.decisions[receipt.decision_id] = one
                self.counts["answered"] += 1

    def post(self, parts: Iterable[tuple[str, Sequence[Reported]]]) -> Post:
        """Note events about to be sent; the body is what to send."""
        given = tuple((decision, tuple(events)) for decision, events in parts)
        batch = [
            {"receipt": self.decisions[decision].token, "events": [event.body() for event in events]}
            for decision, events in given
        ]
        post = Post(given, {"batch": batch})
        with self._lock:
            self.posts[post] = 0
            self.counts["posted"] += sum(len(events) for _, events in given)
        return post

    def acknowledged(self, post: Post, reply: Mapping[str, Any]) -> None:
        """Note a 202."""
        events = sum(len(events) for _, events in post.parts)
        assert reply == {"accepted": events}, reply
        with self._lock:
            self.posts[post] += 1
            self.counts["acknowledged" if self.posts[post] == 1 else "resent"] += events

    @property
    def open_posts(self) -> list[Post]:
        """Posts without an acknowledgement: in the log or not, nobody knows."""
        with self._lock:
            return [post for post, times in self.posts.items() if not times]

    def _reported(self) -> dict[str, list[Reported]]:
        events: dict[str, list[Reported]] = defaultdict(list)
        for post, times in self.posts.items():
            if times:
                for decision, some in post.parts:
                    events[decision] += some
        return events

    def expected(self, found: Contents) -> tuple[Cells, int, float]:
        """Sums per cell, impressions and reward that follow from acknowledged events and logged decisions.

        Every post must have been acknowledged: of an open one nobody knows.
        """
        if self.open_posts:
            raise ValueError(f"{len(self.open_posts)} posts were never acknowledged: send them again first")
        sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        impressions = reward = 0
        reported = self._reported()
        for decision_id, one in self.decisions.items():
            events = reported[decision_id]
            if decision_id not in found.decisions and not events:
                continue
            shown = dict.fromkeys(one.items, not one.deferred)
            values: dict[str, int] = {}
            for event in events:
                for item in one.items if event.item is None else (event.item,):
                    shown[item] = True
                    if event.value is not None:
                        values.setdefault(item, round(event.value * UNIT))
            for item in one.items:
                for name, weight in one.features.items():
                    quantum, cell = round(weight * UNIT), sums[item, feature_slot(name)]
                    if shown[item]:
                        cell[0] += quantum * quantum
                        cell[1] += quantum
                    cell[2] += quantum * values.get(item, 0)
            impressions += sum(shown.values())
            reward += sum(values.values())
        cells = {at: (a / UNIT**2, b / UNIT, c / UNIT**2) for at, (a, b, c) in sums.items() if a or b or c}
        return cells, impressions, reward / UNIT

    def differences(self, found: Contents, learned: Mapping[str, Any], lost: int) -> list[str]:
        """Everything in which the server's account differs from this one; empty where it counted all exactly once.

        learned   what `banditd cells` shows of the surface
        lost      banditd_decisions_lost_total
        """
        lines = []
        for decision_id, events in self._reported().items():
            kinds = {kind for _, kind in found.events.get(decision_id, ())}
            wanted = {1 if event.value is not None else 0 for event in events}
            if not wanted <= kinds:
                lines.append(f"{decision_id}: acknowledged events are not in the log")
        cells, impressions, reward = self.expected(found)
        shown = {
            (cell["arm"], cell["slot"]): (cell["weight_sq_sum"], cell["weight_sum"], cell["reward_sum"])
            for cell in learned["cells"]
        }
        for at in sorted(cells.keys() | shown.keys()):
            if cells.get(at) != shown.get(at):
                lines.append(f"cell {at}: expected {cells.get(at)}, found {shown.get(at)}")
        totals = learned["surface"]
        if (totals["impressions"], totals["reward"]) != (impressions, reward):
            lines.append(f"totals: expected {impressions} and {reward}, found {totals}")
        if found.gaps != lost:
            lines.append(
                f"lost: the log has {found.gaps} gaps below the boots' highest ordinals, the server says {lost}"
            )
        known = sum(found.lost(one.receipt) for one in self.decisions.values())
        if known > lost:
            lines.append(f"lost: {known} answered decisions are in no entry, the server says {lost}")
        return lines
