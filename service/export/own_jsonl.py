"""The own log as lines of JSON, compressed where the suffix asks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from bandits.own_log import Row, to_json_lines

_CODECS = {".gz": "gzip", ".zst": "zstd"}


def compressed(file: BinaryIO, suffix: str) -> tuple[Any, BinaryIO]:
    """What to write lines to, and what to close after it: a compressing stream closes its own, unless that fails."""
    codec = _CODECS.get(suffix[suffix.rfind(".") :])
    copy = os.fdopen(os.dup(file.fileno()), "wb")
    return (copy if codec is None else pa.CompressedOutputStream(copy, codec)), copy


class OwnJsonLines:
    """See writers.Writer; rows are handed to the file at once."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.left_out: Counter[str] = Counter()
        self._out, self._file = compressed(file, suffix)

    def write(self, rows: Sequence[Row]) -> None:
        self._out.write(to_json_lines(rows))

    def close(self) -> None:
        try:
            self._out.close()
        finally:
            self._file.close()
