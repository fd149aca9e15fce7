"""Exports in memory and from files."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bandits.own_log import Row
from service.export.run import Exported, export
from service.log import FeedbackLog
from service.rewards import Generation, Generations, Rewards
from service.settings import RewardSettings, SurfaceSettings
from tests.bandits.strategies import NOW_US

CLICK_STARS = Rewards([RewardSettings("click"), RewardSettings("stars", (-4.0, 4.0), 0.5)])
"""Weighted sum of at most 1 + 2 = 3, the scale."""
TOTALS = 1


def generations(path: Path, by_totals: dict[int, Rewards], surface: str = "home") -> Generations:
    """A file of generations of one surface."""
    found = Generations(path)
    found.use(surface, [Generation(surface, "diag_linucb", f"{t}", 7, t, r) for t, r in by_totals.items()])
    return found


class Rows(list[Row]):
    """A Writer into a list."""

    def write(self, rows: list[Row]) -> None:
        self.extend(rows)

    def close(self) -> None:
        """There is nothing to write."""


def exported(
    log: FeedbackLog, known: Generations, now_us: int = NOW_US, surface: str = "home", **settings: Any
) -> tuple[Rows, Exported]:
    rows = Rows()
    return rows, export(log, known, surface, SurfaceSettings(**settings), rows, now_us)


def left(outcome: Exported) -> dict[str, int]:
    """What was left out, without zeros."""
    return {reason: count for reason, count in outcome.left_out.items() if count}


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an exported file, maps as dictionaries and times as datetimes."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
        return rows
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    found = map(json.loads, data.splitlines())
    return [row | {"timestamp": datetime.fromisoformat(row["timestamp"])} for row in found]
