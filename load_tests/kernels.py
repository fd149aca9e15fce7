"""The scoring kernel beside the least it could do: reading the same rows once."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
from numba import njit

from bandits.arrays import F32, I32, I64, U32
from bandits.sampling import Sampler
from bandits.scoring import NO_ITEMS, GraphScorer


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def stream_rows(slots: U32, row_start: I64, row_item: I32, edge: F32) -> float:
    """Sum of both columns and of the items of the rows: what any scorer has to read."""
    items = 0
    theta = np.float32(0.0)
    spread = np.float32(0.0)
    for k in range(slots.size):
        slot = np.int64(slots[k])
        for e in range(row_start[slot], row_start[slot + 1]):
            items += row_item[e]
            theta += edge[e, 0]
            spread += edge[e, 1]
    return float(items + theta + spread)


def measure(
    n_items: int = 200_000, n_rows: int = 8, row_size: int = 640, n_sets: int = 50, n: int = 10, rounds: int = 40
) -> dict[str, float]:
    """Median time of a scored Plackett-Luce top n and of streaming its rows, interleaved, in microseconds.

    Every round times each of n_sets different sets of rows once per contestant, back to back.
    """
    rng = np.random.default_rng(7)
    n_clusters = n_rows * n_sets
    rows = [np.sort(rng.choice(n_items, row_size, replace=False)) for _ in range(n_clusters)]
    row_item = np.concatenate(rows).astype(np.int32)
    row_start = np.arange(0, (n_clusters + 1) * row_size, row_size)
    edge = np.empty((row_item.size, 2), np.float32)
    edge[:, 0] = rng.normal(0.0, 0.1, row_item.size)
    edge[:, 1] = rng.uniform(0.01, 1.0, row_item.size)
    contexts = rng.permutation(n_clusters).astype(np.uint32).reshape(n_sets, n_rows)
    contexts.sort(axis=1)
    weights = rng.dirichlet(np.ones(n_rows), n_sets).astype(np.float32)
    uniform = rng.random((rounds, n_sets, n, 2))
    scorer = GraphScorer(n_items, n_rows * row_size, "centred")
    sampler = Sampler("plackett_luce")

    def score(i: int, draw: int) -> None:
        score = scorer.upper_bounds(contexts[i], weights[i], row_start, row_item, edge, NO_ITEMS, 0.1, 1.0)[3]
        sampler.draw(score, n, uniform[draw, i])

    def stream(i: int, draw: int) -> None:
        stream_rows(contexts[i], row_start, row_item, edge)

    score_us: list[float] = []
    stream_us: list[float] = []
    for draw in range(rounds):
        for i in range(n_sets):
            for run, times in ((score, score_us), (stream, stream_us)):
                begin = perf_counter()
                run(i, draw)
                times.append((perf_counter() - begin) * 1e6)
    # The first round compiles and warms the caches.
    result = {"score_us": median(score_us[n_sets:]), "stream_us": median(stream_us[n_sets:])}
    return result | {"ratio": result["score_us"] / result["stream_us"]}


if __name__ == "__main__":
    print(measure())
