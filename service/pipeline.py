"""The thread between log and scores: fold what was appended, follow the store, publish to the thread that scores."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from bandits.errors import UsageError
from service.log import Appended, LogUnavailable, OutOfRange
from service.log_sqlite import SqliteLog
from service.metrics import Metrics
from service.replica import Changes, Replica, slices
from service.sqlite_file import UnusableFile
from service.store import Fenced, StoreUnavailable
from service.store_checkpoint import CheckpointedStore
from service.updater import Halt, Updater

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 30.0
"""A restart folds at most so much of the log again, about 20,000 decisions a second."""
LOOK_EVERY_S = 5.0
EXPIRE_EVERY_S = 60.0
TRIM_EVERY_S = 600.0
RETIRE_EVERY_S = 60.0
RETRY_S = 0.5
FOLD_S = 0.1
"""Longest fold before its result is published; under steady load the log's end may never be reached."""
REST = 2.0
"""A refresh is followed by a pause so many times as long, or as long where the scores are late: few large refreshes
disturb requests less than many small ones, and what changed twice is published once."""
LATE_S, ALONE_S = 0.25, 0.03
"""From this age of the scores on, the fold gets the interpreter to itself for so long at a time."""
PUBLISH_CHUNKS = 4000
"""Chunks published in one go; requests get their turn in between."""


class Pipeline(threading.Thread):
    """Refreshes scores at most every refresh_s while the log moves.

    publish   takes a poll's changes; called on the loop's thread
    halted    called once, on the loop's thread, where a partition cannot be trusted
    retire    appends what is due for retirement; called every minute
    trim      lets old frames of the log go; called on the thread that checkpoints
    """

    def __init__(
        self,
        log: SqliteLog,
        updaters: Sequence[Updater],
        replica: Replica,
        store: CheckpointedStore,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        *,
        refresh_s: float,
        trim: Callable[[], None],
        publish: Callable[[list[Changes]], None],
        halted: Callable[[Halt], None],
        retire: Callable[[], list[Appended]],
    ) -> None:
        super().__init__(name="banditd-pipeline", daemon=True)
        self._log, self._trim, self._trim_s = log, trim, time.monotonic()
        self._updaters, self._replica, self._store, self._loop = updaters, replica, store, loop
        self._metrics, self._refresh_s, self._publish, self._halted = metrics, refresh_s, publish, halted
        self._retire, self._retire_s = retire, time.monotonic()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._checkpoint_s = self._expire_s = time.monotonic()
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="banditd-checkpoint")
        self._copying: Future[None] | None = None
        self._failed = False
        self._commit_s = 0.0
        self._behind_s: float | None = None

    def committed(self, appended: list[Appended]) -> None:
        """Note that the log has moved; called on the thread that appends."""
        self._commit_s = time.monotonic()
        if self._behind_s is None:
            self._behind_s = self._commit_s
        self._wake.set()

    @property
    def age_s(self) -> float:
        """Seconds since the scores were last known to hold everything in the log; 0 while they do."""
        behind_s = self._behind_s
        return 0.0 if behind_s is None else time.monotonic() - behind_s

    def stop(self) -> None:
        """Fold what the log still holds, then end the thread."""
        self._ending.set()
        self._wake.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                started = time.monotonic()
                moved = self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()
                if moved:
                    started = time.monotonic()
                    self._refresh()
                self._keep_house()
                if moved:
                    took = time.monotonic() - started
                    self._ending.wait(max(self._refresh_s - took, took if self.age_s > LATE_S else REST * took))
            while self._fold(FOLD_S):
                pass
            self._copier.shutdown()
        except Halt as halt:
            self._report(halt)
        except Exception as fault:
            logger.exception("the fold ended")
            self._report(Halt(-1, f"the fold ended: {fault!r}", "restart; the log and the last checkpoint are whole"))

    def _report(self, halt: Halt) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._halted, halt)

    def _refresh(self) -> None:
        started = time.monotonic()
        late = self._fold_alone() if self.age_s > LATE_S else self._fold(FOLD_S)
        for portion in slices(self._replica.poll(), PUBLISH_CHUNKS):
            self._on_loop(partial(self._publish, portion))
        if self._failed:
            self._failed = False
            self._wake.set()
            self._ending.wait(RETRY_S)
        elif late:
            self._wake.set()
        else:
            self._behind_s = None if self._commit_s < started else started

    def _fold_alone(self) -> bool:
        """Fold while the loop's thread waits: more decisions than the fold can follow must not age the scores."""
        done = threading.Event()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(done.wait, ALONE_S)
        try:
            return self._fold(ALONE_S)
        finally:
            done.set()

    def _fold(self, at_most_s: float) -> bool:
        """Fold what the log holds now, the partitions in turn; whether the time did not suffice for all of it."""
        started = time.perf_counter()
        behind = self._updaters
        stops = [self._stop_of(updater) for updater in behind]
        while behind and time.perf_counter() - started < at_most_s:
            behind = [u for u in behind if u.meta.next < stops[u.partition] and self._step(u)]
        self._metrics.fold_seconds.inc(time.perf_counter() - started)
        return bool(behind)

    def _stop_of(self, updater: Updater) -> int:
        try:
            return self._log.bounds(updater.partition)[1]
        except LogUnavailable as fault:
            self._fail(updater, fault)
            return 0

    def _step(self, updater: Updater) -> bool:
        try:
            return updater.step() > 0
        except (LogUnavailable, StoreUnavailable) as fault:
            self._fail(updater, fault)
            return False

    def _fail(self, updater: Updater, fault: Exception) -> None:
        logger.warning("partition %d is not folded for now: %s", updater.partition, fault)
        updater.drop()
        self._failed = True
        if self._behind_s is None:
            self._behind_s = time.monotonic()

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now - self._expire_s > EXPIRE_EVERY_S:
            self._expire_s = now
            for updater in self._updaters:
                updater.expire()
        if now - self._retire_s > RETIRE_EVERY_S:
            self._retire_s = now
            if appended := self._retire():
                self.committed(appended)
        if self._copying is not None and self._copying.done():
            self._copied(self._copying)
            self._copying = None
        if now - self._checkpoint_s > CHECKPOINT_EVERY_S and self._copying is None:
            self._checkpoint_s = now
            # Beside the fold: after busy seconds a checkpoint takes a second of its own.
            self._copying = self._copier.submit(self._copy)

    def _copy(self) -> None:
        self._store.checkpoint()
        now = time.monotonic()
        if now - self._trim_s > TRIM_EVERY_S:
            self._trim_s = now
            self._trim()

    def _copied(self, copying: Future[None]) -> None:
        try:
            copying.result()
            self._metrics.checkpoints.labels("written").inc()
        except (StoreUnavailable, LogUnavailable, OutOfRange, Fenced, UnusableFile, UsageError, OSError) as fault:
            self._metrics.checkpoints.labels("failed").inc()
            logger.warning("checkpoint or trim failed, the log keeps what it would hold: %s", fault)

    def _on_loop(self, call: Callable[[], None]) -> None:
        """Run a call on the loop's thread and wait for it, so that polls and publishes alternate."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                call()
            except BaseException as fault:
                done.set_exception(fault)
            else:
                done.set_result(None)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(run)
            while not self._ending.is_set():
                with contextlib.suppress(TimeoutError):
                    done.result(timeout=0.5)
                    return
