"""One form of batch scoring for NumPy and CuPy arrays; the only place that knows CuPy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandits.scoring import Variant, divides_by_weights

Array: TypeAlias = Any
"""A NumPy or a CuPy array."""

BYTES_PER_EDGE = 128
"""Upper estimate of the temporary memory that score_batch holds for each edge of a chunk."""


class DeviceError(RuntimeError):
    """The device asked for cannot be used here."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Scored candidates of B requests, those of request i in [start[i], start[i + 1]).

    start     int64   (B + 1,)
    item      int32   (A,)
    mean      float32 (A,)  posterior mean
    variance  float32 (A,)
    score     float32 (A,)  mean + alpha * sqrt(variance)
    """

    start: Array
    item: Array
    mean: Array
    variance: Array
    score: Array


def device(name: Literal["auto", "cpu", "gpu"]) -> Any:
    """The array module to make arrays with: numpy or cupy; "auto" takes the GPU where there is one.

    Raises DeviceError when "gpu" is asked for and CuPy or a device is missing, ValueError for another name.
    """
    if name not in ("auto", "cpu", "gpu"):
        raise ValueError(f'device must be "auto", "cpu" or "gpu", got {name!r}')
    if name == "cpu":
        return np
    module, fault = _probe()
    if module is not None:
        return module
    if name == "gpu":
        raise DeviceError(f"no GPU to use: {fault}")
    return np


def array_module(*arrays: Array) -> Any:
    """The module that the arrays belong to: cupy if any of them is CuPy's, else numpy."""
    cupy = sys.modules.get("cupy")
    return np if cupy is None else cupy.get_array_module(*arrays)


def to_host(array: Array) -> NDArray[Any]:
    """The array as NumPy's, copied only if it lies on a device."""
    xp = array_module(array)
    return np.asarray(array) if xp is np else xp.asnumpy(array)


def score_batch(
    slots: Array,
    weights: Array,
    row_start: Array,
    row_item: Array,
    edge: Array,
    *,
    variant: Variant = "published",
    centre: float = 0.0,
    alpha: float = 0.0,
    top_n: int | None = None,
    max_edges: int = 1 << 22,
) -> Batch:
    """Score B requests at once, on the device where the arrays lie; the same numbers as GraphScorer to 1e-5.

    slots      integer (B, K)    rows, unique within a request; with a signed type a negative one pads
    weights    float32 (B, K)
    row_start  int64   (C + 1,)  first edge of each row
    row_item   int32   (E,)
    edge       float32 (E, 2)    from scoring.bake
    top_n      None: all candidates, by item; else the top_n best of each request, best first, ties by item
    max_edges  requests are taken in chunks of at most this many edges, or one by one where one has more, so that
               temporary memory stays below about BYTES_PER_EDGE * max_edges beside the result

    The form is ours and meant for a GPU: gather the edges, sort them by (request, item) and sum runs of equal keys. On
    a CPU a loop over GraphScorer does the same in a thirtieth of the time.
    Raises ValueError when slots and weights differ in shape, a slot has no row or top_n is below 1.
    """
    xp = array_module(slots, weights, row_start, row_item, edge)
    if top_n is not None and top_n < 1:
        raise ValueError(f"top_n must be >= 1, got {top_n}")
    if slots.shape != weights.shape or slots.ndim != 2:
        raise ValueError(f"slots and weights must be (B, K) both, got {slots.shape} and {weights.shape}")
    normalise = divides_by_weights(variant)
    rows = slots.astype(np.int64)
    n_rows = len(row_start) - 1
    if rows.size and int(rows.max()) >= n_rows:
        raise ValueError(f"slots must be below {n_rows}, got {int(rows.max())}")
    first = row_start[xp.maximum(rows, 0)]
    length = xp.where(rows < 0, 0, row_start[xp.maximum(rows, 0) + 1] - first)
    parts = [
        _score_chunk(xp, first[a:b], length[a:b], weights[a:b], row_item, edge, normalise, centre, alpha, top_n)
        for a, b in _chunks(to_host(length.sum(axis=1)), max_edges)
    ]
    counts = xp.concatenate([part[0] for part in parts]) if parts else xp.zeros(0, np.int64)
    start = xp.concatenate([xp.zeros(1, np.int64), xp.cumsum(counts)])
    columns = [xp.concatenate([part[c] for part in parts]) for c in range(1, 5)] if parts else _no_columns(xp)
    return Batch(start, *columns)


def _chunks(edges: NDArray[np.int64], max_edges: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of requests with at most max_edges together, at least one request each."""
    reached = np.cumsum(edges)
    a = 0
    while a < len(edges):
        before = int(reached[a - 1]) if a else 0
        b = max(a + 1, int(np.searchsorted(reached, before + max_edges, side="right")))
        yield a, b
        a = b


def _score_chunk(
    xp: Any,
    first: Array,
    length: Array,
    weights: Array,
    row_item: Array,
    edge: Array,
    normalise: bool,
    centre: float,
    alpha: float,
    top_n: int | None,
) -> tuple[Array, Array, Array, Array, Array]:
    """Candidates of a chunk of requests: how many each has, then item, mean, variance and score of all."""
    n_requests, n_slots = first.shape
    ends = xp.cumsum(length.ravel())
    total = int(ends[-1]) if ends.size else 0
    if total == 0:
        return xp.zeros(n_requests, np.int64), *_no_columns(xp)
    place = xp.arange(total)
    pair = xp.searchsorted(ends, place, side="right")
    e = place - (ends - length.ravel())[pair] + first.ravel()[pair]
    key = (pair // n_slots).astype(np.int64) << 32 | row_item[e]
    order = xp.argsort(key, kind="stable")
    key, e, w = key[order], e[order], weights.ravel()[pair[order]].astype(np.float64)
    fresh = xp.concatenate([xp.ones(1, np.bool_), key[1:] != key[:-1]])
    group = xp.cumsum(fresh.astype(np.int64)) - 1
    mean = xp.bincount(group, weights=w * edge[e, 0])
    variance = xp.bincount(group, weights=w * w * edge[e, 1])
    if normalise:
        sums = xp.bincount(group, weights=w)
        sums = xp.where(sums == 0.0, 1.0, sums)
        mean, variance = mean / sums, variance / (sums * sums)
    mean, variance = (mean + centre).astype(np.float32), variance.astype(np.float32)
    score = mean + xp.sqrt(variance) * np.float32(alpha)
    key = key[fresh]
    request, item = key >> 32, (key & 0xFFFFFFFF).astype(np.int32)
    counts = xp.bincount(request, minlength=n_requests)
    if top_n is not None:
        # Complementing an order-preserving integer of the score puts the best first under an ascending sort.
        bits = (score + np.float32(0.0)).view(np.int32).astype(np.int64)
        falling = 0x7FFFFFFF - xp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        order = xp.argsort(request << 33 | falling, kind="stable")
        rank = xp.arange(len(order)) - (xp.cumsum(counts) - counts)[request]
        order = order[rank < top_n]
        counts = xp.minimum(counts, top_n)
        item, mean, variance, score = item[order], mean[order], variance[order], score[order]
    return counts, item, mean, variance, score


def _no_columns(xp: Any) -> list[Array]:
    return [xp.zeros(0, np.int32), *(xp.zeros(0, np.float32) for _ in range(3))]


def _probe() -> tuple[Any, str]:
    """CuPy and "", or None and why it cannot be used."""
    try:
        import cupy
    except ImportError as error:
        return None, f"CuPy cannot be imported ({error}); install the extra banditd[gpu]"
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return None, f"CUDA does not start ({error})"
    return (cupy, "") if n_devices else (None, "CUDA finds no device")
