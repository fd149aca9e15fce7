"""Text files in blocks of whole lines, unpacked on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from offline_eval.errors import BadLog
from offline_eval.formats.parquet import unreadable

BLOCK = 4 << 20
LONGEST = 64 << 20
"""Bytes of one line."""
_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines.

    lines  without their ends
    first  1-based number of the first one
    """

    lines: list[bytes]
    first: int


def suffix(path: Path) -> str:
    """Of the name without a compression's, in lower case."""
    name = path.name.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    return Path(name).suffix


def blocks(path: Path) -> Iterator[Block]:
    """A file's lines, about 4 MiB at a time. Gzip and Zstandard are known by their first bytes.

    Raises BadLog, after the lines before the fault: of a cut file, of one that is not UTF-8, of a line over 64 MiB.
    """
    first, tail = 1, b""
    pieces = _pieces(path)
    for piece in pieces:
        if first == 1 and not tail:
            piece = piece.removeprefix(_MARK)
        whole, end, rest = piece.rpartition(b"\n")
        if not end:
            tail += rest
            if len(tail) > LONGEST:
                raise _bad_line(path, first, f"over {LONGEST:,} bytes", "must be shorter")
            continue
        lines = (tail + whole).split(b"\n")
        tail = rest
        yield from _checked(path, lines, first)
        first += len(lines)
    if tail:
        yield from _checked(path, [tail], first)


def _bad_line(path: Path, number: int, value: object, rule: str) -> BadLog:
    return BadLog("line", value, rule, place=f"{path}: line {number}")


def _checked(path: Path, lines: list[bytes], first: int) -> Iterator[Block]:
    """The lines before the first that is not UTF-8, which is then refused."""
    good = len(lines)
    try:
        b"\n".join(lines).decode()
    except UnicodeDecodeError as fault:
        good = fault.object.count(b"\n", 0, fault.start)
        if good:
            yield Block(lines[:good], first)
        raise _bad_line(path, first + good, lines[good][:40], f"must be UTF-8 ({fault.reason})") from None
    yield Block(lines, first)


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            file.seek(0)
            if not start:
                raise BadLog("file", "0 bytes", "must have rows", place=str(path))
            codec = next((name for magic, name in _CODECS.items() if start.startswith(magic)), None)
            stream: BinaryIO = file if codec is None else pa.CompressedInputStream(file, codec)
            while piece := stream.read(BLOCK):
                yield bytes(piece)
    except (pa.ArrowException, OSError) as fault:
        raise unreadable(path, fault, "must be a whole file") from fault


def first_line(path: Path) -> bytes:
    """The first line that is not blank, b"" where there is none. Raises BadLog."""
    for block in blocks(path):
        for line in block.lines:
            if line.strip():
                return line
    return b""
