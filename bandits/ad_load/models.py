"""Models that score ad loads from standardised features: linear, or a sum of decision trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bandits.ad_load.rules import PolicyError, indices, rows, vector
from bandits.arrays import F64, I64

LEAF = -1
MAX_TREES = 1024
MAX_DEPTH = 64
BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """score = weights @ z + bias.

    weights  float64 (L, F)
    bias     float64 (L,)
    """

    weights: F64
    bias: F64

    def scores(self, z: F64) -> F64:
        """Score of every load, float64 (n, L), from standardised features float64 (n, F) without NaN.

        A row's scores are the same bits beside any other rows, so that evaluation finds what was served.
        """
        score = np.tile(self.bias, (len(z), 1))
        # One matrix product would round a row differently in batches of different sizes.
        for feature, weight in zip(z.T, self.weights.T, strict=True):
            score += feature[:, None] * weight
        return score

    def check(self, n_loads: int, n_features: int) -> None:
        """Raise PolicyError, with its place in the file, unless shapes fit and numbers are finite."""
        rows("model.weights", self.weights, (n_loads, n_features))
        vector("model.bias", self.bias, n_loads)


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A decision tree of m nodes, the root first and every child after its parent.

    feature    int64   (m,)    feature that an inner node asks for, -1 at a leaf
    threshold  float64 (m,)    go left where the standardised feature is <= it; not read at a leaf
    left       int64   (m,)    node, -1 at a leaf
    right      int64   (m,)    node, -1 at a leaf
    value      float64 (m, L)  what a leaf adds to the scores; not read at inner nodes
    """

    feature: I64
    threshold: F64
    left: I64
    right: I64
    value: F64

    def check(self, path: str, n_loads: int, n_features: int) -> None:
        """Raise PolicyError unless the nodes form one binary tree of depth <= 64."""
        m = len(self.feature)
        if m == 0:
            raise PolicyError(f"{path}.feature", "must have at least one node")
        indices(f"{path}.feature", self.feature, m, LEAF, n_features)
        vector(f"{path}.threshold", self.threshold, m)
        sides = {"left": self.left, "right": self.right}
        children = {name: indices(f"{path}.{name}", side, m, LEAF, m).tolist() for name, side in sides.items()}
        rows(f"{path}.value", self.value, (m, n_loads))
        depth: list[int | None] = [0] + [None] * (m - 1)
        for node, feature in enumerate(self.feature.tolist()):
            above = depth[node]
            if above is None:
                raise PolicyError(f"{path}.feature[{node}]", "must be the child of an earlier node, got no parent")
            for side, child in children.items():
                _child(f"{path}.{side}[{node}]", feature, node, child[node], above, depth)


@dataclass(frozen=True, eq=False)
class TreeModel:
    """score = bias + the values of the leaves that z reaches, one leaf in each tree.

    trees  (T,)
    bias   float64 (L,)
    """

    trees: tuple[Tree, ...]
    bias: F64

    @cached_property
    def _forest(self) -> _Forest:
        return _Forest(self.trees)

    def scores(self, z: F64) -> F64:
        """Score of every load, float64 (n, L), from standardised features float64 (n, F) without NaN."""
        total = np.empty((len(z), len(self.bias)))
        for start in range(0, len(z), BLOCK):
            total[start : start + BLOCK] = self._forest.sums(z[start : start + BLOCK])
        return total + self.bias

    def check(self, n_loads: int, n_features: int) -> None:
        """Raise PolicyError, with its place in the file, unless there are 1 to 1,024 sound trees."""
        if not 1 <= len(self.trees) <= MAX_TREES:
            raise PolicyError("model.trees", f"must be 1 to {MAX_TREES} trees, got {len(self.trees)}")
        vector("model.bias", self.bias, n_loads)
        for i, tree in enumerate(self.trees):
            tree.check(f"model.trees[{i}]", n_loads, n_features)


class _Forest:
    """All trees in one set of flat arrays, so that a row walks down all of them at once; a leaf is its own child."""

    def __init__(self, trees: tuple[Tree, ...]) -> None:
        sizes = [len(tree.feature) for tree in trees]
        self.roots = np.cumsum([0, *sizes[:-1]])
        feature = np.concatenate([tree.feature for tree in trees])
        self.inner = feature != LEAF
        self.feature = np.where(self.inner, feature, 0)
        self.threshold = np.concatenate([tree.threshold for tree in trees])
        self.value = np.concatenate([tree.value for tree in trees])
        root, itself = np.repeat(self.roots, sizes), np.arange(len(feature))
        self.left = np.where(self.inner, root + np.concatenate([tree.left for tree in trees]), itself)
        self.right = np.where(self.inner, root + np.concatenate([tree.right for tree in trees]), itself)

    def sums(self, z: F64) -> F64:
        """Sum of the leaves' values, float64 (n, L)."""
        node = np.broadcast_to(self.roots, (len(z), len(self.roots)))
        row = np.arange(len(z))[:, None]
        for _ in range(MAX_DEPTH):
            if not self.inner[node].any():
                break
            at_left = z[row, self.feature[node]] <= self.threshold[node]
            node = np.where(at_left, self.left[node], self.right[node])
        total: F64 = self.value[node].sum(axis=1)
        return total


def _child(path: str, feature: int, node: int, child: int, above: int, depth: list[int | None]) -> None:
    """Give the child its depth. Raises PolicyError."""
    if feature == LEAF:
        if child != LEAF:
            raise PolicyError(path, f"must be -1 at a leaf, got {child}")
        return
    if child <= node:
        raise PolicyError(path, f"must be a later node than its parent {node}, got {child}")
    if depth[child] is not None:
        raise PolicyError(path, f"must be a node without another parent, got {child}")
    if above == MAX_DEPTH:
        raise PolicyError(path, f"must lie at depth <= {MAX_DEPTH}, got {above + 1}")
    depth[child] = above + 1
