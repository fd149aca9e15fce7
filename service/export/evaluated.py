"""Rows that formats without a place for doubt can carry: those that count in an evaluation."""

from __future__ import annotations

import os
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec

from bandits.own_log import Row

_LENGTH = struct.Struct("<I")


def evaluated(rows: Sequence[Row], left_out: Counter[str]) -> Iterator[tuple[Row, float, float]]:
    """Rows with a reward and a propensity, both given too, that were not greedily chosen; the others are counted."""
    for row in rows:
        if row.mode == "exploit":
            left_out["exploit_mode"] += 1
        elif row.reward is None:
            left_out["no_reward_yet"] += 1
        elif row.propensity is None:
            left_out["no_propensity"] += 1
        else:
            yield row, row.reward, row.propensity


class Spool:
    """Rows kept in a file without a name beside the one to be written, for formats whose start tells of their end."""

    def __init__(self, file: BinaryIO) -> None:
        descriptor, name = tempfile.mkstemp(dir=Path(file.name).parent)
        os.unlink(name)
        self._file: IO[bytes] = os.fdopen(descriptor, "w+b")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode

    def add(self, record: Sequence[Any]) -> None:
        """Keep one."""
        data = self._encode(record)
        self._file.write(_LENGTH.pack(len(data)) + data)

    def __iter__(self) -> Iterator[list[Any]]:
        """All that were added, in order."""
        self._file.seek(0)
        while head := self._file.read(_LENGTH.size):
            yield self._decode(self._file.read(_LENGTH.unpack(head)[0]))

    def close(self) -> None:
        """Take the file away."""
        self._file.close()
