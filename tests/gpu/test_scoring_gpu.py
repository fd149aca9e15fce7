"""Batch scoring on the GPU equals batch scoring on the CPU."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from bandits.backend import array_module, score_batch, to_host
from bandits.scoring import Variant
from tests.bandits.test_backend import make_batch

COLUMNS = ("start", "item", "mean", "variance", "score")


@pytest.mark.parametrize("variant", get_args(Variant))
@pytest.mark.parametrize("max_edges", [1, 1000, 1 << 22])
def test_all_candidates_equal_those_of_the_cpu(gpu, variant, max_edges):
    batch = make_batch(21, n_requests=200)
    on_gpu = score_batch(*map(gpu.asarray, batch), variant=variant, centre=0.2, alpha=1.5, max_edges=max_edges)
    on_cpu = score_batch(*batch, variant=variant, centre=0.2, alpha=1.5)
    assert array_module(on_gpu.score) is gpu
    for column in COLUMNS:
        np.testing.assert_allclose(to_host(getattr(on_gpu, column)), getattr(on_cpu, column), rtol=1e-5, atol=1e-5)


def test_the_top_n_score_as_on_the_cpu(gpu):
    batch = make_batch(22, n_requests=200)
    on_gpu = score_batch(*map(gpu.asarray, batch), alpha=1.5, top_n=10)
    on_cpu = score_batch(*batch, alpha=1.5, top_n=10)
    np.testing.assert_array_equal(to_host(on_gpu.start), on_cpu.start)
    np.testing.assert_allclose(to_host(on_gpu.score), on_cpu.score, rtol=1e-5, atol=1e-5)


def test_a_batch_without_edges_is_empty_on_the_gpu_too(gpu):
    slots, weights, *graph = make_batch(23)
    scored = score_batch(*map(gpu.asarray, (np.full_like(slots, -1), weights, *graph)))
    assert to_host(scored.start).tolist() == [0] * (len(slots) + 1)
    assert len(scored.item) == 0
