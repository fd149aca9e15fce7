"""The check of the log: no frame is missing, damaged, or of another log."""

from __future__ import annotations

from bandits.records import RecordError, frame_checksum, frame_topic
from service.doctor.checks import Unsound, raise_first
from service.doctor.directory import Directory
from service.log import Frame

FRAMES = 64
"""Frames read in one go: 32 MiB at most."""
_ENOUGH = 100


def log(directory: Directory) -> str:
    """Every frame that the log holds now is there and as it was written."""
    faults: list[str] = []
    n_frames = 0
    for partition in range(directory.log.partitions):
        n_frames += _check(directory, partition, faults)
    raise_first(faults)
    return f"{n_frames:,} frames in {directory.log.partitions} partitions, none missing, none damaged"


def _check(directory: Directory, partition: int, faults: list[str]) -> int:
    stored = directory.log
    start, stop = stored.bounds(partition)
    at, n_frames = start, 0
    while at < stop and len(faults) < _ENOUGH:
        directory.progress(f"log: partition {partition}, frame {at:,} of {stop:,}")
        frames = [frame for frame in stored.read(partition, at, FRAMES) if frame.offset < stop]
        for frame in frames:
            if frame.offset > at:
                # A running server may have trimmed what was there when this check began.
                at = max(at, min(stored.bounds(partition)[0], frame.offset))
            if frame.offset > at:
                faults.append(missing(partition, at, frame.offset))
            faults += _faults(partition, frame, stored.topic_id)
            at = frame.offset + 1
            n_frames += 1
        if not frames:
            if stored.bounds(partition)[0] < stop:
                faults.append(missing(partition, at, stop))
            break
    return n_frames


def missing(partition: int, start: int, stop: int) -> str:
    """That frames are not there."""
    what = f"frame {start} is" if stop == start + 1 else f"frames {start} to {stop - 1} are"
    return f"partition {partition}: {what} missing from the log; restore the log from a copy"


def _faults(partition: int, frame: Frame, topic_id: bytes) -> list[str]:
    where = f"partition {partition}: frame {frame.offset}"
    try:
        check_frame(where, frame, topic_id)
    except Unsound as fault:
        return [str(fault)]
    return []


def check_frame(where: str, frame: Frame, topic_id: bytes) -> None:
    """Raise Unsound where a frame is damaged or was written for another log."""
    try:
        frame_checksum(frame.body)
    except RecordError as fault:
        raise Unsound(f"{where} is damaged ({fault}); restore the log from a copy") from fault
    if frame_topic(frame.body) != topic_id:
        raise Unsound(f"{where} was written for log {frame_topic(frame.body).hex()}; restore the log from a copy")
