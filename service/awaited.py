"""Feedback whose effect on the scores is still to be seen, for the one histogram that times it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

MAX_AWAITED = 10_000
"""A partition's; beyond it further feedback goes unmeasured until the fold has caught up."""


class Awaited:
    """Times from feedback to score, in the order of each partition's log. Used on the event loop's thread.

    observe   takes the seconds of each
    """

    def __init__(self, partitions: int, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._waiting: list[deque[tuple[int, float]]] = [deque() for _ in range(partitions)]

    def add(self, partition: int, offset: int, received_s: float) -> None:
        """Feedback, received at a perf_counter time, lies at an offset of the log."""
        if len(self._waiting[partition]) < MAX_AWAITED:
            self._waiting[partition].append((offset, received_s))

    def published(self, next_of: Callable[[int], int], now_s: float) -> None:
        """Observe what the scores hold by now: all offsets below next_of(partition)."""
        for partition, waiting in enumerate(self._waiting):
            while waiting and waiting[0][0] < next_of(partition):
                self._observe(now_s - waiting.popleft()[1])
