"""Which ad loads a surface may serve, and by what law: its logging distribution, or the policy that was uploaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bandits.ad_load import AdLoadPolicy, PolicyError, draw, over_allowed
from service.problems import invalid
from service.settings.surface import AdLoadSettings

Features = Mapping[str, float]
FLOOR_TOLERANCE = 1e-9
"""By so much a learned logging distribution may lie below the configured floor: its sums are rounded."""


@dataclass(frozen=True, slots=True)
class Law:
    """What a load is drawn by.

    loads        candidates, ascending, (A,)
    probability  (A,), sums to 1
    score        (A,) of the policy; None where none chose
    sampler      kind, temperature, 0, and the floor under every probability, as the log keeps it
    """

    loads: Sequence[int]
    probability: list[float]
    score: list[float] | None
    sampler: tuple[str, float, int, float]

    def draw(self, uniform: float) -> int:
        """Place of the drawn candidate, by a number in [0, 1)."""
        return draw(self.probability, uniform)


@dataclass(slots=True)
class AdLoads:
    """The loads of one surface and the policy that it serves, None before one is uploaded."""

    settings: AdLoadSettings
    policy: AdLoadPolicy | None = None
    _logging: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        chosen = self.settings
        self._logging = dict(sorted(zip(chosen.loads, chosen.logging, strict=True)))

    @property
    def version(self) -> str | None:
        """Of the served policy."""
        return None if self.policy is None else self.policy.version

    def fit(self, policy: AdLoadPolicy) -> None:
        """Raise PolicyError where a policy does not fit the surface's loads and floor."""
        loads, floor = list(self._logging), self.settings.floor
        for i, load in enumerate(policy.loads):
            if load not in self._logging:
                raise PolicyError(f"loads[{i}]", f"must be one of the surface's loads {loads}, got {load}")
        for i, share in enumerate(policy.logging.tolist()):
            if share < floor - FLOOR_TOLERANCE:
                rule = f"must be at least {floor:g}, the surface's floor"
                raise PolicyError(
                    f"logging[{i}]", f"{rule}: lower ad_load.floor or learn with a higher floor; got {share:g}"
                )

    def allowed(self, given: Sequence[int] | None) -> list[int]:
        """The loads that a request allows, ascending; Problem at what is wrong."""
        if given is None:
            return list(self._logging)
        if not given:
            raise invalid("allowed", "must name at least one load")
        for i, load in enumerate(given):
            if load not in self._logging:
                raise invalid(f"allowed[{i}]", f"must be one of the surface's loads {list(self._logging)}, got {load}")
            if load in given[:i]:
                raise invalid(f"allowed[{i}]", f"must be unique, got {load} a second time")
        if self.policy is not None and not set(given) & set(self.policy.loads):
            known = list(self.policy.loads)
            raise invalid("allowed", f"must have one of the loads {known} that the served policy knows")
        return sorted(given)

    def law(self, mode: str, features: Features, allowed: Sequence[int]) -> Law:
        """The law of a mode over allowed loads; without a policy only holdout and explore exist."""
        if mode == "holdout":
            share = 1 / len(allowed)
            return Law(allowed, [share] * len(allowed), None, ("uniform", 0.0, 0, share))
        if self.policy is not None:
            return self._policy_law(self.policy, mode, features, allowed)
        shares = np.array([self._logging[load] for load in allowed])
        logged: list[float] = over_allowed(shares, np.ones((1, len(allowed)), np.bool_))[0].tolist()
        return Law(allowed, logged, None, ("logging", 0.0, 0, self.settings.floor))

    def _policy_law(self, policy: AdLoadPolicy, mode: str, features: Features, allowed: Sequence[int]) -> Law:
        """Over the allowed loads that the policy knows."""
        x, loads = policy.matrix([features]), [load for load in policy.loads if load in allowed]
        mask = policy.mask([loads])
        score = policy.scores(x)[mask]
        if mode == "exploit":
            greedy = [0.0] * len(loads)
            greedy[int(score.argmax())] = 1.0
            return Law(loads, greedy, score.tolist(), ("greedy", 0.0, 0, 0.0))
        floor = max(policy.floor, min(self.settings.floor, float(policy.logging.min())))
        probability: list[float] = policy.probabilities(x, mask, floor)[mask].tolist()
        return Law(loads, probability, score.tolist(), ("ad_load", policy.temperature, 0, floor))

    def unlike(self, features: Features) -> tuple[list[str], list[str]]:
        """Features of the policy that a request lacks, and those that the request has beyond them."""
        if self.policy is None:
            return [], []
        wanted = {feature.name for feature in self.policy.features}
        return sorted(wanted - features.keys()), sorted(features.keys() - wanted)

    def describe(self) -> dict[str, object]:
        """What GET /v1/surfaces shows of it."""
        chosen = self.settings
        shown: dict[str, object] = {
            "loads": list(self._logging),
            "logging": list(self._logging.values()),
            "floor": chosen.floor,
        }
        return shown | {"policy": None if self.policy is None else describe_policy(self.policy)}


def describe_policy(policy: AdLoadPolicy) -> dict[str, object]:
    """What a policy says of itself."""
    return {
        "policy_version": policy.version,
        "loads": list(policy.loads),
        "features": [feature.name for feature in policy.features],
        "temperature": policy.temperature,
        "floor": policy.floor,
        "logging": policy.logging.tolist(),
        "window": list(policy.window),
        "estimate": dataclasses.asdict(policy.estimate),
    }
