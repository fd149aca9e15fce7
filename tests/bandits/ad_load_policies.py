"""Ad-load policies for tests: one small file as JSON, and random sound ones."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bandits.ad_load import AdLoadPolicy, Estimate, Feature, LinearModel, Tree, TreeModel

WINDOW = ("2026-01-01T00:00:00Z", "2026-01-31T23:59:59.999999Z")
ESTIMATE = Estimate("dr", 0.5, (0.25, 0.75), 812.5, 1000)

FILE: dict[str, Any] = {
    "version": 1,
    "kind": "ad_load",
    "loads": [0, 2],
    "features": [{"name": "hour", "mean": 12.0, "scale": 4.0}, {"name": "age", "mean": 0.5, "scale": 0.25}],
    "model": {"type": "linear", "weights": [[0.0, 0.0], [1.0, -2.0]], "bias": [0.0, 0.5]},
    "temperature": 2.0,
    "floor": 0.125,
    "logging": [0.75, 0.25],
    "window": list(WINDOW),
    "estimate": {"estimator": "dr", "value": 0.5, "interval": [0.25, 0.75], "ess": 812.5, "n": 1000},
    "reward": {"beta": 0.7, "kind": "z-scores"},
}
TREE = {
    "type": "tree",
    "bias": [0.0, 0.5],
    "trees": [
        {
            "feature": [0, -1, 1, -1, -1],
            "threshold": [0.5, 0.0, -1.0, 0.0, 0.0],
            "left": [1, -1, 3, -1, -1],
            "right": [2, -1, 4, -1, -1],
            "value": [[0, 0], [1, 0], [0, 0], [0, 2], [0, 3]],
        }
    ],
}
TREE_FILE = FILE | {"model": TREE}


def changed(file: dict[str, Any], place: tuple[str | int, ...], value: object) -> bytes:
    """The file's JSON with the value at one place put in its stead."""
    copied: Any = copy.deepcopy(file)
    holder = copied
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return json.dumps(copied).encode()


def without(file: dict[str, Any], place: tuple[str, ...]) -> bytes:
    """The file's JSON without one field."""
    copied: Any = copy.deepcopy(file)
    holder = copied
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    return json.dumps(copied).encode()


def random_tree(rng: np.random.Generator, n_features: int, n_loads: int, n_splits: int) -> Tree:
    """Splits a leaf chosen at random, again and again; children come after their parents."""
    feature, left, right = [-1], [-1], [-1]
    for _ in range(n_splits if n_features else 0):
        leaf = int(rng.choice([i for i, one in enumerate(feature) if one < 0]))
        feature[leaf], left[leaf], right[leaf] = int(rng.integers(n_features)), len(feature), len(feature) + 1
        feature, left, right = feature + [-1, -1], left + [-1, -1], right + [-1, -1]
    m = len(feature)
    arrays = [np.array(one, np.int64) for one in (feature, left, right)]
    return Tree(arrays[0], rng.normal(size=m), arrays[1], arrays[2], rng.normal(size=(m, n_loads)))


@st.composite
def policies(draw: st.DrawFn) -> AdLoadPolicy:
    """Linear and tree policies of 1 to 4 loads and up to 3 features."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_loads, n_features = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    logging = rng.dirichlet(np.full(n_loads, 2.0))
    model: LinearModel | TreeModel
    if draw(st.booleans()):
        model = LinearModel(rng.normal(size=(n_loads, n_features)), rng.normal(size=n_loads))
    else:
        trees = tuple(random_tree(rng, n_features, n_loads, k) for k in range(draw(st.integers(1, 4))))
        model = TreeModel(trees, rng.normal(size=n_loads))
    return AdLoadPolicy(
        loads=tuple(sorted(rng.choice(9, n_loads, replace=False).tolist())),
        features=tuple(Feature(f"f{i}", rng.normal(), rng.uniform(0.5, 2)) for i in range(n_features)),
        model=model,
        temperature=draw(st.floats(0.01, 10)),
        floor=float(rng.uniform(0, logging.min())) * draw(st.sampled_from([0.0, 1.0])),
        logging=logging,
        window=WINDOW,
        estimate=ESTIMATE,
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[AdLoadPolicy, np.ndarray, np.ndarray, float]:
    """A policy, raw features with gaps, allowed loads (at least one in each row) and the surface's floor."""
    policy = draw(policies())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, n_loads = draw(st.integers(0, 5)), len(policy.loads)
    x = rng.normal(size=(n, len(policy.features)))
    x[rng.random(x.shape) < 0.2] = np.nan
    allowed = rng.random((n, n_loads)) < 0.7
    allowed[np.arange(n), rng.integers(n_loads, size=n)] = True
    return policy, x, allowed, draw(st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.4]))
