"""Which cells a learner on a graph has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bandits.arrays import I64, Bool
from offline_eval.actions import Actions
from offline_eval.formats.graph_files import load


def edges_of(path: Path, version: str, actions: Actions, numbers: I64) -> Bool:
    """Whether an edge joins each action and slot, bool (K, S) in Fortran order; an action may not be in the graph.

    path, version  of the graph
    numbers        int64 (S,) cluster that each slot is; one beyond the graph has no edge

    Raises UsageError for a bad file.
    """
    graph = load(path, version)
    column = actions.columns(graph.items)[:-1]
    edges = np.zeros((len(actions), len(numbers)), bool, order="F")
    for slot, cluster in enumerate(numbers.tolist()):
        if cluster < graph.n_clusters:
            joined = column[graph.neighbours(cluster)]
            edges[joined[joined >= 0], slot] = True
    return edges


def has_prior(path: Path, version: str) -> bool:
    """Whether the graph's edges have prior means."""
    return load(path, version).prior is not None
