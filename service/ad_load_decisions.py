"""From a request to an ad load, its receipt and its log entry: a decision of one item, the load as text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from bandits.ad_load.rules import LARGEST
from bandits.context import CONSTANT, MAX_FEATURES
from bandits.records import Details, Position, ReceiptContext
from bandits.sampling import Uniforms
from service.ad_loads import AdLoads, Law
from service.decisions import MAX_LOGGED_DISTRIBUTION, Begun, Decisions, Prepared
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.replica import Replica
from service.schemas import AdLoadDecision, AdLoadRequest, LoadShare
from service.surface import Surface, check_user, unknown_surface


class AdLoadDecisions:
    """Answers ad-load requests on the thread that scores."""

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        replica: Replica,
        decisions: Decisions,
        metrics: Metrics,
        *,
        uniforms: Uniforms,
    ) -> None:
        self._surfaces, self._replica, self._decisions = surfaces, replica, decisions
        self._metrics, self._uniforms = metrics, uniforms
        self._default = next(iter(surfaces))

    def surface(self, name: str | None) -> Surface:
        """The surface that a request names; Problem for an unknown one, or one that serves no ad loads."""
        found = self._surfaces.get(self._default if name is None else name)
        if found is None:
            raise unknown_surface(str(name))
        ad_loads_of(found)
        return found

    def decide(self, request: AdLoadRequest) -> AdLoadDecision:
        """Draw a load and log it; Problem, leaving no trace, where the request is wrong."""
        prepared = self.prepare(request)
        self._decisions.commit(prepared)
        return prepared.decision  # type: ignore[return-value]

    def prepare(self, request: AdLoadRequest) -> Prepared:
        """Draw a load; Problem where the request is wrong. Leaves no trace until it is committed."""
        surface = self.surface(request.surface)
        ads, features = ad_loads_of(surface), request.features or {}
        check_user(request.user)
        _check_features(features)
        allowed = ads.allowed(request.allowed)
        begun = self._decisions.begin(surface, request.user, 1)
        law = ads.law(begun.mode, features, allowed)
        drawn = law.draw(float(self._uniforms.take(1)[0, 0]))
        item, propensity = str(law.loads[drawn]), law.probability[drawn]
        missing, unknown = ads.unlike(features)
        reply = AdLoadDecision(
            str(begun.id),
            surface.name,
            surface.policy(begun.mode),
            begun.mode,
            law.loads[drawn],
            propensity,
            "",
            ads.version,
        )
        if request.explain:
            reply.distribution, reply.missing, reply.unknown = _explained(law), missing, unknown
        prepared = self._decisions.prepare(
            surface,
            begun,
            reply,
            self._details(surface, begun, request, law),
            totals=surface.hashed.totals,
            contexts=(ReceiptContext(surface.hashed.table, CONSTANT.slots.tobytes(), CONSTANT.quanta.tobytes()),),
            positions=(Position(surface.arm(item), item, propensity, ((0, b""),)),),
            flags=0,
            at=("surface", "features"),
        )
        if law.score is not None:
            self._metrics.policy_features(surface.name, len(missing), len(unknown))
        return prepared

    def _details(self, surface: Surface, begun: Begun, request: AdLoadRequest, law: Law) -> Details:
        ads, small = ad_loads_of(surface), len(law.loads) <= MAX_LOGGED_DISTRIBUTION
        return Details(
            policy=surface.policy(begun.mode),
            mode=begun.mode,
            sampler=law.sampler,
            parameters=self._replica.version,
            scores=[],
            user=self._decisions.hash_user(request.user),
            event_id=request.event_id,
            candidates=[str(load) for load in law.loads],
            distribution=law.probability if small else None,
            features=request.features,
            policy_version=ads.version,
        )


def ad_loads_of(surface: Surface) -> AdLoads:
    """A surface's ad loads; Problem 409 where it serves none."""
    if surface.ad_load is None:
        policy = surface.settings.policy
        raise Problem(409, f"surface {surface.name!r} serves no ad loads, its policy is {policy}: name one that does")
    return surface.ad_load


def _explained(law: Law) -> list[LoadShare]:
    scores = [None] * len(law.loads) if law.score is None else law.score
    return [LoadShare(*row) for row in zip(law.loads, law.probability, scores, strict=True)]


def _check_features(features: Mapping[str, float]) -> None:
    if len(features) > MAX_FEATURES:
        raise invalid("features", f"at most {MAX_FEATURES} features, got {len(features)}")
    for name, value in features.items():
        if not -LARGEST <= value <= LARGEST:
            path = f"features[{json.dumps(name, ensure_ascii=not name.isprintable())}]"
            raise invalid(path, f"value must lie in [-{LARGEST:g}, {LARGEST:g}], got {value:g}")
