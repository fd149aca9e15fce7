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

    def refresh(self, rows: npt.NDArray[np.int32] | None) -> None:
        """Take in changed chunk rows of the replica's cells; None for all of them."""
        cells = self._replica.cells
        if rows is None:
            rows = np.arange(cells.n_chunks, dtype=np.int32)
        keys = cells.arrays.keys.rows[rows]
        table, arm = keys[:, 0], keys[:, 1]
        now = time.monotonic()
        for name, surface in self._surfaces.items():
            for served in surface.tables:
                served.refresh(cells, rows, self._replica.totals(served.totals), now)
                surface.arms.update(arm[table == np.uint64(served.table)].tolist())
                if isinstance(served, GraphTable) and served.without_edge:
                    self._metrics.without_edge.labels(name).set(served.without_edge)
