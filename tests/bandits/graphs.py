"""Graphs for tests: a small one worked out by hand, and arbitrary ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from bandits.graph import Graph


def parts(**changed: Any) -> dict[str, Any]:
    """Three clusters on the axes of the plane; rows [a, c], [], [b, c, d]."""
    return {
        "centroids": np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
        "tau": 0.5,
        "top_k": 2,
        "items": ["a", "b", "c", "d"],
        "row_start": np.array([0, 2, 2, 5], np.int64),
        "row_item": np.array([0, 2, 1, 2, 3], np.int32),
    } | changed


def graph(**changed: Any) -> Graph:
    return Graph.of(**parts(**changed))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Up to 12 clusters in up to 6 dimensions (with equal centroids at times), up to 20 items, any rows."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_clusters, dimension, n_items = draw(st.integers(1, 12)), draw(st.integers(1, 6)), draw(st.integers(1, 20))
    rows = [np.flatnonzero(random.random(n_items) < random.random()) for _ in range(n_clusters)]
    row_item = np.concatenate(rows).astype(np.int32)
    return Graph.of(
        random.integers(-2, 3, (n_clusters, dimension)).astype(np.float32),
        draw(st.floats(0.01, 5)),
        draw(st.integers(1, n_clusters)),
        [f"item {i}é" for i in range(n_items)],
        np.cumsum([0, *map(len, rows)]),
        row_item,
        random.normal(size=len(row_item)).astype(np.float32) if draw(st.booleans()) else None,
    )
