"""All surfaces' tables, kept at what the replica knows."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bandits.tables import GraphTable
from service.metrics import Metrics
from service.replica import Replica
from service.surface import Surface


class Tables:
    """Moves every surface's tables on the thread that scores."""

    def __init__(self, replica: Replica, surfaces: Mapping[str, Surface], metrics: Metrics) -> None:
        self._replica, self._surfaces, self._metrics = replica, surfaces, metrics
        self._seen = 0

    def refresh(self, rows: npt.NDArray[np.int32] | None) -> None:
        """Take in changed chunk rows of the replica's cells; None where all may be new, or gone."""
        left = self._replica.take_left()
        if rows is None:
            self._seen = 0
            for surface in self._surfaces.values():
                surface.arms = set()
        new = self._all[self._seen :]
        self._seen += new.size
        if rows is not None and self._replica.cells.n_gone:
            # One that was gone may have come back.
            new = rows
        now = time.monotonic()
        for surface in self._surfaces.values():
            self._refresh(surface, rows, now)
            self._part(surface, left)
            self._meet(surface, new)

    def refresh_surface(self, surface: Surface) -> None:
        """Take all cells into one surface's tables, where it has got a new one."""
        self._refresh(surface, None, time.monotonic())
        self._meet(surface, self._all)

    @property
    def _all(self) -> npt.NDArray[np.int32]:
        return np.arange(self._replica.cells.n_chunks, dtype=np.int32)

    def _refresh(self, surface: Surface, rows: npt.NDArray[np.int32] | None, now_s: float) -> None:
        cells = self._replica.cells
        for served in surface.tables:
            served.refresh(cells, rows, self._replica.totals(served.totals), now_s)
            if isinstance(served, GraphTable):
                self._metrics.without_edge.labels(surface.name).set(served.without_edge)

    def _part(self, surface: Surface, left: Mapping[int, set[int]]) -> None:
        """Forget the arms that have no chunk in any of the surface's tables any more."""
        tables = {served.table for served in surface.tables}
        surface.arms.difference_update(arm for arm, held in left.items() if tables.isdisjoint(held))

    def _meet(self, surface: Surface, rows: npt.NDArray[np.int32]) -> None:
        """Note the arms of chunks; only a new chunk can have a new arm, or one that was gone."""
        keys = self._replica.cells.arrays.keys.rows[self._replica.cells.held(rows)]
        for served in surface.tables:
            surface.arms.update(keys[keys[:, 0] == np.uint64(served.table), 1].tolist())
