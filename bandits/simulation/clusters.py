"""Synthetic users around cluster centres, and items whose appeal depends on the cluster."""

from __future__ import annotations

import numpy as np

from bandits.graph import Graph
from bandits.simulation.world import TableWorld, sigmoid, softmax_rows, unit_rows


def clusters(
    seed: int = 0,
    n_users: int = 4096,
    n_items: int = 300,
    n_clusters: int = 64,
    per_cluster: int = 32,
    dim: int = 16,
    top_k: int = 8,
    tau: float = 0.05,
    spread: float = 1.0,
) -> TableWorld:
    """Users and items on the unit sphere of dimension d, as a two-tower model would place them.

    A user is a centre plus noise N(0, spread**2 / d) in each component. The click rate of item j in cluster c is
    sigmoid(-3 + 4 <item_j, centre_c> + N(0, 1)): the towers know the inner product and not the noise. A user's rate
    is the mean over all clusters, weighted by softmax(<user, centre> / tau). The graph joins each centre to its
    per_cluster best items by inner product, so that a user's candidates leave out most of the other items.
    """
    rng = np.random.default_rng(seed)
    centres = unit_rows(rng.normal(size=(n_clusters, dim)))
    items = unit_rows(rng.normal(size=(n_items, dim)))
    home = rng.integers(n_clusters, size=n_users)
    users = unit_rows(centres[home] + rng.normal(0.0, spread / np.sqrt(dim), (n_users, dim)))
    affinity = centres @ items.T
    rate = sigmoid(-3.0 + 4.0 * affinity + rng.normal(size=affinity.shape))
    truth = softmax_rows(users @ centres.T / tau) @ rate
    ids = tuple(f"item-{j:03d}" for j in range(n_items))
    best = np.sort(np.argsort(-affinity, axis=1)[:, :per_cluster], axis=1).astype(np.int32)
    row_start = np.arange(n_clusters + 1, dtype=np.int64) * best.shape[1]
    graph = Graph.of(centres.astype(np.float32), tau, top_k, ids, row_start, best.ravel())
    return TableWorld("clusters", ids, users.astype(np.float32), truth, np.zeros(n_items, np.int64), graph=graph)
