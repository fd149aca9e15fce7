"""The 1,797 scanned digits that scikit-learn ships: which of ten classes is this picture?"""

from __future__ import annotations

import numpy as np

from bandits.simulation.world import TableWorld, unit_rows


def digits(seed: int = 0, n_clusters: int = 64, top_k: int = 8, tau: float = 0.05) -> TableWorld:
    """A user is a picture of 8 x 8 pixels scaled to unit length, an item a class "0" .. "9", the reward 1 when right.

    The graph has the k-means centroids of all pictures (seeded) and every item in every cluster.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998.
    """
    # Imported here: scikit-learn takes 0.6 s, which the other worlds need not wait for.
    from sklearn.datasets import load_digits

    from bandits.graph_build import build_complete

    pixels, label = load_digits(return_X_y=True)
    users = unit_rows(np.asarray(pixels, dtype=np.float64)).astype(np.float32)
    ids = tuple(str(one) for one in range(10))
    graph = build_complete(users, ids, n_clusters, top_k=top_k, tau=tau, seed=seed)
    return TableWorld("digits", ids, users, np.eye(10)[label], np.zeros(10, np.int64), graph=graph)
