"""Own logs of surfaces with a graph, which alone knows the candidates."""

from __future__ import annotations

import numpy as np

from bandits.graph import Graph
from bandits.own_log import Row
from tests.offline_eval.logs import NOON_US, row


def random_graph(seed: int, n_items: int = 40, n_clusters: int = 12) -> Graph:
    """Items i0, i1, ..; each cluster has about a third of them, and no cluster is empty."""
    rng = np.random.default_rng(seed)
    rows = [np.union1d(np.flatnonzero(rng.random(n_items) < 0.3), rng.integers(n_items, size=2)) for _ in range(12)]
    return Graph.of(
        rng.normal(size=(n_clusters, 2)).astype(np.float32),
        0.5,
        2,
        [f"i{k}" for k in range(n_items)],
        np.cumsum([0, *map(len, rows)]),
        np.concatenate(rows).astype(np.int32),
    )


def possible(graph: Graph, slots: list[int], out: list[str]) -> list[str]:
    """Candidates by their definition."""
    return [
        item
        for item in (graph.items[i] for i in graph.candidates(np.array(slots, np.uint32)).tolist())
        if item not in out
    ]


def graph_rows(graphs: list[Graph], n: int, length: int = 1, seed: int = 0) -> list[Row]:
    """n decisions of up to `length` positions, uniform over what their graph gives; each asks one of the graphs.

    Slots come in any order, a third of the decisions exclude items, some of which no graph knows. Rewards of even
    items are mostly 1.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(n):
        graph = graphs[rng.integers(len(graphs))]
        slots = rng.choice(graph.n_clusters, 2, replace=False).tolist()
        out = [f"i{k}" for k in rng.integers(60, size=4)] if d % 3 == 0 else []
        left = possible(graph, slots, out)
        for p in range(min(length, len(left))):
            item = left[rng.integers(len(left))]
            good = rng.random() < (0.8 if int(item[1:]) % 2 == 0 else 0.2)
            asked = {"graph": graph.version, "exclude": out} if p == 0 else {}
            rows.append(
                row(
                    decision_id=f"d{d:05}",
                    timestamp=NOON_US + d,
                    position=p,
                    item=item,
                    propensity=1.0 / len(left),
                    reward=float(good),
                    user=f"{d % 50:032x}",
                    slots=slots,
                    weights=[0.75, 0.25],
                    **{"candidates": None, "distribution": None, "graph": None, "exclude": None} | asked,
                )
            )
            left.remove(item)
    return rows


def rebuilt(graphs: list[Graph], rows: list[Row]) -> list[set[str]]:
    """Candidates of each row, by their definition."""
    by_version = {one.version: one for one in graphs}
    found, left = [], list[str]()
    for one in rows:
        if one.position == 0:
            left = possible(by_version[one.graph or ""], one.slots, one.exclude or [])
        found.append(set(left))
        left = [item for item in left if item != one.item]
    return found
