"""graph.npz as bytes: a reader that allocates nothing a file merely claims, and a writer of reproducible bytes."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

_DTYPES = {
    "centroids": r"<f4",
    "tau": r"<f[48]",
    "top_k": r"(<[iu][248])|(\|[iu]1)",
    "items": r"<U[1-9][0-9]{0,5}",
    "row_start": r"<i8",
    "row_item": r"<i4",
    "prior": r"<f4",
}
_NDIM = {"centroids": 2, "tau": 0, "top_k": 0}
_WANTED = {
    "centroids": "float32 of shape (clusters, d)",
    "tau": "a float scalar",
    "top_k": "an integer scalar",
    "items": "text of shape (items,)",
    "row_start": "int64 of shape (clusters + 1,)",
    "row_item": "int32 of shape (edges,)",
    "prior": "float32 of shape (edges,)",
}
_OPTIONAL = {"prior"}
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
_PIECE = 1 << 20
_LARGEST_CODE_POINT = 0x10FFFF
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError)


class GraphError(ValueError):
    """A graph or its file that breaks a rule: one line with member, index, value and rule."""


def read(file: BinaryIO, max_unpacked: int) -> dict[str, NDArray[Any]]:
    """Read the members of a graph file: dtypes and numbers of dimensions are checked, values are not.

    An own reader of the npy header instead of numpy.load: that one allocates the shape which a header claims before
    it reads a byte, and evaluates the header as Python. Arrays are writable and C-contiguous.

    Raises GraphError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _directory(archive, max_unpacked)
            return {member: _member(archive, member, entry) for member, entry in entries.items()}
    except GraphError:
        raise
    except _UNREADABLE as error:
        raise GraphError(f"must be an npz file (a zip of npy members), got {_line(error)}") from None


def write(file: BinaryIO, members: Mapping[str, NDArray[Any]]) -> str:
    """Write members as an uncompressed npz with fixed times and modes; return the SHA-256 hex of the bytes."""
    return _write(_Stream(file), members)


def digest(members: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 hex of the bytes that write would write."""
    return _write(_Stream(None), members)


def _write(stream: _Stream, members: Mapping[str, NDArray[Any]]) -> str:
    with zipfile.ZipFile(cast(BinaryIO, stream), "w", zipfile.ZIP_STORED) as archive:
        for member, array in members.items():
            with archive.open(zipfile.ZipInfo(f"{member}.npy"), "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, version=(1, 0), allow_pickle=False)
    return stream.digest.hexdigest()


def version(file: BinaryIO) -> str:
    """SHA-256 hex of a whole seekable file."""
    file.seek(0)
    digest = hashlib.sha256()
    for piece in iter(lambda: file.read(_PIECE), b""):
        digest.update(piece)
    return digest.hexdigest()


def texts(array: NDArray[Any]) -> list[str]:
    """The strings of a text member. Raises GraphError for a number that is no Unicode character."""
    codes = array.view(np.uint32)
    if codes.size and codes.max() > _LARGEST_CODE_POINT:
        width = array.itemsize // 4
        at = int(np.argmax(codes > _LARGEST_CODE_POINT))
        raise GraphError(f"items[{at // width}] must be Unicode text, got the character number {codes[at]}")
    strings: list[str] = array.tolist()
    return strings


class _Stream:
    """A sink without seek, so that zipfile writes the same bytes to any file, hashed on the way."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data) if self._file is None else self._file.write(data)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()


def _directory(archive: zipfile.ZipFile, max_unpacked: int) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    unpacked = 0
    for entry in archive.infolist():
        member = entry.filename.removesuffix(".npy")
        if member not in _DTYPES:
            raise GraphError(f"member {member[:80]!r} is unknown; a graph has {', '.join(_DTYPES)}")
        if member in entries:
            raise GraphError(f"member {member!r} must appear once, got it twice")
        if entry.header_offset < 0:
            raise zipfile.BadZipFile(f"member {member!r} starts before the file")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise GraphError(f"member {member!r} must be stored or deflated without encryption")
        entries[member] = entry
        unpacked += entry.file_size
    missing = [member for member in _DTYPES if member not in entries and member not in _OPTIONAL]
    if missing:
        raise GraphError(f"member {missing[0]!r} is missing; a graph has {', '.join(_DTYPES)} (prior is optional)")
    if unpacked > max_unpacked:
        raise GraphError(f"unpacked size must be at most {max_unpacked} bytes, got {unpacked}")
    return entries


def _member(archive: zipfile.ZipFile, member: str, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as file:
        length = _header_length(member, file.read(8), file)
        dtype, fortran, shape = _header(member, file.read(length))
        if len(shape) > 1 and 0 in shape:
            raise GraphError(f"{member} must have at least one row and one column, got shape {shape}")
        size = math.prod(shape) * dtype.itemsize
        left = entry.file_size - file.tell()
        if size != left:
            raise GraphError(f"{member} of shape {shape} must have {size} bytes, got {left}")
        raw = np.empty(size, np.uint8)
        view = raw.data
        at = 0
        while at < size:
            piece = file.read(min(_PIECE, size - at))
            if not piece:
                raise EOFError(f"{member} cut after {at} of {size} bytes")
            view[at : at + len(piece)] = piece
            at += len(piece)
    array = raw.view(dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array) if shape else array


def _header_length(member: str, start: bytes, file: IO[bytes]) -> int:
    if len(start) < 8 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise GraphError(f"{member} must be an npy array of format 1, 2 or 3, got bytes {start!r}")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    if length > _LONGEST_HEADER:
        raise GraphError(f"{member} must have an npy header of at most {_LONGEST_HEADER} bytes, got {length}")
    return length


def _header(member: str, header: bytes) -> tuple[np.dtype[np.generic], bool, tuple[int, ...]]:
    text = header.decode("latin-1")
    descr = re.search(r"'descr': *'([^']*)'", text)
    order = re.search(r"'fortran_order': *(True|False)", text)
    shape = re.search(r"'shape': *\(([0-9, ]{0,64})\)", text)
    if descr is None or order is None or shape is None:
        raise GraphError(f"{member} must have an npy header with descr, fortran_order and shape, got {text[:120]!r}")
    lengths = tuple(int(n) for n in re.findall(r"[0-9]+", shape[1]))
    if not re.fullmatch(_DTYPES[member], descr[1]) or len(lengths) != _NDIM.get(member, 1):
        pickled = " (pickled objects are never read)" if "O" in descr[1] else ""
        raise GraphError(f"{member} must be {_WANTED[member]}, got {descr[1]!r} of shape {lengths}{pickled}")
    return np.dtype(descr[1]), order[1] == "True", lengths


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
