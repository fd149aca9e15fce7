"""Folds one partition of the log into the store, exactly once.

The store's content is f(log prefix [0, next)). Anything but a clean apply drops the mirror and claims again; what
cannot be trusted halts the partition and says how to mend it, and is never skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from bandits.mirror import Meta, Mirror, decode_meta, encode_meta
from bandits.records import FOLD_VERSION, RecordError, frame_append_us, frame_checksum, frame_topic
from service.log import FeedbackLog, Frame, OutOfRange
from service.store import MAX_KEYS, Fenced, Gap, ParameterStore

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
    ) -> None:
        self._log, self._store, self.partition = log, store, partition
        self._max_keys, self._max_frames, self._clock_us = max_keys, max_frames, clock_us
        self._expired_at = 0
        self.claim()

    def claim(self) -> None:
        """Take the partition over and rebuild the mirror from the store; Halt where the two do not fit the log."""
        self._ahead: list[Frame] = []
        self._claimed = False
        claim = self._store.claim(self.partition)
        self._token = claim.token
        start, stop = self._log.bounds(self.partition)
        if claim.meta is None:
            if start > 0:
                raise Halt(
                    self.partition, f"log begins at {start} and there is no state", "restore the newest snapshot"
                )
            meta = Meta(topic=self._log.topic_id)
        else:
            meta = decode_meta(claim.meta)
            self._trust(meta, start, stop)
        meta.token = claim.token
        self.meta, self.mirror = meta, Mirror()
        self.mirror.load(self._store.scan(self.partition), meta.watermark)
        self._claimed = True

    def drop(self) -> None:
        """Trust neither mirror nor token any more; the next step claims again."""
        self._claimed = False

    def _trust(self, meta: Meta, start: int, stop: int) -> None:
        restore = "restore the snapshot that belongs to this log, or start with an empty data directory"
        if meta.topic != self._log.topic_id:
            raise Halt(
                self.partition, f"state is of log {meta.topic.hex()}, this is {self._log.topic_id.hex()}", restore
            )
        if meta.fold_version != FOLD_VERSION:
            reason = f"state was folded by version {meta.fold_version}, this is {FOLD_VERSION}"
            raise Halt(self.partition, reason, "run the version that wrote it, or delete the state and replay the log")
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
        if not self._claimed:
            self.claim()
        try:
            frames = self._ahead or self._log.read(self.partition, self.meta.next, self._max_frames)
        except OutOfRange as fault:
            raise self._lost_frames(str(fault)) from fault
        if not frames:
            return 0
        meta = msgspec.structs.replace(self.meta)
        for frame in frames:
            self._fold(frame.offset, frame.body, frame.append_us, meta)
            if self.mirror.n_changed >= self._max_keys:
                break
        values = self.mirror.take_changes()
        meta.ring += 1
        replicated = [key for key in values if key[0] in _REPLICATED]
        values[ring_key(meta.ring)] = encode_ring(RingEntry(self.meta.next, meta.next, replicated))
        meta.watermark = self.mirror.watermark
        values[b"m"] = encode_meta(meta)
        if len(values) > MAX_KEYS:
            reason = f"frame {meta.next - 1} changes {len(values)} keys with those before it, more than {MAX_KEYS}"
            raise Halt(self.partition, reason, "its writer broke the bound of a frame: restore the log from a copy")
        try:
            self._store.apply(self.partition, self._token, values, start=self.meta.next, stop=meta.next)
        except (Fenced, Gap):
            self.claim()
            return 0
        moved = meta.next - self.meta.next
        self.meta = meta
        self._ahead = frames[moved:]
        return moved

    def _fold(self, offset: int, body: bytes, append_us: int, meta: Meta) -> None:
        if offset != meta.next:
            raise self._lost_frames(f"log has frame {offset} where {meta.next} belongs")
        try:
            lead = frame_append_us(body, append_us) - self._clock_us()
            if lead > MAX_CLOCK_LEAD_US:
                # A damaged frame may well show such a time.
                frame_checksum(body)
                reason = f"frame {offset} was appended {lead / 1e6:.0f} s ahead of this machine's clock"
                raise Halt(self.partition, reason, "set the clocks right, then start again")
            meta.checksum = self.mirror.fold(body, append_us)
            if frame_topic(body) != self._log.topic_id:
                reason = f"frame {offset} was written for log {frame_topic(body).hex()}"
                raise Halt(self.partition, reason, "restore the log from a copy")
        except RecordError as fault:
            raise Halt(self.partition, f"frame {offset} is damaged ({fault})", "restore the log from a copy") from fault
        meta.next = offset + 1

    def _lost_frames(self, reason: str) -> Halt:
        return Halt(self.partition, reason, "the log lost frames: restore a snapshot taken after them")

    def expire(self) -> int:
        """Delete dedupe bits that the stored watermark has passed; returns how many keys went."""
        keys = self.mirror.take_expired(self.meta.watermark)
        try:
            for start in range(0, len(keys), MAX_KEYS):
                self._store.delete(self.partition, self._token, keys[start : start + MAX_KEYS], at=self.meta.next)
        except (Fenced, Gap):
            self.claim()
        return len(keys)
