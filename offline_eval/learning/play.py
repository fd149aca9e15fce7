"""The ad-load world, played: what policies bring there, against the best that could be known from the features."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bandits.ad_load import AdLoadPolicy
from bandits.arrays import F64, Bool
from bandits.errors import UsageError
from bandits.simulation.ad_load import AdLoadWorld
from bandits.simulation.ad_load_sessions import Act
from bandits.simulation.ad_load_sessions import AdLoadLog as WorldLog
from offline_eval.learning.learn import Options, learn
from offline_eval.learning.log import AdLoadLog
from offline_eval.learning.reward import Scale, mixed
from offline_eval.targets.policy_file import read

BETA = 0.7
LOG_ROWS = 50_000
LOG_SEED = 1_000_003
"""Added to the seed of the players."""
FETCHES_A_USER = 3
"""Fewer than any policy's users make on average."""
GRAMMAR = "learned | logging | uniform | constant:K | FILE.json (policy file)"


@dataclass(frozen=True)
class Played:
    """n fetches of a policy.

    reward  float64 (n,)  r_beta that was drawn
    chosen  float64 (n,)  r_beta expected of the policy, given the features
    best    float64 (n,)  r_beta expected of the best allowed load, given the features
    """

    reward: F64
    chosen: F64
    best: F64

    @property
    def mean(self) -> float:
        """Mean reward of a fetch."""
        return float(self.reward.mean())

    @property
    def upper_bound(self) -> float:
        """Mean reward of a fetch if the best load were always served."""
        return float(self.best.mean())

    @property
    def regret(self) -> float:
        """Sum over all fetches."""
        return float((self.best - self.chosen).sum())


def fetches(world: AdLoadWorld, seed: int, rows: int, act: Act | None = None) -> WorldLog:
    """`rows` fetches under `act` (None: logging), in order of time: sessions of the first users that it takes.

    Policies of one seed meet the same users.
    """
    n_users = max(1, rows // FETCHES_A_USER)
    while True:
        log = world.sessions(np.random.default_rng(seed), n_users, act)
        if len(log.user) >= rows:
            kept = np.sort(np.argsort(log.user, kind="stable")[:rows])
            return WorldLog(**{one.name: getattr(log, one.name)[kept] for one in fields(WorldLog)})
        n_users *= 2


def as_log(log: WorldLog) -> AdLoadLog:
    """What a log of the world shows to who learns from it."""
    return AdLoadLog(
        user=log.user,
        timestamp=log.timestamp,
        features=log.features,
        names=AdLoadWorld.feature_names,
        action=np.searchsorted(AdLoadWorld.loads, log.action),
        propensity=log.propensity,
        allowed=log.allowed,
        satisfaction=log.satisfaction,
        revenue=log.revenue,
        loads=AdLoadWorld.loads,
        logging=log.distribution,
    )


def truth(log: WorldLog, scale: Scale) -> F64:
    """Expected z-scores of satisfaction and revenue of every load, float64 (n, L, 2)."""
    expected = np.stack([log.expected_satisfaction, log.expected_revenue], axis=2)
    return (expected - scale.mean) / scale.sd


def play(world: AdLoadWorld, act: Act | None, scale: Scale, rounds: int, seed: int) -> Played:
    """`rounds` fetches under a policy (None: logging); policies of one seed meet the same users."""
    log = fetches(world, seed, rounds, act)
    expected = mixed(truth(log, scale), BETA)
    drawn = mixed((np.column_stack([log.satisfaction, log.revenue]) - scale.mean) / scale.sd, BETA)
    best = np.where(log.allowed, expected, -np.inf).max(axis=1)
    return Played(drawn, (log.distribution * expected).sum(axis=1), best)


def regrets(policy: str, rounds: int, seed: int) -> dict[str, Played]:
    """A policy by name beside the baselines `logging` and `random`, each played for `rounds` fetches of the world.

    z-scores are those of a log of the logging policy with other users, which `learned` learns from. Raises UsageError.
    """
    world = AdLoadWorld.make(seed)
    training = as_log(fetches(world, seed + LOG_SEED, LOG_ROWS))
    scale = Scale.of(training)
    acts = {"policy": parse(policy, world, training, seed), "logging": None, "random": uniform}
    return {name: play(world, act, scale, rounds, seed) for name, act in acts.items()}


def write_table(policy: str, rounds: int, seed: int, path: Path) -> None:
    """`rounds` fetches of a policy by name as an ad-load table in Parquet, propensities and allowed loads included.

    Raises UsageError.
    """
    world = AdLoadWorld.make(seed)
    act = None
    if policy != "logging":
        act = parse(policy, world, as_log(fetches(world, seed + LOG_SEED, LOG_ROWS)), seed)
    log = fetches(world, seed, rounds, act)
    loads = np.array(world.loads)
    columns: dict[str, Any] = {
        "user": [f"u{user}" for user in log.user.tolist()],
        "timestamp": pa.array(log.timestamp, pa.timestamp("us", tz="UTC")),
        "action": log.action,
        "propensity": log.propensity,
        "satisfaction": log.satisfaction,
        "revenue": log.revenue,
        "allowed": [loads[row].tolist() for row in log.allowed],
    }
    columns |= {name: log.features[:, i] for i, name in enumerate(world.feature_names)}
    try:
        pq.write_table(pa.table(columns), path)
    except OSError as fault:
        raise UsageError(f"--write-log {path}: {fault.strerror or fault}") from fault


def parse(text: str, world: AdLoadWorld, training: AdLoadLog, seed: int) -> Act | None:
    """The policy of that name; None: the logging policy. `learned` learns from the training log.

    Raises UsageError.
    """
    if text == "logging":
        return None
    if text == "uniform":
        return uniform
    if text == "learned":
        learned = learn(training, Options(beta=BETA, seed=seed))
        if learned.policy is None:
            raise UsageError(f"--policy learned: {learned.reasons[0]}")
        return of_policy(learned.policy, world)
    if text.startswith("constant:"):
        return _constant(text.removeprefix("constant:"), world)
    if text.endswith(".json"):
        return _of_file(Path(text), world)
    raise UsageError(f"--policy must be {GRAMMAR}, got {text!r}")


def uniform(x: F64, allowed: Bool) -> F64:
    """Every allowed load alike."""
    share: F64 = allowed / allowed.sum(axis=1, keepdims=True)
    return share


def _constant(text: str, world: AdLoadWorld) -> Act:
    """The load, or the largest allowed one below it."""
    if text not in map(str, world.loads):
        raise UsageError(f"--policy constant:K: K must be one of {', '.join(map(str, world.loads))}, got {text!r}")
    column = world.loads.index(int(text))

    def act(x: F64, allowed: Bool) -> F64:
        highest = np.where(allowed[:, : column + 1], np.arange(column + 1), -1).max(axis=1)
        whole: F64 = np.eye(len(world.loads))[highest]
        return whole

    return act


def _of_file(path: Path, world: AdLoadWorld) -> Act:
    policy = read(path)
    if not set(policy.loads) <= set(world.loads) or 0 not in policy.loads:
        raise UsageError(
            f"--policy {path}: loads must be among {list(world.loads)}, with 0, which is always allowed; "
            f"got {list(policy.loads)}"
        )
    return of_policy(policy, world)


def of_policy(policy: AdLoadPolicy, world: AdLoadWorld) -> Act:
    """A policy over some of the world's loads and features; a feature that the world lacks takes its mean."""
    columns = [world.loads.index(one) for one in policy.loads]

    def act(x: F64, allowed: Bool) -> F64:
        values = policy.aligned(x, world.feature_names)
        whole = np.zeros(allowed.shape)
        whole[:, columns] = policy.probabilities(values, allowed[:, columns])
        return whole

    return act
