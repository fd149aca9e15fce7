"""Scores against hand-worked answers, an array version and the interpreted kernels."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.kernels import score as kernels
from bandits.scoring import GraphScorer, Variant, bake, score_dense

VARIANTS = get_args(Variant)
WEIGHT_UNIT = 2**15
REWARD_UNIT = 2**30


@dataclass
class Request:
    """A random graph and a context on it."""

    n_items: int
    slots: np.ndarray
    weights: np.ndarray
    row_start: np.ndarray
    row_item: np.ndarray
    edge: np.ndarray
    excluded: np.ndarray

    @property
    def graph(self):
        return self.slots, self.weights, self.row_start, self.row_item, self.edge

    def scorer(self, variant: Variant) -> GraphScorer:
        return GraphScorer(self.n_items, len(self.row_item), variant)


def make_request(seed: int, n_items: int, n_rows: int = 6, n_slots: int = 4, most: int = 50) -> Request:
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.choice(n_items, rng.integers(0, min(most, n_items) + 1), replace=False)) for _ in range(n_rows)]
    row_item = np.concatenate(rows).astype(np.int32)
    return Request(
        n_items=n_items,
        slots=np.sort(rng.choice(n_rows, n_slots, replace=False)).astype(np.uint32),
        weights=rng.uniform(0.01, 1, n_slots).astype(np.float32),
        row_start=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        row_item=row_item,
        edge=np.stack([rng.normal(size=len(row_item)), rng.uniform(0.1, 1, len(row_item))], axis=1).astype(np.float32),
        excluded=np.sort(rng.choice(n_items, min(5, n_items), replace=False)).astype(np.int32),
    )


def reference(request: Request, variant: Variant, centre: float) -> dict[int, tuple[float, float]]:
    """Mean and variance of every item in float64, straight from the formulas."""
    sums: dict[int, np.ndarray] = {}
    for slot, w in zip(request.slots.tolist(), request.weights.tolist(), strict=True):
        for e in range(request.row_start[slot], request.row_start[slot + 1]):
            theta, spread = request.edge[e].tolist()
            item = int(request.row_item[e])
            sums[item] = sums.get(item, np.zeros(3)) + [w * theta, w * w * spread, w]
    divisor = {item: s[2] if variant == "weights" else 1.0 for item, s in sums.items()}
    return {
        item: (centre + s[0] / divisor[item], s[1] / divisor[item] ** 2)
        for item, s in sums.items()
        if item not in set(request.excluded.tolist())
    }


def test_score_two_edges_by_hand():
    """w=0.5 on a cell with d=1+3=4, b=2 and on an unseen one: mean 0.5*2/4=0.25, variance 0.25/4+0.25/1=0.3125.

    The item of the second row alone has mean 0 and variance 0.25; with alpha=2 their bounds are 0.25+2*0.559 and 1.
    """
    sums = np.array([[3 * REWARD_UNIT, 0, 2 * REWARD_UNIT], [0, 0, 0], [0, 0, 0]])
    edge = bake(sums, 1.0, 0.0, None, np.empty((3, 2), np.float32))
    slots, weights = np.array([0, 1], np.uint32), np.array([0.5, 0.5], np.float32)
    row_start, row_item = np.array([0, 1, 3]), np.array([7, 7, 9], np.int32)
    item, mean, variance, bound = GraphScorer(10, 3).upper_bounds(slots, weights, row_start, row_item, edge, alpha=2.0)
    assert item.tolist() == [7, 9]
    assert mean.tolist() == [0.25, 0.0]
    assert variance.tolist() == [0.3125, 0.25]
    np.testing.assert_allclose(bound, [0.25 + 2 * 0.3125**0.5, 1.0], rtol=1e-6)


def test_baking_by_hand():
    """d=1+3=4, s=2, b=2, prior 1. Centre 0.5: (2-0.5*2)/4=0.25; with expectation 0.9: (2-1+0.4)/4=0.35.

    Uncentred with expectation 0.9: (2+0.9)/4=0.725. An unseen edge: its expectation less the centre.
    """
    sums = np.array([[3 * REWARD_UNIT, 2 * WEIGHT_UNIT, 2 * REWARD_UNIT], [0, 0, 0]])
    expected = np.array([0.9, 0.9], np.float32)

    def theta(centre, prior_mean):
        return bake(sums, 1.0, centre, prior_mean, np.empty((2, 2), np.float32))[:, 0]

    np.testing.assert_allclose(theta(0.5, None), [0.25, 0.0], rtol=1e-6)
    np.testing.assert_allclose(theta(0.5, expected), [0.35, 0.4], rtol=1e-6)
    np.testing.assert_allclose(theta(0.0, expected), [0.725, 0.9], rtol=1e-6)
    assert bake(sums, 1.0, 0.0, None, np.empty((2, 2), np.float32))[:, 1].tolist() == [0.25, 1.0]


def test_prior_other_than_one_pulls_by_its_own_strength():
    """prior 4, expectation 0.5, d=4+4=8, b=3: (3+4*0.5)/8=0.625."""
    out = bake(np.array([[4 * REWARD_UNIT, 0, 3 * REWARD_UNIT]]), 4.0, 0.0, np.float32([0.5]), np.empty((1, 2), "f4"))
    assert out.tolist() == [[0.625, 0.125]]


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n_items=st.sampled_from([1, 3, 60, 40_000, 2**15, 2**15 + 1, 100_000]))
def test_scores_equal_the_formulas_each_item_once(variant, seed, n_items):
    request = make_request(seed, n_items)
    item, mean, variance, bound = request.scorer(variant).upper_bounds(*request.graph, request.excluded, 0.3, 1.5)
    expected = reference(request, variant, 0.3)
    assert sorted(item.tolist()) == sorted(expected)
    for i, m, v, b in zip(item.tolist(), mean.tolist(), variance.tolist(), bound.tolist(), strict=True):
        assert m == pytest.approx(expected[i][0], rel=1e-4, abs=1e-5)
        assert v == pytest.approx(expected[i][1], rel=1e-4)
        assert b == pytest.approx(m + 1.5 * v**0.5, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_request_leaves_nothing_behind_for_the_next(variant):
    request = make_request(3, 70_000)
    scorer = request.scorer(variant)
    first = [array.copy() for array in scorer.score(*request.graph, request.excluded)]
    scorer.score(request.slots[:2], request.weights[:2], *request.graph[2:])
    for before, after in zip(first, scorer.score(*request.graph, request.excluded), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("normalise", [False, True])
def test_compiled_scoring_equals_interpreted(normalise):
    request = make_request(5, 40_000)

    def run(kernel):
        n_edges = len(request.row_item)
        item, value = np.empty(n_edges + 1, np.int32), np.empty((3, n_edges + 1), np.float32)
        window, weight_sum = np.zeros((kernels.WINDOW, 2), np.float32), np.zeros(kernels.WINDOW, np.float32)
        n = kernel(
            request.slots, request.weights, request.excluded, *request.graph[2:], 40_000, 0.25, 1.0, normalise,
            np.empty(8, np.int64), window, weight_sum, item, value,
        )  # fmt: skip
        assert not window.any()
        assert not weight_sum.any()
        return item[:n], value[:, :n]

    item, value = run(kernels.score_rows)
    expected_item, expected_value = run(kernels.score_rows.py_func)
    assert len(item) > 10
    np.testing.assert_array_equal(item, expected_item)
    np.testing.assert_allclose(value, expected_value, rtol=1e-6)


def test_compiled_baking_equals_interpreted():
    rng = np.random.default_rng(6)
    sums = rng.integers(0, 2**40, (50, 3))
    prior_mean = rng.random(50).astype(np.float32)
    compiled, interpreted = np.empty((2, 50, 2), np.float32)
    kernels.bake_edges(sums, 2.0, 0.3, prior_mean, compiled)
    kernels.bake_edges.py_func(sums, 2.0, 0.3, prior_mean, interpreted)
    np.testing.assert_allclose(compiled, interpreted, rtol=1e-6)


def test_an_item_reached_only_with_weight_zero_is_a_candidate():
    edge = np.array([[0.7, 1.0]], np.float32)
    item, mean, _ = GraphScorer(1, 1).score(
        np.zeros(1, np.uint32), np.zeros(1, np.float32), np.array([0, 1]), np.zeros(1, np.int32), edge
    )
    assert item.tolist() == [0]
    assert mean.tolist() == [0.0]


def test_no_slots_give_no_candidates():
    request = make_request(7, 100)
    item, mean, variance = request.scorer("published").score(request.slots[:0], request.weights[:0], *request.graph[2:])
    assert len(item) == len(mean) == len(variance) == 0


def test_more_slots_than_the_scratch_was_made_for():
    n = 500
    item, mean, _ = GraphScorer(1, n).score(
        np.arange(n, dtype=np.uint32), np.full(n, 0.5, np.float32), np.arange(n + 1), np.zeros(n, np.int32),
        np.ones((n, 2), np.float32),
    )  # fmt: skip
    assert item.tolist() == [0]
    assert mean.tolist() == [250.0]


def test_refusals_name_the_value():
    request = make_request(8, 100)
    with pytest.raises(ValueError, match="slots must be below 6, got 6"):
        request.scorer("published").score(np.uint32([6]), np.float32([1]), *request.graph[2:])
    with pytest.raises(ValueError, match="rows may have 1 edges together"):
        GraphScorer(100, 1).score(*request.graph)
    with pytest.raises(ValueError, match="prior must be a finite number > 0, got 0"):
        bake(np.zeros((1, 3), np.int64), 0.0, 0.0, None, np.empty((1, 2), np.float32))
    with pytest.raises(ValueError, match="prior_mean must be"):
        bake(np.zeros((1, 3), np.int64), 1.0, 0.0, np.zeros(2, np.float32), np.empty((1, 2), np.float32))
    with pytest.raises(ValueError, match="variant must be"):
        GraphScorer(1, 1, "centered")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask must be"):
        score_dense(np.ones(1, "f4"), np.ones((2, 1), "f4"), np.ones((2, 1), "f4"), np.ones((1, 2), bool), prior=1.0)


def test_explicit_candidates_by_hand():
    """w=(0.5, 0.25), theta=(0.4, 0.8), 1/d=(0.5, 1). Both: 0.2+0.2, 0.125+0.0625. Second only: 0.2, 0.0625.

    Without an edge, prior 2: mean 0, variance (0.25+0.0625)/2. Divided by weights .75, .25 and .75, or moved by 0.1.
    """
    weights = np.array([0.5, 0.25], np.float32)
    theta = np.tile(np.float32([0.4, 0.8]), (3, 1))
    spread = np.tile(np.float32([0.5, 1.0]), (3, 1))
    mask = np.array([[True, True], [False, True], [False, False]])
    mean = np.array([0.4, 0.2, 0.0])
    variance = np.array([0.1875, 0.0625, 0.15625])
    divisor = np.array([0.75, 0.25, 0.75])
    for variant, centre, expected in (
        ("published", 0.0, (mean, variance)),
        ("centred", 0.1, (mean + 0.1, variance)),
        ("weights", 0.0, (mean / divisor, variance / divisor**2)),
    ):
        got = score_dense(weights, theta, spread, mask, prior=2.0, variant=variant, centre=centre, alpha=2.0)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-6)
        np.testing.assert_allclose(got[2], expected[0] + 2 * np.sqrt(expected[1]), rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_explicit_candidates_score_as_the_graph_does(variant):
    request = make_request(9, 60)
    item, mean, variance, bound = request.scorer(variant).upper_bounds(*request.graph, centre=0.2, alpha=1.0)
    shape = (request.n_items, len(request.slots))
    theta, spread, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    for k, slot in enumerate(request.slots.tolist()):
        edges = slice(request.row_start[slot], request.row_start[slot + 1])
        members = request.row_item[edges]
        theta[members, k], spread[members, k], mask[members, k] = *request.edge[edges].T, True
    dense = score_dense(request.weights, theta, spread, mask, prior=1.0, variant=variant, centre=0.2, alpha=1.0)
    for got, expected in zip((mean, variance, bound), dense, strict=True):
        np.testing.assert_allclose(got, expected[item], rtol=1e-4, atol=1e-5)


def test_compiled_dense_scoring_equals_interpreted():
    rng = np.random.default_rng(10)
    theta, spread = rng.random((2, 20, 5)).astype(np.float32)
    mask = rng.random((20, 5)) < 0.4
    compiled, interpreted = np.empty((2, 3, 20), np.float32)
    arguments = (rng.random(5).astype(np.float32), theta, spread, mask, 0.5, 0.1, 1.0, True)
    kernels.score_dense_cells(*arguments, *compiled)
    kernels.score_dense_cells.py_func(*arguments, *interpreted)
    np.testing.assert_allclose(compiled, interpreted, rtol=1e-5)


def test_after_warming_no_request_compiles():
    """In a process of its own, as every kernel that another test has compiled would hide the fault."""
    subprocess.run([sys.executable, "-c", WARM], check=True, cwd=Path(__file__).parents[2])


WARM = """
import numpy as np
from bandits import sampling, scoring
sampling.warm(), scoring.warm()
kernels = [k for module in (sampling, scoring) for k in vars(module).values() if hasattr(k, "signatures")]
assert len(kernels) == 9 and all(k.signatures for k in kernels), [k for k in kernels if not k.signatures]
before = [k.signatures[:] for k in kernels]
edge = scoring.bake(np.zeros((4, 3), np.int64), 1, 0, np.zeros(4, np.float32), np.empty((4, 2), np.float32))
scorer = scoring.GraphScorer(9, 4, "weights")
slots, weights, excluded = np.array([0, 1], np.uint32), np.ones(2, np.float32), np.array([3], np.int32)
row_start, row_item = np.array([0, 2, 4]), np.array([1, 2, 1, 3], np.int32)
bound = scorer.upper_bounds(slots, weights, row_start, row_item, edge, excluded, 0, 1)[3]
scoring.score_dense(weights, edge, edge, np.ones((4, 2), bool), prior=1, centre=0, alpha=1)
for kind in sampling.KINDS:
    sampling.Sampler(kind, temperature=1, epsilon=0).draw(bound, 2, np.random.default_rng(1).random((2, 2)))
    sampling.Sampler(kind, temperature=1, epsilon=0).position(bound, [1])
assert before == [k.signatures for k in kernels], [k for k, old in zip(kernels, before) if k.signatures != old]
"""
