"""Simulated worlds over HTTP: reward and regret against the known truth, and what a long delay costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

from bandits.simulation import WORLDS, Simulation, Uniform, World, simulate
from load_tests.client import Client
from load_tests.delay import Row as DelayRow
from load_tests.delay import row_of
from load_tests.server import serve
from load_tests.traffic import Traffic, play

SAMPLER_KEY = "BANDITD_SURFACES__DEFAULT__SAMPLER__KIND"
SAMPLERS: Mapping[str, str] = MappingProxyType({"plackett_luce (default)": "plackett_luce", "argmax": "greedy"})


class Row(TypedDict):
    """One world, one seed: mean rewards of a request, and regrets, which are sums over all requests.

    batch        requests asked at once and rewards posted at once
    upper_bound  mean reward if the best candidate were always served
    gained       (reward - random_reward) / (upper_bound - random_reward)
    """

    world: str
    seed: int
    requests: int
    batch: int
    reward: float
    regret: float
    random_reward: float
    random_regret: float
    upper_bound: float
    gained: float


def worlds_table(
    worlds: Sequence[str] = ("clusters", "shop"),
    seeds: Sequence[int] = (0, 1, 2),
    *,
    requests: int = 20_000,
    batch: int = 32,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Play each world on a server of its own with default settings, in batches; the server has learned a batch before
    the next is asked. Random is played in process on the same users. `progress` gets a line after each run.
    """
    rows: list[Row] = []
    for name in worlds:
        for seed in seeds:
            world = WORLDS[name](seed)
            played = _play(world, seed, requests, delay=batch, batch=batch)
            random = simulate(world, Uniform(), requests, seed)
            possible = played.upper_bound - random.reward
            row = Row(
                world=name,
                seed=seed,
                requests=requests,
                batch=batch,
                reward=played.reward,
                regret=played.regret,
                random_reward=random.reward,
                random_regret=random.regret,
                upper_bound=played.upper_bound,
                gained=(played.reward - random.reward) / possible,
            )
            rows.append(row)
            progress(f"{name}, seed {seed}: reward {played.reward:.3f} of {played.upper_bound:.3f}")
    return rows


def delay_over_http(
    seeds: Sequence[int] = (0,),
    *,
    requests: int = 20_000,
    delay: int = 2_000,
    batch: int = 250,
    progress: Callable[[str], None] = lambda line: None,
) -> list[DelayRow]:
    """The clusters world at delay 1 and at `delay`, with the default sampler and with a plain argmax of the scores.

    Delay 1: each reward is posted before the next request. Longer: decisions are deferred, so that nothing of them
    counts before their rewards, which are posted after every `delay` requests; the next request waits until the server
    has learned them all. Requests go in batches of `batch` within a delay.
    """
    rows: list[DelayRow] = []
    for seed in seeds:
        world = WORLDS["clusters"](seed)
        for name, kind in SAMPLERS.items():
            prompt = _play(world, seed, requests, env={SAMPLER_KEY: kind})
            late = _play(world, seed, requests, delay=delay, batch=batch, deferred=True, env={SAMPLER_KEY: kind})
            row = row_of(name, seed, requests, delay, prompt, late)
            rows.append(row)
            progress(f"delay, seed {seed}, {name}: {prompt.reward:.3f} and {late.reward:.3f}, ratio {row['ratio']:.3f}")
    return rows


def _play(
    world: World,
    seed: int,
    requests: int,
    *,
    delay: int = 1,
    batch: int = 1,
    deferred: bool = False,
    env: Mapping[str, str] | None = None,
) -> Simulation:
    with serve(env=env) as server, Client(server.url) as client:
        return play(Traffic(client, world, seed, deferred=deferred), requests, delay=delay, batch=batch)
