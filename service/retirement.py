"""What a server retires: generations beyond those that are kept, arms not served for long, unused graphs and policies.

A retire entry goes to every partition; from there on the fold does the rest. Arms are judged by what this process has
served since its start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bandits.cells import CellTable
from bandits.records import MAX_RETIRED, Retired, encode_frame, encode_retire
from service.content_files import ContentFiles
from service.log import Appended, FeedbackLog, LogUnavailable
from service.metrics import Metrics
from service.rewards import Generation, Generations
from service.surface import Surface

logger = logging.getLogger(__name__)

FILES_EVERY_S = 3600.0
ARMS_EVERY_S, ARMS_AT_ONCE = 600.0, 1000
"""So often at most arms of a surface are retired, unless so many are due: each time scoring reads its cells anew."""


class Retirement:
    """Retires by entries in the log; each call returns where they came to lie, for the fold to follow.

    cells   what scoring sees, to find the arms that have state
    ttl_s   seconds that a receipt lives
    """

    def __init__(
        self,
        log: FeedbackLog,
        generations: Generations,
        files: Sequence[ContentFiles[Any]],
        surfaces: Mapping[str, Surface],
        cells: Callable[[], CellTable],
        metrics: Metrics,
        *,
        retention_s: int,
        ttl_s: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._generations, self._files = log, generations, files
        self._surfaces, self._cells, self._metrics, self._retention_s = surfaces, cells, metrics, retention_s
        self._ttl_s, self._clock_s = ttl_s, clock_s
        self._files_s = float("-inf")
        self._arms_s: dict[str, float] = {}

    def keep_house(self) -> list[Appended]:
        """All that is due now: call it every minute, on any thread, but one at a time."""
        appended = []
        for surface in self._surfaces.values():
            appended += self.generations(surface)
            appended += self.arms(surface)
        if time.monotonic() - self._files_s >= FILES_EVERY_S:
            self._files_s = time.monotonic()
            try:
                self._generations.forget(time.time_ns() // 1000 - self._retention_s * 10**6)
                for files in self._files:
                    files.sweep(self._retention_s)
            except (OSError, ValueError) as fault:
                logger.warning("old generations, graphs and policies stay on disk for now: %s", fault)
        return appended

    def generations(self, surface: Surface) -> list[Appended]:
        """Retire the surface's generations beyond generations_kept old ones; their receipts are refused from now on."""
        appended: list[Appended] = []

        def append(found: Sequence[Generation]) -> None:
            appended.extend(self._append([Retired(key) for g in found for key in (g.table, g.totals)]))

        try:
            found = self._generations.retire(surface.name, surface.settings.generations_kept, append)
        except (LogUnavailable, OSError) as fault:
            self._postpone(surface, fault)
            return appended
        if found:
            self._metrics.retired.labels("table").inc(len(found))
            logger.info("surface %s: retired generations %s", surface.name, ", ".join(g.key[:12] for g in found))
        return appended

    def arms(self, surface: Surface) -> list[Appended]:
        """Retire arms not served for arm_ttl_s, as many as one entry takes and as ARMS_EVERY_S allows."""
        if not surface.settings.arm_ttl_s:
            return []
        cells = self._cells()
        chunks = cells.arrays.keys.rows[cells.held(np.arange(cells.n_chunks, dtype=np.int32)), :2]
        tables = [g.table for g in self._generations.of(surface.name, every=True)]
        chunks = chunks[np.isin(chunks[:, 0], np.array(tables, np.uint64))]
        unserved = surface.last_served.unserved(np.unique(chunks[:, 1]))[:MAX_RETIRED]
        now_s = self._clock_s()
        early = now_s - self._arms_s.get(surface.name, float("-inf")) < ARMS_EVERY_S
        if not unserved.size or (early and unserved.size < ARMS_AT_ONCE):
            return []
        pairs = np.unique(chunks[np.isin(chunks[:, 1], unserved)], axis=0)[:MAX_RETIRED]
        try:
            appended = self._append([Retired(table, arm) for table, arm in pairs.tolist()])
        except LogUnavailable as fault:
            self._postpone(surface, fault)
            return []
        self._arms_s[surface.name] = now_s
        self._metrics.retired.labels("arm").inc(len(pairs))
        return appended

    def _append(self, rows: Sequence[Retired]) -> list[Appended]:
        until_us = time.time_ns() // 1000 + self._ttl_s * 10**6
        parts = [rows[start : start + MAX_RETIRED] for start in range(0, len(rows), MAX_RETIRED)]
        entries = [encode_retire(part, until_us) for part in parts]
        frames = [encode_frame([entry], self._log.topic_id) for entry in entries]
        return self._log.append([(p, frame) for frame in frames for p in range(self._log.partitions)])

    def _postpone(self, surface: Surface, fault: Exception) -> None:
        logger.warning("surface %s: nothing is retired for now, tried again in a minute: %s", surface.name, fault)
