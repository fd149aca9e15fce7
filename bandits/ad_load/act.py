"""One decision: from a request's features and allowed loads to a load and its propensity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bandits.ad_load.mixing import draw
from bandits.ad_load.policy import AdLoadPolicy


@dataclass(frozen=True, slots=True)
class Action:
    """A load that was drawn.

    propensity    its probability, that of the load in `distribution`
    distribution  (L,) over the policy's loads; 0 where not allowed
    """

    load: int
    propensity: float
    distribution: tuple[float, ...]


def act(
    policy: AdLoadPolicy,
    features: Mapping[str, float] | None,
    allowed: Sequence[int] | None,
    uniform: float,
    floor: float = 0.0,
) -> Action:
    """Draw a load from the policy.

    allowed  loads that may be served; None: all
    uniform  in [0, 1): all the randomness there is
    floor    as in AdLoadPolicy.probabilities

    Raises ValueError, also where `allowed` is empty or holds an unknown load.
    """
    mask = None if allowed is None else policy.mask([allowed])
    distribution = tuple(policy.probabilities(policy.matrix([features]), mask, floor)[0].tolist())
    index = draw(distribution, uniform)
    return Action(policy.loads[index], distribution[index], distribution)
