"""Policy files: bytes in, a checked policy out, and back."""

from __future__ import annotations

import msgspec

from bandits.ad_load import document
from bandits.ad_load.models import LinearModel, Tree, TreeModel
from bandits.ad_load.policy import MAX_FEATURES, AdLoadPolicy, Estimate, Feature, check_features, check_loads
from bandits.ad_load.rules import PolicyError, indices, rows, vector

__all__ = ["AdLoadPolicy", "Estimate", "Feature", "LinearModel", "PolicyError", "Tree", "TreeModel", "dump", "load"]


def load(data: bytes) -> AdLoadPolicy:
    """Read a policy file. Raises PolicyError at the first fault."""
    given = document.decode(data)
    loads, features = tuple(given.loads), tuple(Feature(one.name, one.mean, one.scale) for one in given.features)
    check_loads(loads)
    check_features(features)
    n_loads, n_features = len(loads), len(features)
    model: LinearModel | TreeModel
    if isinstance(given.model, document.LinearDocument):
        weights = rows("model.weights", given.model.weights, (n_loads, n_features))
        model = LinearModel(weights, vector("model.bias", given.model.bias, n_loads))
    else:
        trees = tuple(_tree(f"model.trees[{i}]", tree, n_loads) for i, tree in enumerate(given.model.trees))
        model = TreeModel(trees, vector("model.bias", given.model.bias, n_loads))
    policy = AdLoadPolicy(
        loads,
        features,
        model,
        given.temperature,
        given.floor,
        vector("logging", given.logging, n_loads),
        given.window,
        Estimate(**msgspec.structs.asdict(given.estimate)),
        given.objective,
        given.reward,
    )
    object.__setattr__(policy, "_source", bytes(data))
    return policy


def dump(policy: AdLoadPolicy) -> bytes:
    """The bytes of a policy file; `load` gives the policy back."""
    return policy.to_bytes()


def _tree(path: str, given: document.TreeDocument, n_loads: int) -> Tree:
    m = len(given.feature)
    return Tree(
        indices(f"{path}.feature", given.feature, m, -1, MAX_FEATURES),
        vector(f"{path}.threshold", given.threshold, m),
        indices(f"{path}.left", given.left, m, -1, m),
        indices(f"{path}.right", given.right, m, -1, m),
        rows(f"{path}.value", given.value, (m, n_loads)),
    )
