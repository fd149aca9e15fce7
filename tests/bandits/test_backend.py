"""Batch scoring on NumPy against the one-request kernel, and the choice of a device."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.backend import DeviceError, array_module, device, score_batch, to_host
from bandits.scoring import GraphScorer, Variant

N_ITEMS = 500


def make_batch(seed: int, n_requests: int = 9, n_rows: int = 12, n_slots: int = 4, most: int = 60):
    """slots (B, K) padded with -1, weights (B, K), row_start, row_item, edge; some rows are empty."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, most + 1, n_rows) * (rng.random(n_rows) < 0.8)
    row_item = np.concatenate([np.sort(rng.choice(N_ITEMS, size, replace=False)) for size in sizes]).astype(np.int32)
    edge = np.stack([rng.normal(size=len(row_item)), rng.uniform(0.1, 1, len(row_item))], axis=1).astype(np.float32)
    slots = np.stack([np.sort(rng.choice(n_rows, n_slots, replace=False)) for _ in range(n_requests)])
    slots[rng.random(slots.shape) < 0.2] = -1
    weights = rng.uniform(0.01, 1, slots.shape).astype(np.float32)
    return slots, weights, np.concatenate([[0], np.cumsum(sizes)]), row_item, edge


def one_by_one(batch, variant, centre, alpha):
    """Each request through GraphScorer, by item."""
    slots, weights, row_start, row_item, edge = batch
    scorer = GraphScorer(N_ITEMS, len(row_item), variant)
    for s, w in zip(slots, weights, strict=True):
        real = s >= 0
        columns = scorer.upper_bounds(
            s[real].astype(np.uint32), w[real], row_start, row_item, edge, centre=centre, alpha=alpha
        )
        order = np.argsort(columns[0])
        yield [column[order] for column in columns]


def requests_of(scored):
    for a, b in zip(scored.start[:-1], scored.start[1:], strict=True):
        yield scored.item[a:b], scored.mean[a:b], scored.variance[a:b], scored.score[a:b]


@pytest.mark.parametrize("variant", get_args(Variant))
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), max_edges=st.sampled_from([1, 100, 1 << 22]))
def test_a_batch_scores_as_its_requests_do_one_by_one(variant, seed, max_edges):
    batch = make_batch(seed)
    scored = score_batch(*batch, variant=variant, centre=0.2, alpha=1.5, max_edges=max_edges)
    assert len(scored.start) == len(batch[0]) + 1
    for got, expected in zip(requests_of(scored), one_by_one(batch, variant, 0.2, 1.5), strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        for column, reference in zip(got[1:], expected[1:], strict=True):
            np.testing.assert_allclose(column, reference, rtol=1e-5, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), top_n=st.integers(1, 200), max_edges=st.sampled_from([1, 100, 1 << 22]))
def test_the_top_n_are_the_best_of_all_ties_by_item(seed, top_n, max_edges):
    batch = make_batch(seed)
    batch[4][:, 0] = np.round(batch[4][:, 0])
    batch[4][:, 1] = 0.25
    batch[1][:] = 0.5
    everything = score_batch(*batch, alpha=1.0)
    best = score_batch(*batch, alpha=1.0, top_n=top_n, max_edges=max_edges)
    for got, columns in zip(requests_of(best), requests_of(everything), strict=True):
        order = np.lexsort((columns[0], -columns[3]))[:top_n]
        for column, reference in zip(got, columns, strict=True):
            np.testing.assert_array_equal(column, reference[order])


def test_two_requests_by_hand():
    """Rows {3: 1, 5: -1} and {3: 3}, all 1/d = 1. Weights .5, .5: item 3 has 2 and .5, item 5 has -.5 and .25."""
    row_start, row_item = np.array([0, 2, 3]), np.array([3, 5, 3], np.int32)
    edge = np.array([[1, 1], [-1, 1], [3, 1]], np.float32)
    slots, weights = np.array([[0, 1], [1, -1]]), np.array([[0.5, 0.5], [1, 0]], np.float32)
    scored = score_batch(slots, weights, row_start, row_item, edge, alpha=2.0)
    assert scored.start.tolist() == [0, 2, 3]
    assert scored.item.tolist() == [3, 5, 3]
    assert scored.mean.tolist() == [2.0, -0.5, 3.0]
    assert scored.variance.tolist() == [0.5, 0.25, 1.0]
    np.testing.assert_allclose(scored.score, [2 + 2 * 0.5**0.5, 0.5, 5.0])


@pytest.mark.parametrize("top_n", [None, 3])
def test_no_requests_and_requests_without_edges_give_empty_results(top_n):
    slots, weights, row_start, row_item, edge = make_batch(1)
    none = score_batch(slots[:0], weights[:0], row_start, row_item, edge, top_n=top_n)
    assert none.start.tolist() == [0]
    padded = score_batch(np.full_like(slots, -1), weights, row_start, row_item, edge, top_n=top_n)
    assert padded.start.tolist() == [0] * (len(slots) + 1)
    for scored in (none, padded):
        assert len(scored.item) == len(scored.mean) == len(scored.variance) == len(scored.score) == 0
        assert scored.item.dtype == np.int32


def test_unsigned_slots_of_contexts_are_taken_as_they_are():
    slots, weights, *graph = make_batch(2)
    slots = np.maximum(slots, 0)[:, :1]
    signed = score_batch(slots, weights[:, :1], *graph)
    unsigned = score_batch(slots.astype(np.uint32), weights[:, :1], *graph)
    np.testing.assert_array_equal(signed.score, unsigned.score)
    assert len(signed.score) > 0


def test_refusals_name_the_value():
    slots, weights, *graph = make_batch(3)
    with pytest.raises(ValueError, match="slots must be below 12, got 12"):
        score_batch(np.full_like(slots, 12), weights, *graph)
    with pytest.raises(ValueError, match=r"slots and weights must be \(B, K\) both"):
        score_batch(slots, weights[:, :1], *graph)
    with pytest.raises(ValueError, match="top_n must be >= 1, got 0"):
        score_batch(slots, weights, *graph, top_n=0)
    with pytest.raises(ValueError, match="variant must be"):
        score_batch(slots, weights, *graph, variant="other")
    with pytest.raises(ValueError, match='device must be "auto", "cpu" or "gpu", got \'tpu\''):
        device("tpu")


class CudaFaultError(Exception):
    """What the double below raises, like CuPy where no driver is."""


def cupy_double(n_devices):
    def count():
        if n_devices is None:
            raise CudaFaultError("cudaErrorNoDevice")
        return n_devices

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CudaFaultError)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("cupy", "reason"),
    [
        (None, "CuPy cannot be imported"),
        (cupy_double(None), r"CUDA does not start \(cudaErrorNoDevice\)"),
        (cupy_double(0), "CUDA finds no device"),
    ],
)
def test_without_a_gpu_auto_takes_the_cpu_and_gpu_says_why_not(monkeypatch, cupy, reason):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert device("auto") is device("cpu") is np
    with pytest.raises(DeviceError, match=f"no GPU to use: {reason}"):
        device("gpu")


def test_with_a_gpu_auto_and_gpu_take_it_and_cpu_does_not(monkeypatch):
    cupy = cupy_double(1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert device("auto") is device("gpu") is cupy
    assert device("cpu") is np


def test_the_arrays_choose_the_module(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    array = np.arange(3)
    assert array_module(array, array) is np
    assert to_host(array) is array
    cupy = SimpleNamespace(get_array_module=lambda *arrays: cupy, asnumpy=lambda a: a + 1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert array_module(array) is cupy
    assert to_host(array).tolist() == [1, 2, 3]
