"""Rows as CSV: what offline_eval reads without a column map, and the context's features by name."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from bandits.own_log import Row
from service.export.evaluated import Spool, evaluated

COLUMNS = ("action", "reward", "propensity", "user", "timestamp", "position", "decision_id")
_TAKEN = {*COLUMNS, "allowed", "satisfaction", "revenue"}


class CsvTable:
    """See writers.Writer; rows wait in a spool, since the header names all features."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.left_out: Counter[str] = Counter()
        self._file, self._spool = file, Spool(file)
        self._names: set[str] = set()

    def write(self, rows: Sequence[Row]) -> None:
        for row, reward, propensity in evaluated(rows, self.left_out):
            features = row.features or {}
            self._names.update(features)
            time = np.datetime_as_string(np.datetime64(row.timestamp, "us"), timezone="UTC")
            known = [row.item, reward, propensity, row.user, str(time), row.position, row.decision_id]
            self._spool.add([known, features])

    def close(self) -> None:
        text = io.TextIOWrapper(self._file, "utf-8", newline="")
        try:
            lines = csv.writer(text, lineterminator="\n")
            names = sorted(self._names)
            lines.writerow([*COLUMNS, *(f"features.{name}" if name in _TAKEN else name for name in names)])
            for known, features in self._spool:
                lines.writerow([*known, *(features.get(name) for name in names)])
        finally:
            self._spool.close()
            text.detach()
