"""Which rows are fitted and predicted together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def assign_folds(n: int, folds: int, seed: int, cluster: NDArray[Any] | None = None) -> NDArray[np.intp]:
    """Fold of each of n rows, intp (n,), drawn with the seed; the rows of a cluster (user) share one.

    Folds are equally large, or hold equally many clusters, but for one. A row whose cluster is None is one of its own.
    """
    if folds < 2:
        raise ValueError(f"folds must be >= 2, got {folds}")
    random = np.random.default_rng(seed)
    if cluster is None:
        return np.asarray(random.permutation(n) % folds, np.intp)
    number = _numbered(cluster)
    of_cluster = random.permutation(int(number.max(initial=-1)) + 1) % folds
    return np.asarray(of_cluster[number], np.intp)


def _numbered(cluster: NDArray[Any]) -> NDArray[np.intp]:
    if cluster.dtype.kind != "O":
        return np.unique(cluster, return_inverse=True)[1].reshape(-1)
    seen: dict[object, int] = {}
    keys = [("alone", i) if one is None else ("of", one) for i, one in enumerate(cluster)]
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.intp)
