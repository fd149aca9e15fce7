"""A world's users as the contexts of a float64 learner, made as the service makes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandits.context import from_embedding, from_features
from bandits.names import feature_slot
from bandits.simulation.world import World

Slots = NDArray[np.intp]
Floats = NDArray[np.float64]


class Encoder:
    """Contexts and candidates of a world's users, each worked out once.

    n_slots  clusters of the world's graph, or distinct slots of its feature names
    edges    bool (N, n_slots), or None where every cell exists
    """

    def __init__(self, world: World, *, hash_bits: int = 18) -> None:
        self._world = world
        self._bits = hash_bits
        self._known: dict[int, tuple[Slots, Floats, Slots]] = {}
        n_items = len(world.item_ids)
        self.edges: NDArray[np.bool_] | None = None
        self._all = np.arange(n_items)
        if world.graph is not None:
            self.n_slots = world.graph.n_clusters
            self.edges = np.zeros((n_items, self.n_slots), bool)
            cluster = np.repeat(np.arange(self.n_slots), np.diff(world.graph.row_start))
            self.edges[world.graph.row_item, cluster] = True
        elif world.feature_names is not None:
            slots = {feature_slot(name, "", hash_bits) for name in world.feature_names}
            self._dense = {slot: place for place, slot in enumerate(sorted(slots))}
            self.n_slots = len(slots)
        else:
            raise ValueError(f"world {world.name} has neither a graph nor feature names")

    def context(self, user: int, embedding: NDArray[np.float32]) -> tuple[Slots, Floats, Slots]:
        """Slots intp (K,), weights float64 (K,) and candidate items intp (A,), ascending, of one user."""
        known = self._known.get(user)
        if known is None:
            known = self._known[user] = self._encode(embedding)
        return known

    def _encode(self, embedding: NDArray[np.float32]) -> tuple[Slots, Floats, Slots]:
        world = self._world
        if world.graph is not None:
            made = from_embedding(embedding, world.graph)
            slots = made.slots.astype(np.intp)
            return slots, made.weights.astype(np.float64), world.graph.candidates(made.slots).astype(np.intp)
        names = world.feature_names or ()
        features = {name: float(value) for name, value in zip(names, embedding, strict=True) if value}
        made = from_features(features, "", self._bits)
        slots = np.array([self._dense[int(slot)] for slot in made.slots], dtype=np.intp)
        return slots, made.weights.astype(np.float64), self._all
