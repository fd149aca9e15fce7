"""Contexts: what is known about a request, as a few weighted slots."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F32, F64, I32, U32
from bandits.kernels.context import top_clusters
from bandits.names import MAX_WEIGHT, WEIGHT_UNIT, feature_slot

if TYPE_CHECKING:
    from bandits.graph import Graph

MAX_FEATURES = 256
MAX_COMPONENTS = 128
CONSTANT_NAME = "constant"

Embedding = Sequence[float] | NDArray[np.floating]


class ContextError(ValueError):
    """What is wrong with a context, and where: `path` is such as `embedding[3]` or `features["country=IN"]`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """K weighted slots; scoring and learning both use these weights.

    slots   uint32 (K,)  cluster, hashed feature or idle bin; unique, ascending
    quanta  int32  (K,)  weight in units of 2**-15, |weight| <= 16, none is zero
    """

    slots: U32
    quanta: I32

    @property
    def weights(self) -> F32:
        """float32 (K,), exact: a quantum has at most 20 bits."""
        return self.quanta.astype(np.float32) * np.float32(WEIGHT_UNIT)


# Writable on purpose: numba compiles every kernel once more for read-only arrays.
CONSTANT = Context(np.array([feature_slot(CONSTANT_NAME)], np.uint32), np.array([round(1.0 / WEIGHT_UNIT)], np.int32))
"""The context of a request that says nothing: one slot, weight 1."""


def from_embedding(embedding: Embedding, graph: Graph) -> Context:
    """The embedding's top-K clusters, weighted by softmax(<embedding, centroid> / tau) over these K.

    embedding   (d,) finite float32 values, a list or an array
    Weights are rounded once, to 2**-15; those that round to zero are dropped. Ties go to the lowest cluster.

    Raises ContextError at `embedding` (type, dimension) or `embedding[i]` (not finite).

    Source: Yi et al. 2023 (arXiv 2307.15893), sparse context; quantisation ours.
    """
    vector = _vector(embedding)
    centroids = graph.centroids_transposed
    d, n_clusters = centroids.shape
    if len(vector) != d:
        raise ContextError("embedding", f"must have {d} components as the graph's centroids have, got {len(vector)}")
    slots = np.empty(graph.top_k, np.uint32)
    quanta = np.empty(graph.top_k, np.int32)
    score = np.empty(n_clusters)
    count: int = top_clusters(vector, centroids, graph.tau, score, np.empty(graph.top_k), slots, quanta)
    if count < 0:
        raise _not_finite(vector, -1 - count)
    return Context(slots[:count], quanta[:count])


def from_features(features: Mapping[str, float], salt: str = "", bits: int = 18) -> Context:
    """Context of named features; see FeatureHasher.features, which keeps hashed names between requests."""
    return FeatureHasher(salt, bits).features(features)


def from_components(embedding: Embedding, salt: str = "", bits: int = 18) -> Context:
    """Context of an embedding without a graph; see FeatureHasher.components."""
    return FeatureHasher(salt, bits).components(embedding)


class FeatureHasher:
    """Maps feature names to slots and remembers the last `capacity` new names. One thread at a time.

    salt, bits   slot = blake2b(salt + name) mod 2**bits

    >>> hasher = FeatureHasher()
    >>> context = hasher.features({"country=IN": 1.0, "age": 0.25})
    >>> [(hasher.name(slot), float(w)) for slot, w in zip(context.slots.tolist(), context.weights)]
    [('age', 0.25), ('country=IN', 1.0)]
    """

    def __init__(self, salt: str = "", bits: int = 18, capacity: int = 65_536) -> None:
        if not 1 <= bits <= 32:
            raise ValueError(f"bits must lie in 1..32, got {bits}")
        if capacity < 1:
            raise ValueError(f"capacity must be >= 1, got {capacity}")
        self.salt = salt
        self.bits = bits
        self.capacity = capacity
        self._slots: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, name: str) -> int:
        """Slot of a name, from memory where it is known. Raises ContextError for a name without UTF-8 form."""
        known = self._slots.get(name)
        return self._remember(name) if known is None else known

    def name(self, slot: int) -> str | None:
        """A remembered name of the slot (the first of several), for display."""
        return self._names.get(slot)

    def features(self, features: Mapping[str, float]) -> Context:
        """A slot for each name, weight = value; zeros are dropped.

        features   at most 256, |value| <= 16
        Names that share a slot: their values add exactly, then the sum is rounded, once; it too must be <= 16.

        Raises ContextError at `features` or `features["NAME"]`.
        """
        if len(features) > MAX_FEATURES:
            raise ContextError("features", f"at most {MAX_FEATURES} features, got {len(features)}")
        totals: dict[int, float] = {}
        shared: dict[int, list[float]] = {}
        for name, value in features.items():
            if not -MAX_WEIGHT <= value <= MAX_WEIGHT:
                raise ContextError(_path(name), f"value must lie in [-16, 16], got {value}")
            slot = self.slot(name)
            if slot in totals:
                shared.setdefault(slot, [totals[slot]]).append(value)
            totals[slot] = value
        for slot, values in shared.items():
            totals[slot] = math.fsum(values)
            if not -MAX_WEIGHT <= totals[slot] <= MAX_WEIGHT:
                names = [name for name in features if self.slot(name) == slot]
                raise ContextError(
                    _path(names[-1]),
                    f"shares a slot with {names[:-1]}; their sum must lie in [-16, 16], got {totals[slot]}",
                )
        quanta = {slot: round(total / WEIGHT_UNIT) for slot, total in totals.items()}
        slots = sorted(slot for slot, q in quanta.items() if q)
        return Context(np.array(slots, np.uint32), np.array([quanta[slot] for slot in slots], np.int32))

    def components(self, embedding: Embedding) -> Context:
        """Context of an embedding where there is no graph: component i is the feature `embedding[i]`.

        embedding   at most 128 components, |value| <= 16

        Raises ContextError at `embedding` or `embedding[i]`.
        """
        vector = _vector(embedding)
        if len(vector) > MAX_COMPONENTS:
            raise ContextError("embedding", f"at most {MAX_COMPONENTS} components without a graph, got {len(vector)}")
        outside = np.flatnonzero(~(np.abs(vector) <= MAX_WEIGHT))
        if len(outside):
            i = outside[0]
            raise ContextError(f"embedding[{i}]", f"value must lie in [-16, 16] without a graph, got {vector[i]}")
        return self.features({f"embedding[{i}]": value for i, value in enumerate(vector.tolist())})

    def _remember(self, name: str) -> int:
        try:
            slot = feature_slot(name, self.salt, self.bits)
        except UnicodeEncodeError:
            raise ContextError(_path(name), "name must be valid Unicode text, without lone surrogates") from None
        if len(self._slots) >= self.capacity:
            oldest = next(iter(self._slots))
            gone = self._slots.pop(oldest)
            if self._names.get(gone) == oldest:
                del self._names[gone]
        self._slots[name] = slot
        self._names.setdefault(slot, name)
        return slot


def _path(name: str) -> str:
    return f"features[{json.dumps(name, ensure_ascii=not name.isprintable())}]"


def _vector(embedding: Embedding) -> F64:
    try:
        array = np.asarray(embedding)
    except ValueError:
        raise ContextError("embedding", "must be a flat list of numbers, got nested lists of unequal lengths") from None
    if array.ndim != 1 or (array.dtype.kind not in "fiu"):
        raise ContextError("embedding", f"must be a flat list of numbers, got {array.dtype} of shape {array.shape}")
    return array.astype(np.float64, order="C")


def _not_finite(vector: F64, i: int) -> ContextError:
    return ContextError(f"embedding[{i}]", f"must be finite and within float32, got {vector[i]}")
