"""From a request to a slate, its receipt and its log entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bandits.records import (
    DEFERRED,
    MAX_DECISION_KEYS,
    NULL_PROPENSITY,
    Details,
    Position,
    ReceiptContext,
)
from bandits.sampling import Sampler, Uniforms
from bandits.tables import GraphTable, Scored
from service.decisions import MAX_LOGGED_DISTRIBUTION, Decisions, Prepared
from service.problems import Problem, invalid
from service.replica import Replica
from service.schemas import Contribution, Decision, RecommendRequest, ServedItem
from service.surface import Candidates, Surface, check_user, unknown_surface

DEFAULT_N = 10
_GREEDY, _UNIFORM = Sampler("greedy"), Sampler("uniform")


@dataclass(frozen=True, slots=True)
class _Slate:
    """What was drawn: candidates' places, propensities, and the law they were drawn by."""

    items: np.ndarray[tuple[int], np.dtype[np.int64]]
    propensity: list[float]
    sampler: Sampler


class Recommender:
    """Answers requests on the thread that scores.

    age_s      seconds since the tables were last known to be current
    uniforms   where all exploration comes from
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        replica: Replica,
        decisions: Decisions,
        *,
        age_s: Callable[[], float],
        uniforms: Uniforms,
    ) -> None:
        self._surfaces, self._replica, self._decisions = surfaces, replica, decisions
        self._uniforms, self._age_s = uniforms, age_s
        self._default = next(iter(surfaces))

    def surface(self, name: str | None) -> Surface:
        """The surface that a request names; Problem for an unknown one, or one that serves no slates."""
        found = self._surfaces.get(self._default if name is None else name)
        if found is None:
            raise unknown_surface(str(name))
        if found.ad_load is not None:
            raise Problem(409, f"surface {found.name!r} serves ad loads: ask POST /v1/ad-load, or name another surface")
        return found

    def _check(self, request: RecommendRequest) -> tuple[Surface, Candidates, int]:
        """Surface, candidates and number of served items."""
        surface = self.surface(request.surface)
        check_user(request.user)
        found = surface.candidates(request, self._replica.cells)
        n = min(DEFAULT_N if request.n is None else request.n, found.scored.item.size)
        self._check_keys(n, found)
        return surface, found, n

    def decide(self, request: RecommendRequest) -> Decision:
        """Draw a slate and log it; Problem, leaving no trace, where the request is wrong."""
        prepared = self.prepare(request)
        self._decisions.commit(prepared)
        return prepared.decision  # type: ignore[return-value]

    def prepare(self, request: RecommendRequest) -> Prepared:
        """Draw a slate; Problem where the request is wrong. Leaves no trace until it is committed."""
        surface, found, n = self._check(request)
        begun = self._decisions.begin(surface, request.user, n)
        if begun.mode == "exploit":
            found.scored.score = found.scored.mean
        slate = self._draw(surface, found.scored, begun.mode, n)
        reply = Decision(
            str(begun.id),
            surface.name,
            surface.policy(begun.mode),
            begun.mode,
            self._served(surface, found, slate, bool(request.explain)),
            "",
            found.scored.item.size,
            self._replica.version,
            int(1000 * self._age_s()),
            **({} if surface.graph is None else {"graph_version": surface.graph.graph.version}),
        )
        return self._decisions.prepare(
            surface,
            begun,
            reply,
            self._details(surface, request, found, slate, begun.mode),
            totals=surface.hashed.totals if found.table is None else found.table.totals,
            contexts=self._contexts(found),
            positions=self._positions(surface, found, slate),
            flags=DEFERRED if request.deferred else 0,
            at=("n", "items"),
        )

    def _check_keys(self, n: int, found: Candidates) -> None:
        keys = n * (found.context.slots.size + 1) + 10
        if keys > MAX_DECISION_KEYS:
            rule = f"served items x (slots + 1) + 10 must be <= {MAX_DECISION_KEYS}"
            raise invalid("n", f"{rule}, got {n} x ({found.context.slots.size} + 1) + 10 = {keys}")

    def _draw(self, surface: Surface, scored: Scored, mode: str, n: int) -> _Slate:
        sampler = surface.sampler
        if mode == "holdout" or surface.settings.policy == "uniform":
            sampler = _UNIFORM
        elif mode == "exploit":
            sampler = _GREEDY
        items, propensity = sampler.draw(scored.score, n, self._uniforms.take(n))
        return _Slate(items, propensity.tolist(), sampler)

    def _contexts(self, found: Candidates) -> tuple[ReceiptContext, ...]:
        if found.table is None:
            return ()
        return (ReceiptContext(found.table.table, found.context.slots.tobytes(), found.context.quanta.tobytes()),)

    def _positions(self, surface: Surface, found: Candidates, slate: _Slate) -> tuple[Position, ...]:
        places = found.scored.item[slate.items].astype(np.int64)
        ids = [found.ids[i] for i in places.tolist()]
        rows = zip(surface.arm_keys(found, places), ids, slate.propensity, surface.masks(found, places), strict=True)
        if found.table is None:
            return tuple(Position(arm, item, p, ()) for arm, item, p, _ in rows)
        return tuple(Position(arm, item, p, ((0, mask),)) for arm, item, p, mask in rows)

    def _details(
        self, surface: Surface, request: RecommendRequest, found: Candidates, slate: _Slate, mode: str
    ) -> Details:
        sampler, scored = slate.sampler, found.scored
        scores = (scored.score[slate.items] * np.float32(surface.rewards.scale)).tolist()
        small = 0 < scored.item.size <= MAX_LOGGED_DISTRIBUTION
        graph = None
        candidates = None
        if isinstance(found.table, GraphTable):
            graph = found.table.graph.version
        if found.explicit:
            candidates = list(found.ids)
        elif small:
            candidates = [found.ids[i] for i in scored.item.tolist()]
        return Details(
            policy=surface.policy(mode),
            mode=mode,
            sampler=(sampler.kind, sampler.temperature, sampler.m, sampler.epsilon),
            parameters=self._replica.version,
            scores=scores,
            user=self._decisions.hash_user(request.user),
            event_id=request.event_id,
            candidates=candidates,
            graph=graph,
            exclude=request.exclude or [],
            distribution=sampler.first_position(scored.score).tolist() if small else None,
            features=request.features,
        )

    def _served(self, surface: Surface, found: Candidates, slate: _Slate, explain: bool) -> list[ServedItem]:
        ids, scored = found.ids, found.scored
        places = scored.item[slate.items].tolist()
        served = [
            ServedItem(ids[i], position, None if p == NULL_PROPENSITY else p)
            for position, (i, p) in enumerate(zip(places, slate.propensity, strict=True))
        ]
        if explain:
            scale = surface.rewards.scale
            for item, i in zip(served, slate.items.tolist(), strict=True):
                item.score, item.mean = float(scored.score[i]) * scale, float(scored.mean[i]) * scale
                item.bonus = item.score - item.mean
                item.contributions = self._contributions(surface, found, i)
        return served

    def _contributions(self, surface: Surface, found: Candidates, candidate: int) -> list[Contribution]:
        """Each slot's weight times theta, in reward units; with the centre they sum to the mean."""
        context, table, scale = found.context, found.table, surface.rewards.scale
        if table is None:
            return []
        item_id = found.ids[int(found.scored.item[candidate])]
        arm, item = np.array([surface.arm(item_id)], np.uint64), np.empty(0, np.int32)
        active = np.ones(context.slots.size, np.bool_)
        if isinstance(table, GraphTable):
            item = np.array([table.graph.index.get(item_id, -1)], np.int32)
            active = table.graph.edges_of(item, context.slots)[0] >= 0
        total = float(context.weights[active].sum()) or 1.0
        contributions = []
        for k, weight in enumerate(context.weights.tolist()):
            one = type(context)(context.slots[k : k + 1], context.quanta[k : k + 1])
            if isinstance(table, GraphTable):
                scored = table.upper_bounds_of(item, one)
            else:
                scored = table.upper_bounds(self._replica.cells, arm, one)
            value = (float(scored.mean[0]) - table.centre) * scale
            if table.learning.variant == "weights":
                # A slot alone is divided by its own weight, the mean by all of them.
                value *= weight / total
            contributions.append(Contribution(int(context.slots[k]), weight, value))
        return contributions
