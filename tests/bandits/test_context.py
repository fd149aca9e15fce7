"""Contexts: the sparse softmax of an embedding, and hashed features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.context import (
    CONSTANT,
    Context,
    ContextError,
    FeatureHasher,
    from_components,
    from_embedding,
    from_features,
)
from bandits.graph import Graph
from bandits.kernels.context import top_clusters
from bandits.names import WEIGHT_UNIT, feature_slot
from tests.bandits.graphs import graph, graphs

values = st.floats(-16, 16, allow_nan=False)
features = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), values, max_size=30)


def pairs(context: Context) -> dict[int, int]:
    assert context.slots.dtype == np.uint32
    assert context.quanta.dtype == np.int32
    return dict(zip(context.slots.tolist(), context.quanta.tolist(), strict=True))


def quantised_softmax(embedding: np.ndarray, of: Graph) -> dict[int, int]:
    """The definition, in NumPy: stable sort by descending product, softmax, one rounding."""
    product = of.centroids.astype(np.float64) @ embedding.astype(np.float64)
    top = np.argsort(-product, kind="stable")[: of.top_k]
    weight = np.exp((product[top] - product[top[0]]) / of.tau)
    quanta = np.rint(weight / weight.sum() * 2**15).astype(int)
    return {int(slot): int(q) for slot, q in sorted(zip(top, quanta, strict=True)) if q}


def test_two_nearest_clusters_by_hand():
    """Products 1, .5, -1, tau .5: e^0 and e^-1, so weights .731059 and .268941; times 2^15: 23955.3 and 8812.7."""
    context = from_embedding([1.0, 0.5], graph())
    assert pairs(context) == {0: 23955, 1: 8813}
    assert context.weights.dtype == np.float32
    assert context.weights.tolist() == [23955 / 32768, 8813 / 32768]


def test_a_weight_that_rounds_to_zero_is_dropped():
    """tau .01: the second weight is e^-50."""
    assert pairs(from_embedding([1.0, 0.5], graph(tau=0.01))) == {0: 32768}


def test_ties_go_to_the_lowest_clusters():
    """Products of (0, 0) are 0, 0, 0: clusters 0 and 1, half each."""
    assert pairs(from_embedding([0.0, 0.0], graph())) == {0: 16384, 1: 16384}


def test_equal_centroids_tie_wherever_they_stand():
    random = np.random.default_rng(5)
    centroids = np.tile(random.normal(size=64).astype(np.float32), (101, 1))
    of = graph(centroids=centroids, top_k=3, row_start=np.zeros(102, np.int64), row_item=np.zeros(0, np.int32))
    assert pairs(from_embedding(random.normal(size=64), of)) == {0: 10923, 1: 10923, 2: 10923}


def test_clusters_come_in_ascending_order_whatever_their_weight():
    assert pairs(from_embedding([-1.0, 0.5], graph())) == {1: 8813, 2: 23955}


def frozen(values: list[float]) -> np.ndarray:
    return np.frombuffer(np.array(values).tobytes())


@pytest.mark.parametrize("make", [list, np.float32, np.float16, frozen, lambda x: np.array(x[::-1])[::-1]])
def test_lists_and_arrays_give_the_same_context_from_one_compiled_kernel(make: Any):
    assert pairs(from_embedding(make([0.25, -0.5]), graph())) == pairs(from_embedding((0.25, -0.5), graph()))
    assert len(top_clusters.signatures) == 1


@given(graphs(), st.data())
def test_context_is_the_quantised_softmax(of: Graph, data: st.DataObject):
    """Small integers have exact products, so ties are ties in the definition too."""
    dimension = of.centroids.shape[1]
    embedding = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=dimension, max_size=dimension)))
    context = from_embedding(embedding, of)
    assert pairs(context) == quantised_softmax(embedding, of)
    assert (np.diff(context.slots.astype(int)) > 0).all()
    assert abs(context.weights.sum(dtype=np.float64) - 1) <= of.top_k * 2.0**-16


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40))
def test_compiled_kernel_equals_its_python_function(seed: int, dimension: int, n_clusters: int):
    random = np.random.default_rng(seed)
    centroids = random.normal(size=(dimension, n_clusters)).astype(np.float32)
    embedding = random.normal(size=dimension)
    top_k = min(n_clusters, 8)
    results = []
    for kernel in (top_clusters, top_clusters.py_func):
        slots, quanta, score = np.zeros(top_k, np.uint32), np.zeros(top_k, np.int32), np.empty(n_clusters)
        count = kernel(embedding, centroids, 0.3, score, np.empty(top_k), slots, quanta)
        results.append((count, slots[:count].tolist(), quanta[:count].tolist(), score.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("embedding", "path", "message"),
    [
        ([1.0], "embedding", "must have 2 components as the graph's centroids have, got 1"),
        ([], "embedding", "must have 2 components as the graph's centroids have, got 0"),
        ([1.0, math.nan], "embedding[1]", "must be finite and within float32, got nan"),
        ([-math.inf, 0.0], "embedding[0]", "must be finite and within float32, got -inf"),
        ([0.0, 1e39], "embedding[1]", "must be finite and within float32, got 1e+39"),
        (["1.0", "2.0"], "embedding", "must be a flat list of numbers, got <U3 of shape (2,)"),
        ([True, False], "embedding", "must be a flat list of numbers, got bool of shape (2,)"),
        ([[1.0, 2.0]], "embedding", "must be a flat list of numbers, got float64 of shape (1, 2)"),
        ([[1.0], 2.0], "embedding", "must be a flat list of numbers, got nested lists of unequal lengths"),
    ],
)
def test_a_wrong_embedding_is_refused_with_its_path(embedding: Any, path: str, message: str):
    with pytest.raises(ContextError) as refused:
        from_embedding(embedding, graph())
    assert (refused.value.path, refused.value.message) == (path, message)
    assert str(refused.value) == f"{path}: {message}"


def test_features_by_hand():
    """age .3 * 2^15 = 9830.4, height 2^-16 * 2^15 = .5 (half to even: 0), score -1.5 * 2^15 = -49152."""
    context = from_features({"age": 0.3, "height": 2.0**-16, "score": -1.5, "zero": 0.0})
    assert pairs(context) == {feature_slot("age"): 9830, feature_slot("score"): -49152}


def test_slots_depend_on_salt_and_bits():
    assert list(pairs(from_features({"a": 1.0}, "pepper", 7))) == [feature_slot("a", "pepper", 7)]
    assert feature_slot("a", "pepper", 7) < 128
    assert FeatureHasher("pepper").slot("a") != FeatureHasher().slot("a")


@given(features, st.integers(1, 6))
def test_features_merge_by_slot_and_round_once(named: dict[str, float], bits: int):
    totals: dict[int, list[float]] = {}
    for name, value in named.items():
        totals.setdefault(feature_slot(name, "", bits), []).append(value)
    sums = {slot: math.fsum(parts) for slot, parts in totals.items()}
    if any(abs(total) > 16 for total in sums.values()):
        with pytest.raises(ContextError, match=r"their sum must lie in \[-16, 16\]"):
            from_features(named, "", bits)
        return
    context = from_features(named, "", bits)
    expected = {slot: round(total * 2**15) for slot, total in sorted(sums.items())}
    assert pairs(context) == {slot: q for slot, q in expected.items() if q}
    assert (np.diff(context.slots.astype(int)) > 0).all()


@given(features, st.randoms(use_true_random=False))
def test_the_order_of_features_does_not_matter(named: dict[str, float], random: Any):
    named = {name: value / 32 for name, value in named.items()}
    shuffled = list(named.items())
    random.shuffle(shuffled)
    assert pairs(from_features(named, "", 2)) == pairs(from_features(dict(shuffled), "", 2))


def test_colliding_features_cancel():
    """With one bit "x" and one of four others share a slot."""
    other = next(name for name in "abcdefgh" if feature_slot(name, "", 1) == feature_slot("x", "", 1))
    assert pairs(from_features({"x": 2.0, other: -2.0}, "", 1)) == {}
    with pytest.raises(ContextError) as refused:
        from_features({"x": 9.0, other: 9.0}, "", 1)
    assert refused.value.path == f'features["{other}"]'
    assert refused.value.message == "shares a slot with ['x']; their sum must lie in [-16, 16], got 18.0"


@pytest.mark.parametrize(
    ("named", "path", "message"),
    [
        ({"country=IN": 16.1}, 'features["country=IN"]', "value must lie in [-16, 16], got 16.1"),
        ({"a": 1.0, "b": math.nan}, 'features["b"]', "value must lie in [-16, 16], got nan"),
        ({'say "hi"': -math.inf}, r'features["say \"hi\""]', "value must lie in [-16, 16], got -inf"),
        ({"line\nbreak": 17}, r'features["line\nbreak"]', "value must lie in [-16, 16], got 17"),
        ({"\ud800": 1.0}, r'features["\ud800"]', "name must be valid Unicode text, without lone surrogates"),
        ({f"f{i}": 0.0 for i in range(257)}, "features", "at most 256 features, got 257"),
    ],
)
def test_a_wrong_feature_is_refused_with_its_path(named: dict[str, float], path: str, message: str):
    with pytest.raises(ContextError) as refused:
        from_features(named)
    assert (refused.value.path, refused.value.message) == (path, message)


def test_bounds_are_inclusive():
    assert pairs(from_features({"a": 16.0, "b": -16})) == dict(
        sorted({feature_slot("a"): 2**19, feature_slot("b"): -(2**19)}.items())
    )
    assert len(pairs(from_features({f"f{i}": 1.0 for i in range(256)}, "", 32))) == 256


def test_components_are_named_features():
    context = from_components([0.5, 0.0, -2.0], "salt", 20)
    assert pairs(context) == pairs(from_features({"embedding[0]": 0.5, "embedding[2]": -2.0}, "salt", 20))
    assert len(pairs(from_components(np.ones(128), "", 32))) == 128


@pytest.mark.parametrize(
    ("embedding", "path", "message"),
    [
        ([0.0] * 129, "embedding", "at most 128 components without a graph, got 129"),
        ([0.0, 16.5], "embedding[1]", "value must lie in [-16, 16] without a graph, got 16.5"),
        ([math.nan], "embedding[0]", "value must lie in [-16, 16] without a graph, got nan"),
    ],
)
def test_wrong_components_are_refused_with_their_path(embedding: list[float], path: str, message: str):
    with pytest.raises(ContextError) as refused:
        from_components(embedding)
    assert (refused.value.path, refused.value.message) == (path, message)


def test_the_constant_context_is_one_slot_of_weight_one():
    assert pairs(CONSTANT) == {feature_slot("constant"): 32768}
    assert CONSTANT.weights.tolist() == [1.0]
    assert 32768 * WEIGHT_UNIT == 1.0


def test_hasher_forgets_the_oldest_name_beyond_its_capacity():
    hasher = FeatureHasher(capacity=2)
    slots = [hasher.slot(name) for name in ("a", "b", "c")]
    assert slots == [feature_slot(name) for name in ("a", "b", "c")]
    assert len(hasher) == 2
    assert [hasher.name(slot) for slot in slots] == [None, "b", "c"]
    assert hasher.slot("a") == slots[0]
    assert [hasher.name(slot) for slot in slots] == ["a", None, "c"]


def test_hasher_shows_the_first_of_several_names():
    hasher = FeatureHasher(bits=1, capacity=100)
    first: dict[int, str] = {}
    for name in "abcdefgh":
        first.setdefault(hasher.slot(name), name)
    assert {slot: hasher.name(slot) for slot in first} == first


@pytest.mark.parametrize(("bits", "capacity"), [(0, 1), (33, 1), (18, 0)])
def test_hasher_refuses_impossible_sizes(bits: int, capacity: int):
    with pytest.raises(ValueError, match=r"bits must lie in 1\.\.32|capacity must be >= 1"):
        FeatureHasher("", bits, capacity)
