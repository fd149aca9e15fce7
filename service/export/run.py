"""A surface's decisions and what became of them, from a log to a writer.

The log is read twice: for what counts and where it lies, then decision by decision in the order of time. Memory: 53
bytes a decision and 10 an event while rows are made, at most 60 bytes more for each of the partition whose events are
being joined, the frames that are being read (at most 16 MiB a partition), and the writer's rows.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bandits.errors import UsageError
from bandits.own_log import Row
from bandits.records import RecordError, frame_topic
from service.export.frames import Frames
from service.export.index import Index, join
from service.export.rows import RowMaker
from service.export.scan import Scan
from service.export.writers import Writer
from service.log import FeedbackLog, OutOfRange
from service.rewards import Generations
from service.settings import SurfaceSettings

LEFT_OUT = (
    "deferred_not_activated",
    "known_only_from_events",
    "without_items",
    "unknown_generation",
    "early",
    "expired",
    "duplicate",
    "malformed",
    "other_surfaces",
)
_STEP_FRAMES = 64
_STEP_ROWS = 1000

Progress = Callable[[str, int, int], None]
"""Is told what is done, how much of it, and of how much."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    rows, decisions  written
    left_out         decisions that were never activated, are known only from their events (learned, but their entry was
                     lost or trimmed), served no item, or are of a generation that is not known; entries that came too
                     early or too late to be learned, cannot be read, or are of other surfaces; and decision entries and
                     rewards that came once more
    """

    rows: int
    decisions: int
    left_out: dict[str, int]


def export(
    log: FeedbackLog,
    generations: Generations,
    surface: str,
    settings: SurfaceSettings,
    writer: Writer,
    now_us: int,
    progress: Progress = lambda stage, done, total: None,
) -> Exported:
    """Write the rows of a surface by (timestamp, decision id, position), of the log up to its end at the call.

    Raises UsageError where a frame is damaged, or was trimmed meanwhile.
    """
    left_out = Counter(dict.fromkeys(LEFT_OUT, 0))
    partitions = range(log.partitions)
    bounds = [log.bounds(partition) for partition in partitions]
    try:
        indices = list(_indices(log, bounds, surface, left_out, progress))
        maker = RowMaker(generations, settings, now_us, left_out)
        rows, decisions, pending = 0, 0, list[Row]()
        total = sum(index.decisions.size for index in indices)
        for done, made in enumerate(_rows(log, indices, maker)):
            decisions += bool(made)
            rows += len(made)
            pending += made
            if len(pending) >= _STEP_ROWS:
                writer.write(pending)
                pending = []
                progress("decisions written", done, total)
        writer.write(pending)
    except OutOfRange as fault:
        raise UsageError(f"{fault}: the log was trimmed while it was read; start the export again") from fault
    return Exported(rows, decisions, dict(left_out))


def _indices(
    log: FeedbackLog, bounds: Sequence[tuple[int, int]], surface: str, left_out: Counter[str], progress: Progress
) -> Iterator[Index]:
    done, total = 0, sum(stop - start for start, stop in bounds)
    for partition, (at, stop) in enumerate(bounds):
        scan = Scan(surface, left_out)
        while at < stop:
            for frame in log.read(partition, at, min(_STEP_FRAMES, stop - at)):
                try:
                    scan.frame(frame.offset, frame.body, frame.append_us)
                except RecordError as fault:
                    raise _damaged(partition, frame.offset, str(fault)) from fault
                if frame_topic(frame.body) != log.topic_id:
                    raise _damaged(partition, frame.offset, "it was written for another log")
                at, done = frame.offset + 1, done + 1
            progress("frames read", done, total)
        yield join(partition, scan.decisions, scan.events, left_out)


def _damaged(partition: int, offset: int, reason: str) -> UsageError:
    return UsageError(f"partition {partition}: frame {offset} is damaged ({reason}); restore the log from a copy")


def _rows(log: FeedbackLog, indices: Sequence[Index], maker: RowMaker) -> Iterator[list[Row]]:
    """The rows of each decision, which may be none."""
    frames = [Frames(log, partition) for partition in range(log.partitions)]
    for found in heapq.merge(*(index.in_order() for index in indices)):
        _, _, partition, offset, _, _, start, stop = found
        events = indices[partition].events(start, stop) if start < stop else []
        yield maker.rows(found, frames[partition].body(offset), events)
