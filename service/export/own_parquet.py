"""The own log as Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from bandits.own_log import SCHEMA, Row, to_arrow

GROUP_ROWS = 50_000
GROUP_BYTES = 64 << 20
"""A row group is closed by whichever comes first, so that memory stays bounded however many candidates there are."""


class OwnParquet:
    """See writers.Writer; holds one row group in memory."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.left_out: Counter[str] = Counter()
        self._out = pq.ParquetWriter(file, SCHEMA, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, rows: Sequence[Row]) -> None:
        batch = to_arrow(rows)
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            self._out.close()

    def _flush(self) -> None:
        if self._rows:
            self._out.write_table(pa.Table.from_batches(self._batches, SCHEMA), row_group_size=self._rows)
        self._batches.clear()
        self._rows = self._bytes = 0
