"""Learned tables as one surface scores them: a graph's edges baked ahead, or any (arm, slot) looked up.

A table reads the summed cells and is moved on the thread that scores, between requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bandits.cells import CellTable
from bandits.context import Context
from bandits.graph import Graph
from bandits.kernels.bake import bake_changed, bake_unseen, gather_cells
from bandits.kernels.index import Index, make_index, rehash
from bandits.names import WEIGHT_UNIT
from bandits.scoring import NO_ITEMS, GraphScorer, Variant, score_dense

CENTRE_MOVES = 0.02
"""Share by which the mean reward moves before edges are baked anew."""
CENTRE_EVERY_S = 60.0

_NO_PRIOR_MEAN = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Learning:
    """How a surface turns sums into scores.

    scale   rewards are divided by it when folded; scores come multiplied by it, in reward units
    """

    variant: Variant = "centred"
    alpha: float = 0.3
    prior: float = 1.0
    scale: float = 1.0


@dataclass(slots=True)
class Scored:
    """A candidates: place in the caller's list or item of the graph, and what is believed of each.

    item  int32 (A,);  mean, score  float32 (A,), in units of the scaled reward
    """

    item: npt.NDArray[np.int32]
    mean: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]


class HashedTable:
    """Every (arm, slot) exists: candidates are given, slots are hashed features."""

    def __init__(self, table: int, totals: int, learning: Learning) -> None:
        self.table, self.totals, self.learning = table, totals, learning
        self.centre = 0.0

    def refresh(
        self, cells: CellTable, rows: npt.NDArray[np.int32] | None, totals: tuple[int, int], now_s: float
    ) -> None:
        """Follow the mean reward; cells are read when they are needed."""
        self.centre = _mean(totals) if self.learning.variant == "centred" else 0.0

    def upper_bounds(self, cells: CellTable, arm: npt.NDArray[np.uint64], context: Context) -> Scored:
        """Score given arms, uint64 (A,), in their order."""
        learning = self.learning
        theta, inverse = np.empty((2, arm.size, context.slots.size), np.float32)
        gather_cells(
            cells.arrays, np.uint64(self.table), arm, context.slots, learning.prior, self.centre, theta, inverse
        )
        mean, _, score = score_dense(
            context.weights,
            theta,
            inverse,
            np.ones(theta.shape, np.bool_),
            prior=learning.prior,
            variant=learning.variant,
            centre=self.centre,
            alpha=learning.alpha,
        )
        return Scored(np.arange(arm.size, dtype=np.int32), mean, score)


class GraphTable:
    """The edges of one graph, baked to (theta, 1 / precision) and kept so as cells change."""

    def __init__(self, graph: Graph, table: int, totals: int, learning: Learning) -> None:
        self.graph, self.table, self.totals, self.learning = graph, table, totals, learning
        self.centre = 0.0
        self.without_edge = 0
        self.edge = np.empty((graph.n_edges, 2), np.float32)
        prior = graph.prior
        self._prior_mean = _NO_PRIOR_MEAN if prior is None else (prior / learning.scale).astype(np.float32)
        self._arms = _arm_index(graph.arm)
        self._baked_s = float("-inf")
        longest = np.sort(np.diff(graph.row_start))[-graph.top_k :]
        self._scorer = GraphScorer(len(graph.items), int(longest.sum()), learning.variant)

    def refresh(
        self, cells: CellTable, rows: npt.NDArray[np.int32] | None, totals: tuple[int, int], now_s: float
    ) -> None:
        """Bake the edges of changed chunk rows; all of them where the mean reward has moved, or a minute passed.

        rows   None: chunks may have left, so every edge is baked anew
        """
        mean = _mean(totals) if self.learning.variant == "centred" else 0.0
        moved = abs(mean - self.centre) > CENTRE_MOVES * abs(self.centre)
        late = mean != self.centre and now_s - self._baked_s > CENTRE_EVERY_S
        if rows is None or moved or late or self._baked_s == float("-inf"):
            self.centre, self._baked_s = mean, now_s
            bake_unseen(self._prior_mean, self.learning.prior, mean, self.edge)
            rows = np.arange(cells.n_chunks, dtype=np.int32)
        graph = self.graph
        self.without_edge = bake_changed(
            cells.arrays,
            rows,
            np.uint64(self.table),
            self._arms,
            graph.row_start,
            graph.row_item,
            self._prior_mean,
            self.learning.prior,
            self.centre,
            self.edge,
        )

    def upper_bounds(self, context: Context, excluded: npt.NDArray[np.int32] = NO_ITEMS) -> Scored:
        """Score the candidates that the graph gives for a context; views, good until the next call."""
        graph = self.graph
        item, mean, _, score = self._scorer.upper_bounds(
            context.slots,
            context.weights,
            graph.row_start,
            graph.row_item,
            self.edge,
            excluded,
            self.centre,
            self.learning.alpha,
        )
        return Scored(item, mean, score)

    def upper_bounds_of(self, item: npt.NDArray[np.int32], context: Context) -> Scored:
        """Score given items of the graph, -1 for one it does not have, through their edges."""
        edge = self.graph.edges_of(item, context.slots)
        mask = edge >= 0
        pair = self.edge[np.where(mask, edge, 0)] if self.edge.size else np.zeros((*edge.shape, 2), np.float32)
        mean, _, score = score_dense(
            context.weights,
            np.ascontiguousarray(pair[..., 0]),
            np.ascontiguousarray(pair[..., 1]),
            mask,
            prior=self.learning.prior,
            variant=self.learning.variant,
            centre=self.centre,
            alpha=self.learning.alpha,
        )
        return Scored(np.arange(item.size, dtype=np.int32), mean, score)


def _mean(totals: tuple[int, int]) -> float:
    impressions, rewards = totals
    return rewards * WEIGHT_UNIT / impressions if impressions else 0.0


def _arm_index(arm: npt.NDArray[np.uint64]) -> Index:
    index = make_index(max(1, arm.size))
    index.rows[: arm.size, 0] = arm
    index.used[0] = arm.size
    rehash(index)
    return index
