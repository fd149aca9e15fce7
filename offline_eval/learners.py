"""Learning policies by their text on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bandits.arrays import F64, Bool
from bandits.errors import UsageError
from bandits.sampling import Sampler
from bandits.simulation.policy import Policy, Request, parse_policy

LEARNERS = ("diag_linucb", "full_linucb")
SAMPLER_OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = MappingProxyType(
    {"sampler": ("kind", str), "temperature": ("temperature", float), "m": ("m", int), "epsilon": ("epsilon", float)}
)
MAX_CELLS = 100_000_000
"""Numbers that a learner's table may hold: 800 MB."""
NOT_FINITE = "--policy: a score is beyond float32; lower alpha, or raise prior"


@dataclass(frozen=True)
class LearningPlayer:
    """A learner that serves through a sampler, as a surface of the service does.

    policy   scores and learns, in rewards divided by scale
    sampler  turns scores into probabilities
    scale    of rewards
    """

    policy: Policy
    sampler: Sampler
    scale: float

    def probabilities(self, request: Request) -> F64:
        """Of each candidate, float64 (A,). Raises UsageError where a score is not finite."""
        with np.errstate(over="ignore"):
            score = self.policy.scores(request).astype(np.float32)
        if not np.isfinite(score).all():
            raise UsageError(NOT_FINITE)
        return self.sampler.first_position(score)

    def learn(self, request: Request, action: int, reward: float) -> None:
        """Take in the reward of the action that was chosen."""
        self.policy.learn(request, action, reward / self.scale)


def is_learner(text: str) -> bool:
    """Whether text names a learning policy."""
    return text.partition(":")[0] in LEARNERS


def learner(text: str, n_actions: int, n_slots: int, scale: float, edges: Bool | None = None) -> LearningPlayer:
    """The learning policy that text names, before its first row.

    text   `diag_linucb[:alpha=.3,variant=centred,prior=1,temperature=.02,epsilon=.01,sampler=plackett_luce,m=20]` or
           `full_linucb[..]`, which has no variant; what is left out is as on a surface of the service. sampler=greedy
           always takes the highest score
    scale  rewards are divided by it, so that temperature and alpha mean the same for any unit of reward
    edges  bool (n_actions, n_slots), the cells that a diag_linucb has; None: all of them

    Raises ValueError, saying what is wrong.

    >>> player = learner("diag_linucb:alpha=0,variant=published,sampler=greedy", 2, 1, 1.0)
    >>> request = Request(0, np.array([0]), np.array([1.0]), np.array([0, 1]))
    >>> player.learn(request, 1, 1.0)
    >>> player.probabilities(request).tolist()
    [0.0, 1.0]
    """
    name, _, rest = text.partition(":")
    if name not in LEARNERS:
        raise ValueError(f"a learning policy is {' or '.join(LEARNERS)}, got {name!r}")
    parts = [part for part in rest.split(",") if part]
    of_sampler = [part for part in parts if part.partition("=")[0] in SAMPLER_OPTIONS]
    own = [part for part in parts if part not in of_sampler]
    cells = n_actions * n_slots * (n_slots if name == "full_linucb" else 1)
    if cells > MAX_CELLS:
        size = f"{n_actions:,} actions x {n_slots:,} slots"
        raise ValueError(f"{name} would hold {size} in {cells:,} numbers, at most {MAX_CELLS:,}")
    policy = parse_policy(f"{name}:{','.join(own)}", n_actions, n_slots, edges)
    return LearningPlayer(policy, _sampler(of_sampler), scale)


def _sampler(parts: list[str]) -> Sampler:
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        target, kind = SAMPLER_OPTIONS[key]
        if not equals or target in options:
            raise ValueError(f"policy options are key=value, each once, got {part!r}")
        try:
            options[target] = kind(value)
        except ValueError:
            raise ValueError(f"policy option {key} must be a number, got {value!r}") from None
    return Sampler(**options)
