"""Sums of small trees that predict the doubly robust reward of every load: policies that see interactions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.tree import DecisionTreeRegressor

from bandits.ad_load import Tree, TreeModel
from bandits.arrays import F32, F64
from offline_eval.learning.study import Task

TREES = 60
DEPTH = 3
RATE = 0.1
SHARE = 0.5
"""Of the rows that each tree is fitted on."""
LEAST_LEAF = 50
LEAF_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class Boosted:
    """score = bias + RATE * sum of the trees' predictions; scikit-learn's trees, each of all loads at once.

    bias  float64 (L,)
    """

    trees: list[DecisionTreeRegressor]
    bias: F64

    def predict(self, z: F64) -> F64:
        """Scores, float64 (n, L)."""
        return self.bias + RATE * sum(_predict(tree, z) for tree in self.trees)

    def export(self) -> TreeModel:
        """The same function as a policy file has it."""
        return TreeModel(tuple(_export(tree) for tree in self.trees), self.bias)


def fit_trees(task: Task, seed: int) -> Boosted:
    """Gradient boosting of the squared error (Friedman 2001, 2002: half of the rows a tree), drawn with the seed.

    Targets are the loads' doubly robust rewards less the reward that the model expects of an even choice: what differs
    between users only, and not between loads, is noise to a policy. An unknown reward, of a load that a row does not
    allow, is the reward model's.
    """
    even = (task.q * task.allowed).sum(axis=1, keepdims=True) / task.allowed.sum(axis=1, keepdims=True)
    target = task.pseudo_rewards - even
    z = task.z.astype(np.float32)
    rng = np.random.default_rng(seed)
    bias = target.mean(axis=0)
    residual = target - bias
    leaf = max(LEAST_LEAF, int(LEAF_SHARE * len(z)))
    trees = []
    for _ in range(TREES if z.shape[1] else 1):
        rows = rng.choice(len(z), max(1, int(SHARE * len(z))), replace=False)
        tree = DecisionTreeRegressor(max_depth=DEPTH, min_samples_leaf=leaf, random_state=0)
        tree.fit(z[rows] if z.shape[1] else np.zeros((len(rows), 1)), residual[rows])
        trees.append(tree)
        residual -= RATE * _predict(tree, z)
    return Boosted(trees, bias)


def _predict(tree: DecisionTreeRegressor, z: F64 | F32) -> F64:
    found: F64 = tree.predict(z if z.shape[1] else np.zeros((len(z), 1))).reshape(len(z), -1)
    return found


def _export(fitted: DecisionTreeRegressor) -> Tree:
    tree = fitted.tree_
    inner = tree.children_left >= 0
    return Tree(
        np.where(inner, tree.feature, -1).astype(np.int64),
        np.where(inner, _as_float64(tree.threshold), 0.0),
        np.where(inner, tree.children_left, -1).astype(np.int64),
        np.where(inner, tree.children_right, -1).astype(np.int64),
        RATE * tree.value[:, :, 0],
    )


def _as_float64(threshold: F64) -> F64:
    """The largest float64 that goes left where scikit-learn asks float32(z) <= threshold."""
    below = threshold.astype(np.float32)
    below = np.where(below > threshold, np.nextafter(below, np.float32(-np.inf)), below)
    above = np.nextafter(below, np.float32(np.inf))
    middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
    exact: F64 = np.where(middle.astype(np.float32) == below, middle, np.nextafter(middle, -np.inf))
    return exact
