"""How often each interval covers the truth: logs drawn again and again from worlds whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypedDict

import numpy as np

from bandits.arrays import F64
from bandits.moments import Moments
from offline_eval.estimators import Estimator
from offline_eval.estimators.dr import DR
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.snips import SNIPS
from offline_eval.intervals import METHODS, Bounds, Clusters, Evidence, interval
from offline_eval.intervals.bootstrap import group_of

N_BLOCKS = 100
W_MAX = 510.0
ALPHA = 0.05
Drawn = tuple[F64, F64, F64, F64]
"""Weight, reward, and what a model says of the logged action and of the target; float64 (n,) each."""


class Row(TypedDict):
    """One interval of one estimator on logs of one world and size.

    coverage  share of the logs whose interval holds the truth
    width     mean width
    flagged   share of the logs whose interval warns that it may be too narrow, or is all that can be for want of weight
    """

    world: str
    n: int
    interval: str
    estimator: str
    coverage: float
    width: float
    flagged: float


@dataclass(frozen=True, slots=True)
class World:
    """Rewards of 0 and 1 with a known mean under the target.

    draw           n rounds
    truth          value of the target
    largest_weight w_max
    """

    draw: Callable[[np.random.Generator, int], Drawn]
    truth: float
    largest_weight: float


def _easy(random: np.random.Generator, n: int) -> Drawn:
    """Five actions logged uniformly; a target that prefers some."""
    target: F64 = np.array([0.5, 0.2, 0.1, 0.1, 0.1])
    reward: F64 = np.array([0.3, 0.25, 0.1, 0.05, 0.2])
    action = random.integers(0, 5, n)
    rewards = (random.random(n) < reward[action]).astype(np.float64)
    model: F64 = 0.8 * reward + 0.02
    weight: F64 = 5.0 * target[action]
    return weight, rewards, model[action], np.full(n, float(target @ model))


def _heavy(random: np.random.Generator, n: int) -> Drawn:
    """One action, logged once in 510 rounds, is the target's only one; it is rewarded 7 times in 100."""
    taken = random.random(n) < 1 / W_MAX
    rewards = (random.random(n) < np.where(taken, 0.07, 0.3)).astype(np.float64)
    weight: F64 = np.where(taken, W_MAX, 0.0)
    return weight, rewards, np.where(taken, 0.1, 0.25), np.full(n, 0.1)


def _spread(random: np.random.Generator, n: int) -> Drawn:
    """The target's action is logged with probability max(u^1.5, 1 / 510), u uniform; rewards fall with u."""
    u = random.random(n)
    propensity = np.maximum(u**1.5, 1 / W_MAX)
    taken = random.random(n) < propensity
    rewards = (random.random(n) < 0.35 - 0.3 * u).astype(np.float64)
    model = 0.3 - 0.2 * u
    return taken / propensity, rewards, model, model


WORLDS: Mapping[str, World] = MappingProxyType(
    {
        "easy": World(_easy, 0.235, 2.5),
        "heavy": World(_heavy, 0.07, W_MAX),
        "spread": World(_spread, 0.2, W_MAX),
    }
)
ESTIMATORS: Sequence[Estimator] = (IPS(), SNIPS(), DR())
SAME = frozenset({("cressie-read", "snips"), ("confseq", "snips")})
"""Left out: read the same moments as for ips, and make the same interval."""


def coverage_table(
    sizes: Sequence[int] = (500, 2000, 20_000),
    logs: int = 500,
    *,
    methods: Sequence[str] = tuple(METHODS),
    seed: int = 0,
    progress: Callable[[str], object] = lambda line: None,
) -> list[Row]:
    """A row per world, size, interval and estimator for which the interval holds."""
    rows: list[Row] = []
    for place, (name, world) in enumerate(WORLDS.items()):
        for n in sizes:
            progress(f"coverage: {name}, {logs} logs of {n} rounds")
            random = np.random.default_rng([seed, place, n])
            evidence = [_evidence(world, random, n) for _ in range(logs)]
            for method in methods:
                for at, estimator in enumerate(ESTIMATORS):
                    if METHODS[method].holds_for(estimator) and (method, estimator.kind) not in SAME:
                        chosen = [one[at] for one in evidence]
                        rows.append(_row(name, world, n, method, chosen))
    return rows


def _evidence(world: World, random: np.random.Generator, n: int) -> list[Evidence]:
    """Of each estimator on one log."""
    weight, reward, model, base = world.draw(random, n)
    largest, nothing = float(weight.max(initial=0.0)), np.zeros(n)
    square = float(weight @ weight)
    ess = float(weight.sum() ** 2 / square) if square else 0.0
    found = []
    for estimator in ESTIMATORS:
        direct = base if estimator.form == "residual" else nothing
        error = reward - model if estimator.form == "residual" else reward
        z = np.stack([np.ones(n), direct, weight, weight * error])
        bounds = Bounds(world.largest_weight, (0.0, 1.0))
        groups = Clusters.of(group_of(np.arange(n)), z.T)
        blocks = [_moments(part) for part in np.array_split(z[1:], N_BLOCKS, axis=1)]
        found.append(Evidence(estimator, _moments(z[1:]), bounds, None, blocks, ess, groups, largest))
    return found


def _moments(columns: F64) -> Moments:
    moments = Moments.zero(len(columns))
    moments.add(columns)
    return moments


def _row(name: str, world: World, n: int, method: str, evidence: Sequence[Evidence]) -> Row:
    made = [interval(method, one, ALPHA, seed) for seed, one in enumerate(evidence)]
    return Row(
        world=name,
        n=n,
        interval=method,
        estimator=evidence[0].estimator.key,
        coverage=float(np.mean([one.low <= world.truth <= one.high for one in made])),
        width=float(np.mean([one.high - one.low for one in made])),
        flagged=float(
            np.mean([any("too narrow" in flag or "no weight" in flag for flag in one.flags) for one in made])
        ),
    )


def least_coverage(rows: Sequence[Row], method: str) -> float:
    """Of one method's rows, the lowest coverage."""
    return min(row["coverage"] for row in rows if row["interval"] == method)
