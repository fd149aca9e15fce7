"""Folds one partition of the log into the store, exactly once.

The store's content is f(log prefix [0, next)). Anything but a clean apply drops the mirror and claims again; what
cannot be trusted halts the partition and says how to mend it, and is never skipped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from bandits.mirror import Meta, Mirror, decode_meta, encode_meta
from bandits.records import FOLD_VERSION, RecordError, decode_retire, frame_append_us, frame_checksum, frame_topic
from bandits.tombstones import stale_keys, stands_after_retirement
from service.log import FeedbackLog, Frame, OutOfRange
from service.store import MAX_KEYS, META_KEY, Fenced, Gap, ParameterStore, StoreUnavailable

logger = logging.getLogger(__name__)

RING = 256
MAX_CLOCK_LEAD_US = 3_600_000_000
_REPLICATED = frozenset(b"ctn")


class RingEntry(msgspec.Struct, array_like=True):
    """Keys that replicas read and that changed when the partition moved from start to stop."""

    start: int
    stop: int
    keys: list[bytes]


encode_ring = msgspec.msgpack.Encoder().encode
decode_ring = msgspec.msgpack.Decoder(RingEntry).decode


def ring_key(number: int) -> bytes:
    return b"r" + bytes((number % RING,))


class Halt(Exception):
    """A partition whose log or state cannot be trusted; the message says how to mend it."""

    def __init__(self, partition: int, reason: str, remedy: str) -> None:
        super().__init__(f"halted: {reason}, partition {partition}: {remedy}")
        self.partition, self.reason, self.remedy = partition, reason, remedy


class Updater:
    """Owner of one partition's fold.

    max_keys   one apply takes no further frame once it holds so many keys; a frame adds at most 3,000 more
    clock_us   UTC microseconds, to halt before a frame from the future moves the watermark
    newest_snapshot   what to run to restore it, or that there is none; every halt ends with it
    """

    def __init__(
        self,
        log: FeedbackLog,
        store: ParameterStore,
        partition: int,
        *,
        max_keys: int = 400,
        max_frames: int = 64,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        newest_snapshot: Callable[[], str] = lambda: "there is no snapshot",
    ) -> None:
        self._log, self._store, self.partition, self._newest_snapshot = log, store, partition, newest_snapshot
        self._max_keys, self._max_frames, self._clock_us = max_keys, max_frames, clock_us
        self.cleared_halt = False
        """Whether a claim has taken the reason of a halt out of the state."""
        self.claim()

    def claim(self) -> None:
        """Take the partition over and rebuild the mirror from the store; Halt where the two do not fit the log."""
        try:
            self._claim()
        except Halt as halt:
            self._record(halt)
            raise

    def _claim(self) -> None:
        self._ahead: list[Frame] = []
        self._claimed = self._readable = False
        claim = self._store.claim(self.partition)
        self._token = claim.token
        with self._reading():
            self.meta = Meta(topic=self._log.topic_id) if claim.meta is None else decode_meta(claim.meta)
        self._readable = True
        self.meta.token = claim.token
        self._trust(self.meta, *self._log.bounds(self.partition))
        values = dict(self._store.scan(self.partition))
        with self._reading():
            stale = self._load(values)
        try:
            # Before anything later is folded: a table that comes back may have the same keys.
            self._delete(stale)
            if self._after_retirement or self.meta.halt:
                # With the new token, so that replicas read the partition anew.
                cleared = bool(self.meta.halt)
                self._write(msgspec.structs.replace(self.meta, halt=""))
                self.cleared_halt |= cleared
        except (Fenced, Gap) as fault:
            logger.warning("partition %d has another owner: %s", self.partition, fault)
            return
        self._claimed = True

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, LookupError, msgspec.DecodeError) as fault:
            raise Halt(self.partition, f"state cannot be read ({fault})", self._restore) from fault

    def _load(self, values: dict[bytes, bytes]) -> list[bytes]:
        """Make the mirror from the store's values; returns keys that a crash after a retire entry's apply has left."""
        self._after_retirement = stands_after_retirement(values, self.meta.next)
        stale = stale_keys(values, self.meta.next)
        for key in stale:
            del values[key]
        self.mirror = Mirror()
        self.mirror.load(values.items(), self.meta.watermark)
        return stale

    def _delete(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), MAX_KEYS):
            self._store.delete(self.partition, self._token, keys[start : start + MAX_KEYS], at=self.meta.next)

    def _write(self, meta: Meta) -> None:
        """Write `m` where the partition stands."""
        self._store.apply(self.partition, self._token, {META_KEY: encode_meta(meta)}, start=meta.next, stop=meta.next)
        self.meta = meta

    def _record(self, halt: Halt) -> None:
        """Let `m` say why the partition is halted; the next claim clears it."""
        self._claimed = False
        if not self._readable or self.meta.fold_version != FOLD_VERSION:
            # An `m` of another version, or one that cannot be read, may hold more than would be written back.
            return
        try:
            self._write(msgspec.structs.replace(self.meta, halt=halt.reason))
        except (Fenced, Gap, StoreUnavailable) as fault:
            logger.warning("partition %d: the state does not say that it is halted: %s", self.partition, fault)

    def drop(self) -> None:
        """Trust neither mirror nor token any more; the next step claims again."""
        self._claimed = False

    def _trust(self, meta: Meta, start: int, stop: int) -> None:
        restore = self._restore
        if meta.topic != self._log.topic_id:
            raise Halt(
                self.partition, f"state is of log {meta.topic.hex()}, this is {self._log.topic_id.hex()}", restore
            )
        if meta.fold_version != FOLD_VERSION:
            reason = f"state was folded by version {meta.fold_version}, this is {FOLD_VERSION}"
            raise Halt(self.partition, reason, f"run the version that wrote it; or {self._newest_snapshot()}")
        if start > meta.next == 0:
            raise Halt(self.partition, f"log begins at {start} and there is no state", restore)
        if start > meta.next:
            raise Halt(self.partition, f"log begins at {start}, state stands at {meta.next}", restore)
        if stop < meta.next:
            raise Halt(self.partition, f"log ends at {stop}, state stands at {meta.next}", restore)
        if meta.next > start and self._checksum_of(meta.next - 1) != meta.checksum:
            raise Halt(self.partition, f"frame {meta.next - 1} is not the one that was folded", restore)

    def _checksum_of(self, offset: int) -> int | None:
        """Checksum of a frame that the log holds; None where the frame is damaged."""
        (frame,) = self._log.read(self.partition, offset, 1)
        try:
            return frame_checksum(frame.body)
        except RecordError:
            return None

    def step(self) -> int:
        """Fold what the log has beyond next, up to the bounds; returns how many frames moved into the store."""
        try:
            return self._step()
        except Halt as halt:
            self._record(halt)
            raise

    def _step(self) -> int:
        if not self._claimed:
            self._claim()
        if not self._claimed:
            return 0
        try:
            frames = self._ahead or self._log.read(self.partition, self.meta.next, self._max_frames)
        except OutOfRange as fault:
            raise self._lost_frames(str(fault)) from fault
        if not frames:
            return 0
        meta = msgspec.structs.replace(self.meta)
        for frame in frames:
            # An apply writes values and removes none, so that what a retire frame drops goes before any other frame.
            alone = decode_retire(frame.body) is not None
            if alone and meta.next > self.meta.next:
                break
            self._fold(frame.offset, frame.body, frame.append_us, meta)
            if alone or self.mirror.n_changed >= self._max_keys:
                break
        values = self.mirror.take_changes()
        meta.ring += 1
        replicated = [key for key in values if key[0] in _REPLICATED]
        values[ring_key(meta.ring)] = encode_ring(RingEntry(self.meta.next, meta.next, replicated))
        meta.watermark = self.mirror.watermark
        values[META_KEY] = encode_meta(meta)
        if len(values) > MAX_KEYS:
            reason = f"frame {meta.next - 1} changes {len(values)} keys with those before it, more than {MAX_KEYS}"
            raise Halt(self.partition, reason, f"its writer broke the bound of a frame: {self._copy_of_log}")
        try:
            self._store.apply(self.partition, self._token, values, start=self.meta.next, stop=meta.next)
        except (Fenced, Gap):
            self._claim()
            return 0
        moved = meta.next - self.meta.next
        self.meta = meta
        self._ahead = frames[moved:]
        if dropped := self.mirror.take_dropped():
            self._forget(dropped)
        return moved

    def _forget(self, keys: Sequence[bytes]) -> None:
        """Delete what a retire entry has dropped, and change the token, so that replicas read the partition anew."""
        try:
            self._delete(keys)
            claim = self._store.claim(self.partition)
            self._token = claim.token
            if claim.next == self.meta.next:
                self._write(msgspec.structs.replace(self.meta, token=claim.token))
                return
        except (Fenced, Gap) as fault:
            logger.warning("partition %d has another owner: %s", self.partition, fault)
        self._claim()

    def _fold(self, offset: int, body: bytes, append_us: int, meta: Meta) -> None:
        if offset != meta.next:
            raise self._lost_frames(f"log has frame {offset} where {meta.next} belongs")
        try:
            lead = frame_append_us(body, append_us) - self._clock_us()
            if lead > MAX_CLOCK_LEAD_US:
                # A damaged frame may well show such a time.
                frame_checksum(body)
                reason = f"frame {offset} was appended {lead / 1e6:.0f} s ahead of this machine's clock"
                raise Halt(
                    self.partition, reason, f"set the clocks right, then start again; else {self._newest_snapshot()}"
                )
            meta.checksum = self.mirror.fold(body, append_us, offset + 1)
            if frame_topic(body) != self._log.topic_id:
                reason = f"frame {offset} was written for log {frame_topic(body).hex()}"
                raise Halt(self.partition, reason, self._copy_of_log)
        except RecordError as fault:
            raise Halt(self.partition, f"frame {offset} is damaged ({fault})", self._copy_of_log) from fault
        meta.next = offset + 1

    @property
    def _restore(self) -> str:
        return f"{self._newest_snapshot()}; or start with an empty data directory"

    @property
    def _copy_of_log(self) -> str:
        return f"restore the log from a copy; {self._newest_snapshot()}"

    def _lost_frames(self, reason: str) -> Halt:
        return Halt(self.partition, reason, f"the log lost frames: {self._newest_snapshot()}")

    def expire(self) -> int:
        """Delete dedupe bits that the stored watermark has passed; returns how many keys went."""
        keys = self.mirror.take_expired(self.meta.watermark)
        try:
            self._delete(keys)
        except (Fenced, Gap):
            self.claim()
        return len(keys)
