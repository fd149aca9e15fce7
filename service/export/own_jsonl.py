"""The own log as lines of JSON, compressed where the suffix asks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa

from bandits.own_log import Row, to_json_lines

_CODECS = {".gz": "gzip", ".zst": "zstd"}


class OwnJsonLines:
    """See writers.Writer; rows are handed to the file at once."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        codec = _CODECS.get(suffix[suffix.rfind(".") :])
        # A compressing stream closes what it writes to, unless that fails.
        self._file = os.fdopen(os.dup(file.fileno()), "wb")
        self._out = self._file if codec is None else pa.CompressedOutputStream(self._file, codec)

    def write(self, rows: Sequence[Row]) -> None:
        self._out.write(to_json_lines(rows))

    def close(self) -> None:
        try:
            self._out.close()
        finally:
            self._file.close()
