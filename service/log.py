"""The feedback log: frames of bytes in partitions, each with dense offsets, kept in the order of their append."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class LogUnavailable(Exception):
    """The log could not take or give frames. Whether an append took place is unknown; appending again is safe."""


class LogFull(LogUnavailable):
    """There is no room for the frames; none of them was kept."""


class OutOfRange(Exception):
    """A read began below the first offset still held, or past the next one to be given: frames are missing."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where one frame came to lie.

    partition  index below the log's number of partitions
    offset     dense from 0 within the partition
    append_us  time of the append, microseconds since 1970, equal for all frames of one append
    """

    partition: int
    offset: int
    append_us: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as the log holds it; offset and append_us as in Appended, body the bytes that were appended."""

    offset: int
    append_us: int
    body: bytes


class FeedbackLog(Protocol):
    """A partitioned log. Any thread may read; one thread at a time appends."""

    @property
    def topic_id(self) -> bytes:
        """16 random bytes made when the log was created: another log at the same place has another id."""

    @property
    def partitions(self) -> int:
        """Number of partitions, fixed for the life of the log."""

    def append(self, frames: Sequence[tuple[int, bytes]]) -> list[Appended]:
        """Append (partition, body) pairs in order, durable when it returns, and say where each came to lie.

        Raises LogFull with nothing kept, LogUnavailable with the outcome unknown, ValueError for an unknown partition.
        A SQLite log keeps all of the frames or none.
        """

    def read(self, partition: int, start: int, max_frames: int) -> list[Frame]:
        """Return at most max_frames frames from offset start on, without a hole; none if start is the next offset.

        Raises OutOfRange if start lies outside bounds(partition), so that nothing is ever skipped unseen.
        """

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return (start, stop): the first offset still held and the next to be given; equal if nothing is held."""

    def close(self) -> None:
        """Release files and connections; calling it again does nothing."""


def check_partition(partition: int, partitions: int) -> None:
    """Raise ValueError unless 0 <= partition < partitions."""
    if not 0 <= partition < partitions:
        raise ValueError(f"partition must be in [0, {partitions}), got {partition}")
