"""f(log prefix) once more: from the log, or from a snapshot where the log was cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bandits.mirror import Meta, Mirror, stale_keys
from service.doctor.checks import Unsound
from service.doctor.expired import Expired
from service.doctor.log import FRAMES, check_frame, missing
from service.log import Frame
from service.snapshots import Snapshot
from service.stored_files import StoredLog


class Trimmed(Exception):
    """The log was cut further while it was read."""


@dataclass(slots=True)
class Recomputed:
    """What a partition should hold.

    meta      next, checksum, topic and watermark of it
    values    every key but m and r; expired ones may be left out
    revived   keys that had expired and came again: what they hold depends on when their owner deleted them
    """

    meta: Meta
    values: dict[bytes, bytes] = field(default_factory=dict)
    revived: set[bytes] = field(default_factory=set)


def refold(
    log: StoredLog, partition: int, base: Snapshot | None, stop: int, progress: Callable[[str], None]
) -> Recomputed:
    """Fold a partition's frames up to stop. Raises Unsound where the log does not allow it, Trimmed."""
    values: dict[bytes, bytes] = {}
    meta = Meta(topic=log.topic_id)
    if base is not None:
        meta = base.header.meta(partition)
        values = dict(base.each(partition))
        for key in stale_keys(values, meta.next):
            del values[key]
    mirror = Mirror()
    mirror.load(values.items(), meta.watermark)
    expired = Expired(mirror)
    while meta.next < stop:
        progress(f"state: partition {partition}, frame {meta.next:,} of {stop:,}")
        for frame in _next_frames(log, partition, meta.next, min(FRAMES, stop - meta.next)):
            check_frame(f"partition {partition}: frame {frame.offset}", frame, log.topic_id)
            meta.checksum = mirror.fold(frame.body, frame.append_us, frame.offset + 1)
            meta.next = frame.offset + 1
            expired.after_frame()
    meta.watermark = mirror.watermark
    changes = mirror.take_changes()
    for key in mirror.take_dropped():
        values.pop(key, None)
    return Recomputed(meta, values | changes, expired.revived)


def _next_frames(log: StoredLog, partition: int, start: int, n_frames: int) -> list[Frame]:
    """Frames from start on without a hole, at least one; raises as refold does."""
    frames = log.read(partition, start, n_frames)
    for at, frame in enumerate(frames, start):
        if frame.offset != at:
            if log.bounds(partition)[0] > at:
                raise Trimmed
            raise Unsound(missing(partition, at, frame.offset))
    if not frames:
        if log.bounds(partition)[0] > start:
            raise Trimmed
        raise Unsound(f"partition {partition}: the log ends at {start}, the state stands beyond; restore the log")
    return frames
