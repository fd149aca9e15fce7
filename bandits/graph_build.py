"""Offline construction of a graph: k-means over users, then each centroid's best items."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from bandits.arrays import F32, I32
from bandits.graph import Graph

DEFAULT_TOP_K = 8
DEFAULT_TAU = 0.05
_EXACT_BUDGET = 2 * 10**9
_BLOCK_BYTES = 64 << 20


def build(
    users: F32 | None,
    items: F32,
    item_ids: Sequence[str],
    clusters: int | None,
    per_cluster: int,
    top_k: int | None = None,
    tau: float | None = None,
    seed: int = 0,
    keep_centroids: Graph | None = None,
) -> Graph:
    """Cluster the users and give each centroid its best items by inner product.

    users           float32 (U, d)  finite; not used, and may be None, with keep_centroids
    items           float32 (N, d)  finite
    item_ids        N ids
    clusters        C; with keep_centroids None or as there
    per_cluster     W items of each cluster (all, if there are fewer); equal products: the lowest index first
    top_k, tau      of the contexts; None: 8 (at most C) and .05, or as in keep_centroids
    seed            of k-means: the same input, seed and number of BLAS threads give the same graph
    keep_centroids  a graph whose centroids, top_k and tau are kept, so that what was learned stays

    Raises ValueError. Source: Yi et al. 2023 (arXiv 2307.15893), sparse bipartite graph.
    """
    if per_cluster < 1:
        raise ValueError(f"per_cluster must be >= 1, got {per_cluster}")
    if len(items) != len(item_ids):
        raise ValueError(f"items must have a row for each of {len(item_ids)} ids, got {len(items)}")
    centroids, tau, top_k = _slots(users, clusters, top_k, tau, seed, keep_centroids)
    if items.shape[1] != centroids.shape[1]:
        raise ValueError(f"items must have {centroids.shape[1]} dimensions as the centroids have, got {items.shape[1]}")
    best = top_items(centroids, items, per_cluster)
    row_start = np.arange(len(centroids) + 1, dtype=np.int64) * best.shape[1]
    return Graph.of(centroids, tau, top_k, item_ids, row_start, best.ravel())


def build_complete(
    users: F32 | None,
    item_ids: Sequence[str],
    clusters: int | None,
    top_k: int | None = None,
    tau: float | None = None,
    seed: int = 0,
    keep_centroids: Graph | None = None,
) -> Graph:
    """Cluster the users and join every cluster to every item: for a few items, which need no embedding.

    Arguments and errors as in build.
    """
    centroids, tau, top_k = _slots(users, clusters, top_k, tau, seed, keep_centroids)
    n_items = len(item_ids)
    row_start = np.arange(len(centroids) + 1, dtype=np.int64) * n_items
    row_item = np.tile(np.arange(n_items, dtype=np.int32), len(centroids))
    return Graph.of(centroids, tau, top_k, item_ids, row_start, row_item)


def uses_minibatch(n_users: int, clusters: int, dimension: int) -> bool:
    """Whether clusters are found by mini-batch k-means: where one pass of Lloyd's takes more than 2e9 products."""
    return n_users * clusters * dimension > _EXACT_BUDGET


def k_means(users: F32, clusters: int, seed: int) -> F32:
    """Centroids of the users: float32 (clusters, d), all different.

    Lloyd's algorithm, the best of 4 starts, for small inputs; mini-batch k-means (Sculley 2010) for large ones, see
    uses_minibatch. Raises ValueError where the users hold fewer distinct embeddings than clusters.
    """
    if clusters < 1:
        raise ValueError(f"clusters must be >= 1, got {clusters}")
    if len(users) < clusters:
        raise ValueError(f"clusters must be at most the number of users, {len(users)}, got {clusters}")
    if uses_minibatch(len(users), clusters, users.shape[1]):
        batch = max(4096, 2 * clusters)
        model = MiniBatchKMeans(clusters, random_state=seed, batch_size=batch, init_size=3 * batch, n_init=1)
    else:
        model = KMeans(clusters, random_state=seed, n_init=4)
    # One OpenMP thread: with more, the order of sums changes from run to run, and so would the graph's version.
    with threadpool_limits(1, "openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(users)
    centroids = np.ascontiguousarray(model.cluster_centers_, np.float32)
    distinct = len(np.unique(centroids, axis=0))
    if distinct < clusters:
        raise ValueError(f"clusters must be at most {distinct}, as many as k-means could tell apart, got {clusters}")
    return centroids


def top_items(centroids: F32, items: F32, per_cluster: int) -> I32:
    """The items with the largest inner products of each centroid: int32 (C, min(per_cluster, N)), rows ascending.

    Exhaustive, in blocks of centroids; products in float32. Equal products: the lowest index is taken.
    """
    n_items = len(items)
    n_best = min(per_cluster, n_items)
    best = np.empty((len(centroids), n_best), np.int32)
    block = max(1, _BLOCK_BYTES // (4 * max(1, n_items)))
    for start in range(0, len(centroids), block):
        product = centroids[start : start + block] @ items.T
        least = np.partition(product, n_items - n_best, axis=1)[:, n_items - n_best]
        for row, (values, bound) in enumerate(zip(product, least, strict=True), start):
            above = np.flatnonzero(values > bound)
            level = np.flatnonzero(values == bound)[: n_best - len(above)]
            best[row] = np.sort(np.concatenate([above, level]))
    return best


def _slots(
    users: F32 | None,
    clusters: int | None,
    top_k: int | None,
    tau: float | None,
    seed: int,
    keep: Graph | None,
) -> tuple[F32, float, int]:
    if keep is not None:
        for name, asked, kept in (
            ("clusters", clusters, keep.n_clusters),
            ("top_k", top_k, keep.top_k),
            ("tau", tau, keep.tau),
        ):
            if asked is not None and asked != kept:
                raise ValueError(
                    f"{name} must be {kept} as in the kept graph (another begins a new generation), got {asked}"
                )
        return keep.centroids, keep.tau, keep.top_k
    if users is None or clusters is None:
        raise ValueError("users and clusters must be given unless centroids are kept")
    tau = DEFAULT_TAU if tau is None else tau
    return k_means(users, clusters, seed), tau, min(DEFAULT_TOP_K, clusters) if top_k is None else top_k
