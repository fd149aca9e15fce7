"""Scores of candidates: posterior mean, variance and upper confidence bound of Diag-LinUCB.

Source: Yi et al., "Online Matching", RecSys 2023, arXiv 2307.15893: mean = sum w b / d, variance = sum w**2 / d and
mean + alpha * sqrt(variance), over the slots of the context that have an edge to the item. Three variants:

published   as above
centred     ours: theta = (b - centre * sum of w) / d and mean = centre + sum w theta, so that an item does not
            score higher merely because it has more edges in the context
weights     ours: the published mean divided by the sum of the active weights, the variance by its square; where that
            sum is 0 both stay undivided
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bandits.arrays import F32, I32, I64, U32, Bool
from bandits.kernels.score import NO_SUCH_ROW, WINDOW, bake_edges, score_dense_cells, score_rows

Variant = Literal["published", "centred", "weights"]

NO_ITEMS: I32 = np.empty(0, np.int32)
_NO_PRIOR_MEAN: F32 = np.empty(0, np.float32)


def bake(sums: I64, prior: float, centre: float, prior_mean: F32 | None, out: F32) -> F32:
    """Turn the sums of E edges into what scoring reads; returns out.

    sums        int64   (E, 3)  weight_sq_sum, weight_sum, reward_sum; units 2**-30, 2**-15, 2**-30
    prior       precision of an unseen edge, > 0 (lambda)
    centre      mean reward that theta is measured from; 0.0 unless the variant is "centred"
    prior_mean  float32 (E,)    expected theta of each unseen edge in reward units (ours), or None: the centre
    out         float32 (E, 2)  theta, 1 / precision; precision = prior + sum of w**2

    Raises ValueError for shapes that do not agree or a prior that is not positive.
    """
    if not 0.0 < prior < np.inf:
        raise ValueError(f"prior must be a finite number > 0, got {prior}")
    if sums.ndim != 2 or sums.shape[1] != 3 or out.shape != (sums.shape[0], 2):
        raise ValueError(f"sums must be (E, 3) and out (E, 2), got {sums.shape} and {out.shape}")
    if prior_mean is not None and prior_mean.shape != (sums.shape[0],):
        raise ValueError(f"prior_mean must be ({sums.shape[0]},), got {prior_mean.shape}")
    bake_edges(sums, float(prior), float(centre), _NO_PRIOR_MEAN if prior_mean is None else prior_mean, out)
    return out


@dataclass(slots=True)
class GraphScorer:
    """Scores one request at a time on a graph of clusters and items; owns its scratch, so one a thread.

    n_items     items of the graph
    max_edges   most edges that the rows of one context may have together

    All results are views into the scorer, good until its next call.
    """

    n_items: int
    max_edges: int
    variant: Variant = "published"
    _normalise: bool = field(init=False, repr=False)
    _cursor: I64 = field(init=False, repr=False)
    _window: F32 = field(init=False, repr=False)
    _weight_sum: F32 = field(init=False, repr=False)
    _item: I32 = field(init=False, repr=False)
    _value: F32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._normalise = divides_by_weights(self.variant)
        self._cursor = np.empty(64, np.int64)
        self._window = np.zeros((WINDOW, 2), np.float32)
        self._weight_sum = np.zeros(WINDOW if self._normalise else 0, np.float32)
        self._item = np.empty(self.max_edges + 1, np.int32)
        self._value = np.empty((3, self.max_edges + 1), np.float32)

    def score(
        self,
        slots: U32,
        weights: F32,
        row_start: I64,
        row_item: I32,
        edge: F32,
        excluded: I32 = NO_ITEMS,
        centre: float = 0.0,
    ) -> tuple[I32, F32, F32]:
        """Items of the slots' rows, each once, with mean and variance; see upper_bounds."""
        return self.upper_bounds(slots, weights, row_start, row_item, edge, excluded, centre)[:3]

    def upper_bounds(
        self,
        slots: U32,
        weights: F32,
        row_start: I64,
        row_item: I32,
        edge: F32,
        excluded: I32 = NO_ITEMS,
        centre: float = 0.0,
        alpha: float = 0.0,
    ) -> tuple[I32, F32, F32, F32]:
        """Items of the slots' rows, each once, with mean, variance and mean + alpha * sqrt(variance).

        slots      uint32  (K,)     rows, unique
        weights    float32 (K,)
        row_start  int64   (C + 1,) first edge of each row
        row_item   int32   (E,)     ascending within a row, in [0, n_items): not checked here
        edge       float32 (E, 2)   from bake
        excluded   int32   (X,)     ascending items to leave out
        Returns int32 (A,) items and three float32 (A,) arrays, in an order fixed by the arguments.

        Raises ValueError when a slot has no row, or the rows hold more than max_edges edges.
        """
        if 2 * len(slots) > len(self._cursor):
            self._cursor = np.empty(2 * len(slots), np.int64)
        value = self._value
        n = score_rows(
            slots,
            weights,
            excluded,
            row_start,
            row_item,
            edge,
            self.n_items,
            float(centre),
            float(alpha),
            self._normalise,
            self._cursor,
            self._window,
            self._weight_sum,
            self._item,
            value,
        )
        if n < 0:
            raise ValueError(self._refusal(n, slots, row_start))
        return self._item[:n], value[0, :n], value[1, :n], value[2, :n]

    def _refusal(self, code: int, slots: U32, row_start: I64) -> str:
        if code == NO_SUCH_ROW:
            return f"slots must be below {len(row_start) - 1}, got {int(slots.max())}"
        n_edges = int((row_start[slots.astype(np.int64) + 1] - row_start[slots]).sum())
        return f"rows may have {self.max_edges} edges together, got {n_edges}"


def score_dense(
    weights: F32,
    theta: F32,
    inverse_precision: F32,
    mask: Bool,
    *,
    prior: float,
    variant: Variant = "published",
    centre: float = 0.0,
    alpha: float = 0.0,
) -> tuple[F32, F32, F32]:
    """Mean, variance and upper bound, float32 (A,) each, of A explicit candidates.

    weights            float32 (K,)
    theta              float32 (A, K)  as bake gives it
    inverse_precision  float32 (A, K)
    mask               bool    (A, K)  cells that exist; the sums run over them
    prior              precision of an unseen cell

    An item without any existing cell scores as if all of them were unseen (ours): the centre, and the sum of
    w**2 / prior. Raises ValueError for shapes that do not agree.
    """
    shape = (theta.shape[0], weights.size)
    for name, array in (("theta", theta), ("inverse_precision", inverse_precision), ("mask", mask)):
        if array.shape != shape:
            raise ValueError(f"{name} must be {shape}, got {array.shape}")
    mean, variance, score = np.empty((3, shape[0]), np.float32)
    normalise = divides_by_weights(variant)
    score_dense_cells(
        weights,
        theta,
        inverse_precision,
        mask,
        1.0 / prior,
        float(centre),
        float(alpha),
        normalise,
        mean,
        variance,
        score,
    )
    return mean, variance, score


def warm() -> None:
    """Compile every kernel for the types that a server uses."""
    sums = np.zeros((1, 3), np.int64)
    edge = bake(sums, 1.0, 0.0, None, np.empty((1, 2), np.float32))
    slots, weights = np.zeros(1, np.uint32), np.ones(1, np.float32)
    scorer = GraphScorer(n_items=1, max_edges=1)
    scorer.upper_bounds(slots, weights, np.array([0, 1]), np.zeros(1, np.int32), edge)
    cells = np.zeros((1, 1), np.float32)
    score_dense(weights, cells, cells, np.ones((1, 1), np.bool_), prior=1.0)


def divides_by_weights(variant: Variant) -> bool:
    """Whether the variant divides by the active weights; ValueError when it is none of the three."""
    if variant not in ("published", "centred", "weights"):
        raise ValueError(f'variant must be "published", "centred" or "weights", got {variant!r}')
    return variant == "weights"
