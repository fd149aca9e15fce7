"""Group commit: entries of many requests become frames, and all that wait go into one append of the log."""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from bandits.records import MAX_FRAME_BYTES, MAX_FRAME_ENTRIES, MAX_FRAME_KEYS
from service.log import Appended, FeedbackLog, LogUnavailable, check_partition

logger = logging.getLogger(__name__)

Waiter = asyncio.Future[Appended] | Future[Appended]
Queued = tuple[int, bytes, int, Waiter | None]


class QueueFull(LogUnavailable):
    """The entries waiting for the log have reached their bound; this one was not taken."""


@dataclass(slots=True)
class Gathering:
    """A frame under way: its entries, their bytes and keys, and the waiter of each entry that has one."""

    partition: int
    entries: list[bytes] = field(default_factory=list)
    waiters: list[Waiter] = field(default_factory=list)
    n_bytes: int = 0
    n_keys: int = 0

    def takes(self, n_bytes: int, n_keys: int) -> bool:
        """Whether one more entry of this size keeps the frame within its bounds."""
        return (
            len(self.entries) < MAX_FRAME_ENTRIES
            and self.n_bytes + n_bytes <= MAX_FRAME_BYTES
            and self.n_keys + n_keys <= MAX_FRAME_KEYS
        )


class LogWriter:
    """A thread that appends entries given by any thread, in the order given within a partition.

    What waits when one append ends goes into the next. An entry that finds the writer idle is appended at once, unless
    the last append began less than gather_s ago: then the rest of that time is used to gather more. While nobody waits
    for any of the entries, they gather for offer_gather_s: fewer and larger frames, which cost the fold less.
    Memory is bounded by max_queued_bytes of entries, those being appended included. A failed append is not repeated:
    whoever waits gets the error, entries without a waiter are lost and counted, and the next append is tried as usual.

    encode_frame(entries, topic_id) makes the bytes of a frame. on_commit and observe_commit_s get what an append
    returned and the seconds it took, on the writer's thread. loop settles the futures of submit.

    commits, frames, entries   appended so far
    failed_commits, lost       appends that failed; entries without a waiter in them
    refused                    entries turned away because the queue was full or closed
    """

    def __init__(
        self,
        log: FeedbackLog,
        encode_frame: Callable[[list[bytes], bytes], bytes],
        *,
        max_queued_bytes: int,
        gather_s: float,
        offer_gather_s: float = 0.0,
        loop: asyncio.AbstractEventLoop | None = None,
        on_commit: Callable[[list[Appended]], None] | None = None,
        observe_commit_s: Callable[[float], None] | None = None,
    ) -> None:
        self.commits = self.frames = self.entries = self.failed_commits = self.lost = self.refused = 0
        self._log = log
        self._encode_frame = encode_frame
        self._partitions = log.partitions
        self._max_queued_bytes = max_queued_bytes
        self._gather_s = gather_s
        self._offer_gather_s = offer_gather_s
        self._loop = loop
        self._on_commit = on_commit
        self._observe_commit_s = observe_commit_s
        self._lock = threading.Lock()
        self._queue: list[Queued] = []
        self._queued_bytes = 0
        self._closed = False
        self._closing = threading.Event()
        self._awaited = threading.Event()
        self._idle = False
        self._failing = False
        # Held while there is nothing to do. Released once per idle phase, which costs 0.1 us; Event.set costs 1 us.
        self._sleeping = threading.Lock()
        self._sleeping.acquire()
        self._thread = threading.Thread(target=self._run, name="banditd-log", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether the last append failed."""
        return self._failing

    @property
    def queued_bytes(self) -> int:
        """Bytes of the entries that wait or are being appended."""
        return self._queued_bytes

    def offer(self, partition: int, entry: bytes, keys: int) -> bool:
        """Queue an entry that nobody waits for; False if there is no room or the writer is closed.

        keys is the number of store keys that folding the entry can touch. Raises ValueError for an unknown partition or
        an entry that no frame can hold.
        """
        return self._enqueue(partition, entry, keys, None)

    def submit(self, partition: int, entry: bytes, keys: int) -> asyncio.Future[Appended]:
        """Queue an entry, on the loop's thread; the future says where its frame lies, or raises what the log raised.

        Raises QueueFull, or LogUnavailable when closed, at once; ValueError as offer does.
        """
        if self._loop is None:
            raise RuntimeError("submit needs the loop that the writer was made with; use submit_from_thread")
        waiter: asyncio.Future[Appended] = self._loop.create_future()
        if not self._enqueue(partition, entry, keys, waiter):
            raise self._refusal()
        return waiter

    def submit_from_thread(self, partition: int, entry: bytes, keys: int) -> Future[Appended]:
        """Queue an entry as submit does, with a future to wait for on any thread."""
        waiter: Future[Appended] = Future()
        if not self._enqueue(partition, entry, keys, waiter):
            raise self._refusal()
        return waiter

    def close(self) -> None:
        """Append all that is queued, then stop. Takes no further entries. The log stays open."""
        with self._lock:
            self._closed = True
            self._closing.set()
            self._awaited.set()
            if self._idle:
                self._wake()
        self._thread.join()

    def _enqueue(self, partition: int, entry: bytes, keys: int, waiter: Waiter | None) -> bool:
        n_bytes = len(entry)
        if n_bytes > MAX_FRAME_BYTES or keys > MAX_FRAME_KEYS:
            raise ValueError(
                f"an entry must have <= {MAX_FRAME_BYTES} bytes and <= {MAX_FRAME_KEYS} keys, got {n_bytes} and {keys}"
            )
        if not 0 <= partition < self._partitions:
            check_partition(partition, self._partitions)
        with self._lock:
            if self._closed or self._queued_bytes + n_bytes > self._max_queued_bytes:
                self.refused += 1
                return False
            self._queued_bytes += n_bytes
            self._queue.append((partition, entry, keys, waiter))
            if waiter is not None and not self._awaited.is_set():
                self._awaited.set()
            if self._idle:
                self._wake()
        return True

    def _refusal(self) -> LogUnavailable:
        if self._closed:
            return LogUnavailable("the log writer is closed")
        return QueueFull(f"{self._queued_bytes} bytes wait for the log, of at most {self._max_queued_bytes}")

    def _wake(self) -> None:
        self._idle = False
        self._sleeping.release()

    def _run(self) -> None:
        not_before = -math.inf
        while batch := self._next_batch(not_before):
            not_before = time.monotonic() + self._gather_s
            self._commit(gather(batch))
            with self._lock:
                self._queued_bytes -= sum(len(entry) for _, entry, _, _ in batch)

    def _next_batch(self, not_before: float) -> list[Queued]:
        """Wait for entries; empty only once the writer is closed and all is appended."""
        with self._lock:
            self._idle = not self._queue and not self._closed
            idle = self._idle
        if idle:
            self._sleeping.acquire()
        pause_s = not_before - time.monotonic()
        if pause_s > 0:
            self._closing.wait(pause_s)
        if self._offer_gather_s > 0:
            self._awaited.wait(self._offer_gather_s - max(pause_s, 0.0))
        with self._lock:
            batch, self._queue = self._queue, []
            if not self._closed:
                self._awaited.clear()
        return batch

    def _commit(self, frames: list[Gathering]) -> None:
        started = time.perf_counter()
        try:
            topic_id = self._log.topic_id
            appended = self._log.append([(f.partition, self._encode_frame(f.entries, topic_id)) for f in frames])
        # Whatever went wrong belongs to those who wait; without this thread nothing would ever be answered again.
        except Exception as error:
            self.failed_commits += 1
            self.lost += sum(len(f.entries) - len(f.waiters) for f in frames)
            if not self._failing:
                logger.warning("appends to the log fail since this one of %d frames: %s", len(frames), error)
            self._failing = True
            self._settle([(waiter, error) for f in frames for waiter in f.waiters])
            return
        commit_s = time.perf_counter() - started
        if self._failing:
            logger.warning("appends to the log succeed again")
        self._failing = False
        self.commits += 1
        self.frames += len(frames)
        self.entries += sum(len(f.entries) for f in frames)
        self._settle([(waiter, at) for f, at in zip(frames, appended, strict=True) for waiter in f.waiters])
        try:
            if self._on_commit is not None:
                self._on_commit(appended)
            if self._observe_commit_s is not None:
                self._observe_commit_s(commit_s)
        except Exception:
            logger.exception("a callback of the log writer failed")

    def _settle(self, outcomes: list[tuple[Waiter, Appended | Exception]]) -> None:
        on_loop = []
        for waiter, outcome in outcomes:
            if isinstance(waiter, Future):
                settle(waiter, outcome)
            else:
                on_loop.append((waiter, outcome))
        if on_loop and self._loop is not None:
            # A closed loop has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(settle_all, on_loop)


def gather(batch: list[Queued]) -> list[Gathering]:
    """Put entries into frames, each of one partition and within the bounds, in the order of the entries."""
    frames: list[Gathering] = []
    latest: dict[int, Gathering] = {}
    for partition, entry, keys, waiter in batch:
        frame = latest.get(partition)
        if frame is None or not frame.takes(len(entry), keys):
            frame = latest[partition] = Gathering(partition)
            frames.append(frame)
        frame.entries.append(entry)
        frame.n_bytes += len(entry)
        frame.n_keys += keys
        if waiter is not None:
            frame.waiters.append(waiter)
    return frames


def settle(waiter: Waiter, outcome: Appended | Exception) -> None:
    """Give a future its outcome, unless who waited has gone."""
    # A future of another thread could be cancelled between a look and the result; this call ends that.
    if not waiter.set_running_or_notify_cancel() if isinstance(waiter, Future) else waiter.done():
        return
    if isinstance(outcome, Appended):
        waiter.set_result(outcome)
    else:
        waiter.set_exception(outcome)


def settle_all(outcomes: list[tuple[asyncio.Future[Appended], Appended | Exception]]) -> None:
    """Give every future its outcome, on the loop's thread."""
    for waiter, outcome in outcomes:
        settle(waiter, outcome)
