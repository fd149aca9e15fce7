"""Integers and positions in the bytes of bandits.records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

HEADER_BYTES, CONTEXT_BYTES, POSITION_BYTES, REFERENCE_BYTES = 56, 18, 18, 3
MAX_CONTEXTS = 4096


@njit(cache=True, nogil=True)
def u16(data: Any, at: Any) -> Any:
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@njit(cache=True, nogil=True)
def u32(data: Any, at: Any) -> Any:
    return u16(data, at) | u16(data, at + 2) << 16


@njit(cache=True, nogil=True)
def u64(data: Any, at: Any) -> Any:
    return np.uint64(u32(data, at)) | np.uint64(u32(data, at + 4)) << np.uint64(32)


@njit(cache=True, nogil=True)
def i64(data: Any, at: Any) -> Any:
    return np.int64(u64(data, at))


@njit(cache=True, nogil=True)
def i32(data: Any, at: Any) -> Any:
    return np.int64(np.int32(np.uint32(u32(data, at))))


@njit(cache=True, nogil=True)
def positions_of(data: Any, at: Any, stop: Any, contexts: Any) -> Any:
    """Check a receipt's structure and find its contexts.

    Returns (where the positions begin or -1, cells that an impression of all positions touches, bytes of ids).
    """
    bad = (np.int64(-1), np.int64(0), np.int64(0))
    if stop - at < HEADER_BYTES + 1 or data[at] != 1:
        return bad
    n_positions, n_names, n_contexts = np.int64(data[at + 2]), np.int64(data[at + 3]), u16(data, at + 4)
    if n_contexts > MAX_CONTEXTS or n_names > 4 or n_positions > 100:
        return bad
    at += HEADER_BYTES + 4 * n_names
    if at >= stop:
        return bad
    at += 1 + np.int64(data[at])
    for i in range(n_contexts):
        contexts[i] = at
        if at + CONTEXT_BYTES > stop:
            return bad
        at += CONTEXT_BYTES + u16(data, at + 16)
        if at + 2 > stop:
            return bad
        at += 2 + 8 * u16(data, at)
    first = at
    cells = np.int64(0)
    text = np.int64(0)
    for _ in range(n_positions):
        if at + POSITION_BYTES > stop:
            return bad
        length = u16(data, at + 16)
        text += length
        at += POSITION_BYTES + length
        if at >= stop:
            return bad
        n_references = np.int64(data[at])
        at += 1
        for _ in range(n_references):
            if at + REFERENCE_BYTES > stop:
                return bad
            context, mask = u16(data, at), np.int64(data[at + 2])
            at += REFERENCE_BYTES + mask
            if context >= n_contexts:
                return bad
            head = contexts[context]
            name = u16(data, head + 16)
            n_slots = u16(data, head + CONTEXT_BYTES + name)
            if mask != 0 and 8 * mask < n_slots:
                return bad
            cells += n_slots + 1
            text += name
    if at != stop:
        return bad
    return first, cells, text


@njit(cache=True, nogil=True)
def position_end(data: Any, at: Any) -> Any:
    at += POSITION_BYTES + u16(data, at + 16)
    n_references = np.int64(data[at])
    at += 1
    for _ in range(n_references):
        at += REFERENCE_BYTES + np.int64(data[at + 2])
    return at
