"""Arrays of an npz file, read row by row and never unpickled."""

from __future__ import annotations

import ast
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from offline_eval.errors import BadLog
from offline_eval.formats.parquet import unreadable

LARGEST = 1 << 30
"""Bytes of what has to be held whole: an array in Fortran order, or one row."""
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)
_WHOLE = "must be a whole npz file"


class Member:
    """One array of a file; its rows are read in order."""

    def __init__(self, path: Path, name: str, file: IO[bytes], n_bytes: int) -> None:
        self._path, self.name, self._file = path, name, file
        self.dtype, self._fortran, self.shape = _header(path, name, file)
        self._n_bytes = n_bytes - file.tell()
        self._held: NDArray[Any] | None = None
        self._at = 0
        self._checked = False

    def _check(self) -> None:
        size = math.prod(self.shape) * self.dtype.itemsize
        if self.dtype.hasobject:
            raise self._bad("an array of objects", "must not need pickle, which is never read")
        if size != self._n_bytes:
            raise self._bad(f"{self._n_bytes:,} bytes", f"must have the {size:,} bytes of shape {self.shape}")
        held = size if self._fortran and len(self.shape) > 1 else size // max((1, *self.shape[:1]))
        if held > LARGEST:
            raise self._bad(f"{held:,} bytes", f"at most {LARGEST:,} are held at once")
        self._checked = True

    def _bad(self, value: str, rule: str) -> BadLog:
        return BadLog(self.name, value, rule, place=str(self._path))

    def rows(self, n: int) -> NDArray[Any]:
        """The next n rows; all of an array without dimensions. Raises BadLog where the file is cut."""
        if not self._checked:
            self._check()
        if self._fortran and len(self.shape) > 1:
            if self._held is None:
                self._held = self._read(self.shape[::-1]).T
            self._at += n
            return self._held[self._at - n : self._at]
        return self._read((n, *self.shape[1:]) if self.shape else ())

    def _read(self, shape: tuple[int, ...]) -> NDArray[Any]:
        size = math.prod(shape) * self.dtype.itemsize
        try:
            data = self._file.read(size)
        except _FAULTS as fault:
            raise unreadable(self._path, fault, _WHOLE) from fault
        if len(data) != size:
            raise self._bad(f"{len(data):,} bytes", f"must have {size:,} more")
        return np.frombuffer(data, self.dtype).reshape(shape)


@contextmanager
def members(path: Path) -> Iterator[dict[str, Member]]:
    """All arrays of a file. Raises BadLog where it is no npz."""
    found: dict[str, Member] = {}
    with ExitStack() as opened:
        try:
            archive = opened.enter_context(zipfile.ZipFile(path))
            files = [(entry, opened.enter_context(archive.open(entry))) for entry in archive.infolist()]
        except (*_FAULTS, RuntimeError) as fault:
            raise unreadable(path, fault, _WHOLE) from fault
        for entry, file in files:
            name = entry.filename.removesuffix(".npy")
            found[name] = Member(path, name, file, entry.file_size)
        yield found


def _header(path: Path, name: str, file: IO[bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        start = file.read(8)
        wide = len(start) == 8 and start[6] in (2, 3)
        length = int.from_bytes(file.read(4 if wide else 2), "little")
        if not start.startswith(b"\x93NUMPY") or length > 65_536:
            raise ValueError("no npy header")
        given = ast.literal_eval(file.read(length).decode("latin-1"))
        dtype, fortran, shape = np.dtype(given["descr"]), given["fortran_order"], given["shape"]
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
    except _FAULTS as fault:
        raise unreadable(path, fault, _WHOLE) from fault
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as fault:
        raise BadLog(name, str(fault)[:60], "must be an npy array", place=str(path)) from fault
    return dtype, bool(fortran), shape
