"""Policies that a simulation plays, and their names on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits.diag_linucb import DiagLinUCB
from bandits.full_linucb import FullLinUCB
from bandits.simulation.world import Users, World

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Request:
    """One user who asks for one item.

    user        index of the user in its world
    slots       intp     (K,)
    weights     float64  (K,)
    candidates  intp     (A,)  items that can be served, ascending
    """

    user: int
    slots: NDArray[np.intp]
    weights: Floats
    candidates: NDArray[np.intp]


class Policy(Protocol):
    """Scores the candidates of a request; a sampler turns scores into the item served."""

    def scores(self, request: Request) -> Floats:
        """Score of each candidate, float64 (A,)."""

    def learn(self, request: Request, item: int, reward: float) -> None:
        """Take in the reward of the item that was served."""


class Learner(Protocol):
    """What DiagLinUCB and FullLinUCB have in common."""

    def update(self, arm: int, slots: ArrayLike, weights: ArrayLike, reward: float) -> None: ...
    def scores(self, slots: ArrayLike, weights: ArrayLike) -> Floats: ...


class Uniform:
    """Equal scores, so that every candidate is as likely as the next."""

    def scores(self, request: Request) -> Floats:
        return np.zeros(len(request.candidates))

    def learn(self, request: Request, item: int, reward: float) -> None:
        """Nothing to learn."""


class Oracle:
    """Scores each candidate with its true mean reward."""

    def __init__(self, world: World) -> None:
        self._world = world

    def scores(self, request: Request) -> Floats:
        user = Users(np.array([request.user]), np.empty((1, self._world.dim), np.float32))
        truth: Floats = self._world.mean_reward(user)[0, request.candidates]
        return truth

    def learn(self, request: Request, item: int, reward: float) -> None:
        """Nothing to learn."""


class Learning:
    """Scores with a learner's upper confidence bounds."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def scores(self, request: Request) -> Floats:
        return self.learner.scores(request.slots, request.weights)[request.candidates]

    def learn(self, request: Request, item: int, reward: float) -> None:
        self.learner.update(item, request.slots, request.weights, reward)


def parse_policy(text: str, n_arms: int, n_slots: int, edges: NDArray[np.bool_] | None) -> Policy:
    """The policy that text names: `uniform`, `full_linucb[:alpha=.3,prior=1]` or
    `diag_linucb[:alpha=.3,variant=centred,prior=1]`; what is left out is as on a surface of the service.

    Raises ValueError, saying what is wrong.
    """
    name, _, rest = text.partition(":")
    options: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise ValueError(f"policy options are key=value, each once, got {part!r} in {text!r}")
        options[key] = value
    allowed = {"uniform": (), "full_linucb": ("alpha", "prior"), "diag_linucb": ("alpha", "prior", "variant")}
    if name not in allowed:
        raise ValueError(f"policy must be one of {', '.join(allowed)}, got {name!r}")
    unknown = sorted(options.keys() - set(allowed[name]))
    if unknown:
        raise ValueError(f"policy {name} takes {', '.join(allowed[name]) or 'no options'}, got {unknown[0]!r}")
    if name == "uniform":
        return Uniform()
    alpha, prior = _number(options, "alpha", 0.3), _number(options, "prior", 1.0)
    if name == "full_linucb":
        return Learning(FullLinUCB(n_arms, n_slots, alpha=alpha, prior=prior))
    variant = cast(Literal["published", "centred", "weights"], options.get("variant", "centred"))
    return Learning(DiagLinUCB(n_arms, n_slots, alpha=alpha, variant=variant, prior=prior, edges=edges))


def _number(options: dict[str, str], key: str, default: float) -> float:
    try:
        return float(options.get(key, default))
    except ValueError as error:
        raise ValueError(f"policy option {key} must be a number, got {options[key]!r}") from error
