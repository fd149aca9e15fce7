"""64-bit hashes of whole columns: of users, and fingerprints that are equal for duplicate rows.

Equal values have equal hashes in every file, format and process; two different ones share a hash with chance 2**-64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

U64: TypeAlias = NDArray[np.uint64]

_LONG = 256
"""Bytes of a text beyond which it is hashed alone."""
_NULL = np.uint64(0x6E756C6C)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def mix(values: U64) -> U64:
    """A bijection that spreads every bit over all (the finaliser of SplitMix64: Steele, Lea, Flood 2014)."""
    z = values + _STEP
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def combine(hashes: Iterable[U64]) -> U64:
    """One hash of several columns, in their order."""
    total: U64 | None = None
    for one in hashes:
        total = mix(one) if total is None else mix(total ^ one)
    if total is None:
        raise ValueError("needs at least one column")
    return total


def users(array: pa.Array) -> U64:
    """Of user ids; 0 where there is none."""
    found = column(array)
    found[found == 0] = 1
    found[_nulls(array)] = 0
    return found


def column(array: pa.Array) -> U64:
    """Of a column of any type; numbers by their value, nested lists by what they hold, missing values by one constant.

    >>> a, b = column(pa.array(["x", None])), column(pa.array(["x", None]).dictionary_encode())
    >>> bool((a == b).all())
    True
    """
    found = _values(array)
    nulls = _nulls(array)
    if nulls.any():
        found = np.where(nulls, _NULL, found)
    return found


def _nulls(array: pa.Array) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _values(array: pa.Array) -> U64:
    kind = array.type
    if pa.types.is_dictionary(kind):
        codes = pc.fill_null(array.indices, 0).to_numpy(zero_copy_only=False)
        return column(array.dictionary)[codes] if len(array.dictionary) else np.full(len(array), _NULL)
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    if pa.types.is_nested(kind):
        return _nested(array)
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int64()) if array.type.bit_width == 64 else array.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_boolean(kind):
        array = array.cast(pa.int64())
    elif not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
        return _texts(array)
    numbers = pc.fill_null(array.cast(pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False) + 0.0
    found = mix(numbers.view(np.uint64))
    if pa.types.is_integer(array.type):
        whole = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
        large = np.abs(numbers) >= 2.0**53
        found[large] ^= mix(whole[large].astype(np.uint64))
    return found


def _nested(array: pa.Array) -> U64:
    if pa.types.is_struct(array.type):
        return combine(column(field) for field in array.flatten())
    if pa.types.is_map(array.type):
        array = array.cast(pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])))
    length = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(length)])
    place = (np.arange(start[-1]) - np.repeat(start[:-1], length)).astype(np.uint64)
    flat = mix(column(array.flatten()) ^ mix(place))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(flat, dtype=np.uint64)])
    return mix(sums[start[1:]] - sums[start[:-1]] + length.astype(np.uint64))


def _texts(array: pa.Array) -> U64:
    """Word by word over all rows at once; of the few long ones each alone."""
    if not (pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)):
        array = array.cast(pa.large_binary() if pa.types.is_binary(array.type) else pa.large_string())
    n = len(array)
    _, offsets, data = array.buffers()
    start = np.frombuffer(offsets, np.int64)[array.offset : array.offset + n + 1] if n else np.zeros(1, np.int64)
    low, high = int(start[0]), int(start[-1])
    raw = (b"" if data is None else memoryview(data)[low:high].tobytes()) + bytes(8)
    words: NDArray[Any] = np.ndarray((len(raw) - 7,), "<u8", raw, strides=(1,))
    at, length = start[:-1] - low, np.diff(start)
    found = mix(length.astype(np.uint64))
    short = np.flatnonzero(length <= _LONG)
    for k in range(0, int(length[short].max(initial=0)), 8):
        short = short[length[short] > k]
        left = np.minimum(length[short] - k, 8).astype(np.uint64)
        mask = ~np.uint64(0) >> (np.uint64(64) - np.uint64(8) * left)
        found[short] = mix(found[short] ^ (words[at[short] + k] & mask))
    for i in np.flatnonzero(length > _LONG).tolist():
        digest = hashlib.blake2b(raw[at[i] : at[i] + length[i]], digest_size=8).digest()
        found[i] = int.from_bytes(digest, "little")
    return found


def matrix(values: NDArray[np.float64], names: Iterable[str]) -> U64:
    """Of each row of named numbers (n, d); zeros cost nothing."""
    salts = mix(_texts(pa.array(list(names), pa.string())))
    total = np.zeros(len(values), np.uint64)
    for k, salt in enumerate(salts):
        rows = np.flatnonzero(values[:, k])
        total[rows] += mix((values[rows, k] + 0.0).view(np.uint64) ^ salt)
    return mix(total)
