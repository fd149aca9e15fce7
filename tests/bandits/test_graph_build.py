"""Building graphs: k-means, the best items of each centroid, kept centroids."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from bandits import graph_build
from bandits.context import from_embedding
from bandits.graph_build import build, build_complete, k_means, top_items, uses_minibatch
from tests.bandits.graphs import graph

USERS = np.array([[1, 0], [1, 0.2], [-1, 0], [-1, -0.2]], np.float32)
ITEMS = np.array([[2, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
IDS = ["double", "right", "up", "left"]


def unit_digits() -> np.ndarray:
    pixels = load_digits().data.astype(np.float32)
    return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


def test_two_clusters_and_their_two_best_items_by_hand():
    """Centroids (1, .1) and (-1, -.1). Products of the first: 2, 1, .1, -1; of the second: -2, -1, -.1, 1."""
    built = build(USERS, ITEMS, IDS, clusters=2, per_cluster=2)
    order = np.argsort(-built.centroids[:, 0])
    assert built.centroids[order] == pytest.approx(np.array([[1, 0.1], [-1, -0.1]]), abs=1e-6)
    assert [[built.items[i] for i in built.neighbours(int(c))] for c in order] == [["double", "right"], ["up", "left"]]
    assert (built.tau, built.top_k, built.n_edges) == (0.05, 2, 4)


def test_equal_products_go_to_the_lowest_items():
    """Products 1, 1, 2, 1, 0: the best, then the first two of three ones."""
    items = np.array([[1], [1], [2], [1], [0]], np.float32)
    assert top_items(np.ones((1, 1), np.float32), items, 3).tolist() == [[0, 1, 2]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 30), st.integers(1, 35), st.integers(1, 400))
def test_top_items_equals_a_stable_sort_in_blocks_of_any_size(
    seed: int, n_clusters: int, n_items: int, per_cluster: int, block_bytes: int
):
    random = np.random.default_rng(seed)
    centroids = random.integers(-2, 3, (n_clusters, 3)).astype(np.float32)
    items = random.integers(-2, 3, (n_items, 3)).astype(np.float32)
    expected = np.sort(np.argsort(-(centroids @ items.T), axis=1, kind="stable")[:, :per_cluster], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_build, "_BLOCK_BYTES", block_bytes)
        best = top_items(centroids, items, per_cluster)
    assert best.dtype == np.int32
    assert np.array_equal(best, expected)


def test_digits_make_a_complete_graph_that_tells_digits_apart():
    """64 clusters of unit-length pixels, each joined to all ten items; a digit's heaviest cluster is nearly pure."""
    pixels = unit_digits()
    built = build_complete(pixels, [str(i) for i in range(10)], clusters=64, top_k=8, tau=0.05)
    assert (built.n_clusters, built.n_edges, built.centroids.shape[1]) == (64, 640, 64)
    assert all(built.neighbours(c).tolist() == list(range(10)) for c in range(64))
    contexts = [from_embedding(row, built) for row in pixels]
    heaviest = np.array([context.slots[context.quanta.argmax()] for context in contexts])
    labels = load_digits().target
    kept = sum(np.bincount(labels[heaviest == c]).max() for c in np.unique(heaviest))
    assert kept / len(labels) > 0.85
    assert all(abs(int(context.quanta.sum()) - 32768) <= 4 for context in contexts)


def test_the_same_seed_gives_the_same_graph_and_seed_zero_is_a_seed():
    pixels = unit_digits()[:300]
    versions = [build_complete(pixels, ["a"], clusters=10, seed=seed).version for seed in (0, 0, 1)]
    assert versions[0] == versions[1] != versions[2]


def test_large_inputs_take_mini_batches(monkeypatch: pytest.MonkeyPatch):
    """100 users on each of 5 corners: mini-batch k-means finds the corners too."""
    corners = np.eye(5, dtype=np.float32) * 10
    users = np.repeat(corners, 100, axis=0)
    monkeypatch.setattr(graph_build, "_EXACT_BUDGET", len(users) * 5 * 5 - 1)
    assert uses_minibatch(len(users), 5, 5)
    found = k_means(users, 5, seed=0)
    assert np.sort(found, axis=0) == pytest.approx(np.sort(corners, axis=0), abs=1e-3)
    assert not uses_minibatch(len(users) - 1, 5, 5)


def test_top_k_defaults_to_8_or_to_all_clusters():
    pixels = unit_digits()[:100]
    assert build_complete(pixels, ["a"], clusters=20).top_k == 8
    assert build_complete(pixels, ["a"], clusters=3).top_k == 3


def test_kept_centroids_keep_the_meaning_of_slots_while_items_change():
    old = build(USERS, ITEMS, IDS, clusters=2, per_cluster=2, top_k=1, tau=0.3)
    new = build(None, ITEMS[::-1], ["w", "x", "y", "z"], None, 3, keep_centroids=old)
    assert new.slot_key == old.slot_key
    assert (new.tau, new.top_k, new.n_edges) == (0.3, 1, 6)
    assert new.version != old.version
    assert build(USERS * 5, ITEMS, IDS, 2, 2, 1, 0.3, keep_centroids=old).version == old.version


def test_per_cluster_beyond_the_items_takes_all_of_them():
    assert build(USERS, ITEMS, IDS, clusters=2, per_cluster=9).n_edges == 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"per_cluster": 0}, "per_cluster must be >= 1, got 0"),
        ({"clusters": 0}, "clusters must be >= 1, got 0"),
        ({"clusters": 5}, "clusters must be at most the number of users, 4, got 5"),
        (
            {"users": np.repeat(USERS[:1], 4, axis=0)},
            "clusters must be at most 1, as many as k-means could tell apart, got 2",
        ),
        ({"items": ITEMS[:3]}, "items must have a row for each of 4 ids, got 3"),
        ({"items": np.ones((4, 3), np.float32)}, "items must have 2 dimensions as the centroids have, got 3"),
        ({"users": None}, "users and clusters must be given unless centroids are kept"),
        ({"clusters": None}, "users and clusters must be given unless centroids are kept"),
        ({"top_k": 3}, "top_k must lie in 1..2 (at most the number of clusters, and 64), got 3"),
        ({"tau": 0.0}, "tau must be finite and > 0, got 0.0"),
        (
            {"keep_centroids": graph()},
            "clusters must be 3 as in the kept graph (another begins a new generation), got 2",
        ),
        (
            {"keep_centroids": graph(), "clusters": 3, "top_k": 1},
            "top_k must be 2 as in the kept graph (another begins a new generation), got 1",
        ),
        (
            {"keep_centroids": graph(), "clusters": None, "tau": 0.1},
            "tau must be 0.5 as in the kept graph (another begins a new generation), got 0.1",
        ),
    ],
)
def test_impossible_orders_are_refused(changed: dict[str, Any], message: str):
    order: dict[str, Any] = {"users": USERS, "items": ITEMS, "item_ids": IDS, "clusters": 2, "per_cluster": 2} | changed
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        build(**order)
