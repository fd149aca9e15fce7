"""From a request to a slate, its receipt and its log entry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from bandits.records import (
    DEFERRED,
    ENTRY_RECEIPT_AT,
    MAX_DECISION_KEYS,
    MAX_ENTRY_BYTES,
    MAX_RECEIPT_BYTES,
    NOLEARN,
    NULL_PROPENSITY,
    Details,
    Position,
    Receipt,
    ReceiptContext,
    encode_decision,
    encode_receipt,
    entry_keys,
    set_ordinal,
)
from bandits.sampling import Sampler, Uniforms
from bandits.tables import GraphTable, Scored
from service.decision_ids import DecisionIds
from service.log_writer import LogWriter
from service.metrics import Metrics
from service.partitions import partition_of
from service.problems import invalid
from service.receipts import Signer
from service.replica import Replica
from service.schemas import Contribution, Decision, RecommendRequest, ServedItem
from service.surface import Candidates, Surface, unknown_surface

DEFAULT_N = 10
MAX_LOGGED_DISTRIBUTION = 64
MAX_UNLEARNED_ARMS = 200_000
"""No server serves half as many new arms before the fold has learned of them."""
_GREEDY, _UNIFORM = Sampler("greedy"), Sampler("uniform")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A drawn slate of which nothing is logged yet.

    encoded, entry   receipt and log entry, whose ordinal is given by commit
    decision         the reply, whose receipt is sealed by commit
    """

    surface: Surface
    receipt: Receipt
    encoded: bytes
    entry: bytes
    decision: Decision


@dataclass(frozen=True, slots=True)
class Sealed:
    """A decision whose receipt is sealed before its entry is logged.

    ordinal, entry   None, and empty, where nothing is learned from it, as the receipt says
    """

    prepared: Prepared
    ordinal: int | None
    entry: bytes

    @property
    def decision(self) -> Decision:
        return self.prepared.decision


@dataclass(frozen=True, slots=True)
class _Slate:
    """What was drawn: candidates' places, propensities, and the law they were drawn by."""

    items: np.ndarray[tuple[int], np.dtype[np.int64]]
    propensity: list[float]
    sampler: Sampler


class Recommender:
    """Answers requests on the thread that scores.

    ttl_s    lifetime of receipts
    age_s    seconds since the tables were last known to be current
    rng      where all exploration comes from
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        replica: Replica,
        writer: LogWriter,
        signer: Signer,
        ids: DecisionIds,
        metrics: Metrics,
        *,
        n_partitions: int,
        user_key: bytes,
        ttl_s: int,
        age_s: Callable[[], float],
        rng: np.random.Generator,
    ) -> None:
        self._surfaces, self._replica, self._writer, self._signer = surfaces, replica, writer, signer
        self._ids, self._metrics, self._user_key, self._ttl_us = ids, metrics, user_key, ttl_s * 10**6
        self._uniforms = Uniforms(rng)
        self._n_partitions = n_partitions
        self._default = next(iter(surfaces))
        self._age_s = age_s
        self._withdrawn: dict[tuple[int, int], list[int]] = {}

    def _check(self, request: RecommendRequest) -> tuple[Surface, Candidates, int]:
        """Surface, candidates and number of served items."""
        name = self._default if request.surface is None else request.surface
        surface = self._surfaces.get(name)
        if surface is None:
            raise unknown_surface(name)
        if request.user is not None and not request.user.isprintable():
            raise invalid("user", f"must be 1 to 128 printable characters, got {request.user!r}")
        found = surface.candidates(request, self._replica.cells)
        n = min(DEFAULT_N if request.n is None else request.n, found.scored.item.size)
        self._check_keys(n, found)
        return surface, found, n

    def decide(self, request: RecommendRequest) -> Decision:
        """Draw a slate and log it; Problem, leaving no trace, where the request is wrong."""
        return self.commit(self.prepare(request))

    def prepare(self, request: RecommendRequest) -> Prepared:
        """Draw a slate; Problem where the request is wrong. Leaves no trace until it is committed."""
        surface, found, n = self._check(request)
        name = surface.name
        now_us = time.time_ns() // 1000
        partition = (
            self._ids.next_partition() if request.user is None else partition_of(request.user, self._n_partitions)
        )
        n_bits = 1 + n * (1 + len(surface.rewards.hashes))
        decision = self._ids.take(partition, n_bits, now_us)
        mode = surface.mode(request.user, str(decision).encode(), self._user_key)
        if mode == "exploit":
            found.scored.score = found.scored.mean
        slate = self._draw(surface, found.scored, mode, n)
        receipt = Receipt(
            decision.boot,
            decision.hour,
            partition,
            decision.bit,
            0,
            now_us,
            now_us + self._ttl_us,
            surface.hashed.totals if found.table is None else found.table.totals,
            name,
            surface.rewards.hashes,
            self._contexts(found),
            self._positions(surface, found, slate),
            DEFERRED if request.deferred else 0,
        )
        encoded = encode_receipt(receipt)
        if len(encoded) > MAX_RECEIPT_BYTES:
            raise invalid(
                "n", f"receipt would have {len(encoded)} bytes, at most {MAX_RECEIPT_BYTES}: ask for fewer items"
            )
        entry = encode_decision(encoded, self._details(surface, request, found, slate, mode))
        if len(entry) > MAX_ENTRY_BYTES:
            raise invalid(
                "items", f"log entry would have {len(entry)} bytes, at most {MAX_ENTRY_BYTES}: send fewer items"
            )
        reply = Decision(
            str(decision),
            name,
            _policy(surface, mode),
            mode,  # type: ignore[arg-type]
            self._served(surface, found, slate, bool(request.explain)),
            "",
            found.scored.item.size,
            self._replica.version,
            int(1000 * self._age_s()),
            **({} if surface.graph is None else {"graph_version": surface.graph.graph.version}),
        )
        return Prepared(surface, receipt, encoded, entry, reply)

    def commit(self, prepared: Prepared) -> Decision:
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

    def _check_keys(self, n: int, found: Candidates) -> None:
        keys = n * (found.context.slots.size + 1) + 10
        if keys > MAX_DECISION_KEYS:
            rule = f"served items x (slots + 1) + 10 must be <= {MAX_DECISION_KEYS}"
            raise invalid("n", f"{rule}, got {n} x ({found.context.slots.size} + 1) + 10 = {keys}")

    def _draw(self, surface: Surface, scored: Scored, mode: str, n: int) -> _Slate:
        sampler = surface.sampler
        if mode == "holdout" or surface.settings.policy == "uniform":
            sampler = _UNIFORM
        elif mode == "exploit":
            sampler = _GREEDY
        items, propensity = sampler.draw(scored.score, n, self._uniforms.take(n))
        return _Slate(items, propensity.tolist(), sampler)

    def _contexts(self, found: Candidates) -> tuple[ReceiptContext, ...]:
        if found.table is None:
            return ()
        return (ReceiptContext(found.table.table, found.context.slots.tobytes(), found.context.quanta.tobytes()),)

    def _positions(self, surface: Surface, found: Candidates, slate: _Slate) -> tuple[Position, ...]:
        places = found.scored.item[slate.items].astype(np.int64)
        ids = [found.ids[i] for i in places.tolist()]
        rows = zip(surface.arm_keys(found, places), ids, slate.propensity, surface.masks(found, places), strict=True)
        if found.table is None:
            return tuple(Position(arm, item, p, ()) for arm, item, p, _ in rows)
        return tuple(Position(arm, item, p, ((0, mask),)) for arm, item, p, mask in rows)

    def _details(
        self, surface: Surface, request: RecommendRequest, found: Candidates, slate: _Slate, mode: str
    ) -> Details:
        sampler, scored = slate.sampler, found.scored
        scores = (scored.score[slate.items] * np.float32(surface.rewards.scale)).tolist()
        small = 0 < scored.item.size <= MAX_LOGGED_DISTRIBUTION
        graph = None
        candidates = None
        if isinstance(found.table, GraphTable):
            graph = found.table.graph.version
        if found.explicit:
            candidates = list(found.ids)
        elif small:
            candidates = [found.ids[i] for i in scored.item.tolist()]
        return Details(
            policy=_policy(surface, mode),
            mode=mode,
            sampler=(sampler.kind, sampler.temperature, sampler.m, sampler.epsilon),
            parameters=self._replica.version,
            scores=scores,
            user=None if request.user is None else hash_user(request.user, self._user_key),
            event_id=request.event_id,
            candidates=candidates,
            graph=graph,
            exclude=request.exclude or [],
            distribution=sampler.first_position(scored.score).tolist() if small else None,
            features=request.features,
        )

    def _served(self, surface: Surface, found: Candidates, slate: _Slate, explain: bool) -> list[ServedItem]:
        ids, scored = found.ids, found.scored
        places = scored.item[slate.items].tolist()
        served = [
            ServedItem(ids[i], position, None if p == NULL_PROPENSITY else p)
            for position, (i, p) in enumerate(zip(places, slate.propensity, strict=True))
        ]
        if explain:
            scale = surface.rewards.scale
            for item, i in zip(served, slate.items.tolist(), strict=True):
                item.score, item.mean = float(scored.score[i]) * scale, float(scored.mean[i]) * scale
                item.bonus = item.score - item.mean
                item.contributions = self._contributions(surface, found, i)
        return served

    def _contributions(self, surface: Surface, found: Candidates, candidate: int) -> list[Contribution]:
        """Each slot's weight times theta, in reward units; with the centre they sum to the mean."""
        context, table, scale = found.context, found.table, surface.rewards.scale
        if table is None:
            return []
        item_id = found.ids[int(found.scored.item[candidate])]
        arm, item = np.array([surface.arm(item_id)], np.uint64), np.empty(0, np.int32)
        active = np.ones(context.slots.size, np.bool_)
        if isinstance(table, GraphTable):
            item = np.array([table.graph.index.get(item_id, -1)], np.int32)
            active = table.graph.edges_of(item, context.slots)[0] >= 0
        total = float(context.weights[active].sum()) or 1.0
        contributions = []
        for k, weight in enumerate(context.weights.tolist()):
            one = type(context)(context.slots[k : k + 1], context.quanta[k : k + 1])
            if isinstance(table, GraphTable):
                scored = table.upper_bounds_of(item, one)
            else:
                scored = table.upper_bounds(self._replica.cells, arm, one)
            value = (float(scored.mean[0]) - table.centre) * scale
            if table.learning.variant == "weights":
                # A slot alone is divided by its own weight, the mean by all of them.
                value *= weight / total
            contributions.append(Contribution(int(context.slots[k]), weight, value))
        return contributions


def _is_near_max_arms(surface: Surface) -> bool:
    """Whether arms have to be counted as they are served; else as they are learned, which is cheaper, will do."""
    return surface.settings.max_arms <= MAX_UNLEARNED_ARMS or len(surface.arms) > surface.settings.max_arms // 2


def _arms(receipt: Receipt) -> Iterator[int]:
    """Arms that get state from this decision: those with an edge to any of its slots."""
    for position in receipt.positions:
        if any(not mask or mask.count(0) < len(mask) for _, mask in position.references):
            yield position.arm


def _policy(surface: Surface, mode: str) -> str:
    return "uniform" if mode == "holdout" else surface.settings.policy


def hash_user(user: str, key: bytes) -> bytes:
    """How a user id stands in the log: a keyed hash, 16 bytes."""
    return blake2b(user.encode(), key=key[:64], digest_size=16).digest()
