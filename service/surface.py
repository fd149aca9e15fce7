"""One named surface: its settings, its tables, and what a request's context and candidates are on it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import cast

import numpy as np
import numpy.typing as npt

from bandits.cells import CellTable
from bandits.context import CONSTANT, CONSTANT_NAME, Context, ContextError, FeatureHasher, from_embedding
from bandits.graph import Graph
from bandits.names import arm_key, generation, table_key
from bandits.sampling import Kind, Sampler
from bandits.scoring import Variant
from bandits.tables import GraphTable, HashedTable, Learning, Scored
from service.ad_loads import AdLoads
from service.last_served import LastServed
from service.problems import Problem, invalid
from service.rewards import Generation, Rewards
from service.schemas import Item, RecommendRequest
from service.settings.surface import SurfaceSettings

LEARNER = "diag_linucb"
_ARM_CACHE = 131_072


@dataclass(slots=True)
class Candidates:
    """What a request may be answered with.

    ids      of explicit candidates, or the graph's items, which `scored.item` points into
    explicit whether the request named them
    table    where their cells are; None: nothing is learned from a context
    """

    scored: Scored
    ids: Sequence[str]
    explicit: bool
    context: Context
    table: GraphTable | HashedTable | None


class Surface:
    """Turns requests into scored candidates. Used on the thread that scores."""

    def __init__(self, name: str, settings: SurfaceSettings, max_items: int) -> None:
        self.name, self.settings, self._max_items = name, settings, max_items
        self.rewards = Rewards(settings.rewards)
        self.hasher = FeatureHasher(settings.context.salt, settings.context.hash_bits)
        chosen = settings.sampler
        self.sampler = Sampler(cast(Kind, chosen.kind), chosen.temperature, chosen.m, chosen.epsilon)
        self.arm = lru_cache(maxsize=_ARM_CACHE)(arm_key)
        self.arms: set[int] = set()
        self.last_served = LastServed(settings.arm_ttl_s)
        hashed = self._generation(f"hash/{settings.context.hash_bits}/{settings.context.salt}")
        self.hashed = HashedTable(hashed.table, hashed.totals, self._learning())
        self.graph: GraphTable | None = None
        self.ad_load = AdLoads(settings.ad_load) if settings.policy == "ad_load" else None
        self.generations = [hashed]

    def _learning(self) -> Learning:
        chosen = self.settings.diag_linucb
        return Learning(cast(Variant, chosen.variant), chosen.alpha, chosen.prior, self.rewards.scale)

    def _generation(self, slot_key: str) -> Generation:
        key = generation(slot_key, self.rewards.generation_spec, self.settings.half_life_s)
        table, totals = table_key(self.name, LEARNER, key), table_key(self.name, "totals", key)
        return Generation(self.name, LEARNER, key, table, totals, self.rewards)

    def graph_table(self, graph: Graph) -> tuple[Generation, GraphTable]:
        """A table for a graph, not yet served."""
        found = self._generation(graph.slot_key)
        return found, GraphTable(graph, found.table, found.totals, self._learning())

    def use_graph(self, found: Generation, table: GraphTable) -> None:
        """Serve from a table that graph_table made."""
        self.graph = table
        self.generations = [self.generations[0], found]

    def feature(self, table: int, slot: int) -> str | None:
        """Name of a hashed slot, where a request has brought it."""
        if table != self.hashed.table:
            return None
        return self.hasher.name(slot) or (CONSTANT_NAME if slot == int(CONSTANT.slots[0]) else None)

    @property
    def tables(self) -> list[GraphTable | HashedTable]:
        return [self.hashed] if self.graph is None else [self.hashed, self.graph]

    def served(self, arms: Iterable[int]) -> None:
        """Note the arms of a logged decision, which keeps them from being retired."""
        if self.settings.arm_ttl_s:
            self.last_served.note(arms)

    def mode(self, user: str | None, fallback: bytes, key: bytes) -> str:
        """holdout, explore or exploit: a salted hash of the user, or of the decision without one.

        Where nothing is known that could be exploited, those who would get it explore.
        """
        chosen = self.settings
        if chosen.holdout_share == 0.0 and chosen.explore_share == 1.0:
            return "explore"
        who = fallback if user is None else user.encode()
        digest = blake2b(self.name.encode() + b"/" + who, key=key[:64], digest_size=16).digest()
        first, second = struct.unpack("<QQ", digest)
        if first < chosen.holdout_share * 2.0**64:
            return "holdout"
        if chosen.policy == "uniform" or (self.ad_load is not None and self.ad_load.policy is None):
            return "explore"
        return "explore" if second < chosen.explore_share * 2.0**64 else "exploit"

    def policy(self, mode: str) -> str:
        """Name of the policy that chooses in a mode."""
        return "uniform" if mode == "holdout" else self.settings.policy

    def candidates(self, request: RecommendRequest, cells: CellTable) -> Candidates:
        """Context and scored candidates of a request; Problem says which field is wrong."""
        if request.embedding is not None and request.features is not None:
            raise invalid("features", "give embedding or features, not both")
        if request.exclude is not None:
            _check_ids("exclude", request.exclude)
        try:
            if self.graph is not None and request.features is None and (request.embedding is not None):
                context = from_embedding(request.embedding, self.graph.graph)
                return self._on_graph(request, self.graph, context)
            if request.embedding is not None:
                context = self.hasher.components(request.embedding)
            else:
                context = CONSTANT if request.features is None else self.hasher.features(request.features)
        except ContextError as fault:
            raise invalid(fault.path, fault.message) from fault
        if request.items is None:
            if self.graph is not None and request.features is None:
                raise invalid("embedding", "needed here: candidates come from this surface's graph; or give items")
            raise invalid("items", "needed here: this surface has no graph that could give candidates for this context")
        ids = self._ids(request)
        arm = np.fromiter(map(self.arm, ids), np.uint64, len(ids))
        scored = self.hashed.upper_bounds(cells, arm, context)
        return Candidates(scored, ids, True, context, self.hashed)

    def _on_graph(self, request: RecommendRequest, table: GraphTable, context: Context) -> Candidates:
        index = table.graph.index
        if request.items is None:
            excluded = sorted({index[item] for item in request.exclude or () if item in index})
            scored = table.upper_bounds(context, np.array(excluded, np.int32))
            return Candidates(scored, table.graph.items, False, context, table)
        ids = self._ids(request)
        items = np.fromiter((index.get(item, -1) for item in ids), np.int32, len(ids))
        return Candidates(table.upper_bounds_of(items, context), ids, True, context, table)

    def _ids(self, request: RecommendRequest) -> list[str]:
        """Explicit candidates without the excluded ones."""
        given = request.items or []
        if len(given) > self._max_items:
            raise invalid("items", f"at most {self._max_items} items, got {len(given)}")
        ids = []
        for i, item in enumerate(given):
            if isinstance(item, Item):
                if item.features is not None:
                    raise invalid(f"items[{i}].features", "item features are not available in this version")
                ids.append(item.id)
            else:
                ids.append(item)
        _check_ids("items", ids)
        if len(set(ids)) != len(ids):
            seen: set[str] = set()
            for i, item_id in enumerate(ids):
                if item_id in seen:
                    raise invalid(f"items[{i}]", f"must be unique, got {item_id!r} a second time")
                seen.add(item_id)
        if request.exclude:
            out = frozenset(request.exclude)
            ids = [item_id for item_id in ids if item_id not in out]
        return ids

    def arm_keys(self, found: Candidates, items: npt.NDArray[np.int64]) -> list[int]:
        """Arm keys of chosen candidates."""
        if not found.explicit and isinstance(found.table, GraphTable):
            keys: list[int] = found.table.graph.arm[items].tolist()
            return keys
        return [self.arm(found.ids[i]) for i in items.tolist()]

    def masks(self, found: Candidates, items: npt.NDArray[np.int64]) -> list[bytes]:
        """Edge mask of each chosen candidate: which slots of the context it has an edge to; empty for all."""
        if not isinstance(found.table, GraphTable):
            return [b""] * items.size
        graph = found.table.graph
        if found.explicit:
            places = np.fromiter((graph.index.get(found.ids[i], -1) for i in items.tolist()), np.int32, items.size)
        else:
            places = items.astype(np.int32)
        return graph.edge_masks(places, found.context.slots)


def _check_ids(field: str, ids: Sequence[str]) -> None:
    if not "".join(ids).isprintable():
        i = next(i for i, item in enumerate(ids) if not item.isprintable())
        raise invalid(f"{field}[{i}]", f"must be 1 to 128 printable characters, got {ids[i]!r}")
    # A lone surrogate has no UTF-8 form; isprintable refuses it already.


def check_user(user: str | None) -> None:
    """Problem for a user id that is not printable."""
    if user is not None and not user.isprintable():
        raise invalid("user", f"must be 1 to 128 printable characters, got {user!r}")


def unknown_surface(name: str) -> Problem:
    return Problem(404, f"unknown surface {name!r}")
