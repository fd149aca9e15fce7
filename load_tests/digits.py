"""The closed loop on real input: scanned digits are the users, their ten classes the items, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TypedDict

from bandits.simulation import Simulation, digits, parse_policy, simulate
from bandits.simulation.encoding import Encoder
from load_tests.client import Client
from load_tests.server import serve
from load_tests.traffic import Traffic, play

VARIANTS = ("centred", "published")
REFERENCES = ("full_linucb", "uniform")
VARIANT_KEY = "BANDITD_SURFACES__DEFAULT__DIAG_LINUCB__VARIANT"
STRETCH = 2_000


class Run(TypedDict):
    """Mean reward of the first and the last 2,000 requests (all, where there are fewer), and of all."""

    first_2000: float
    last_2000: float
    mean: float


class Row(TypedDict):
    """One policy over several runs: the median, smallest and largest of each mean reward.

    over   `HTTP`: posted before the next request, scores refreshed every 20 ms; or `in process`: refreshed at every
           request, by the reference implementations, with the sampler that a server has by default
    """

    policy: str
    over: str
    runs: int
    requests: int
    first_2000: float
    first_2000_min: float
    first_2000_max: float
    last_2000: float
    last_2000_min: float
    last_2000_max: float
    mean: float


def digits_run(url: str, seed: int, requests: int = 20_000) -> Run:
    """One client asks for one item at a time and posts each reward before the next request.

    url   of a server with nothing learned on its surface `default`; it gets the world's graph (64 clusters, top_k 8,
          tau 0.05)
    seed  of the clusters, the users and their order

    Raises RequestFailed, ConnectionError.
    """
    with Client(url) as client:
        return _run(play(Traffic(client, digits(seed), seed), requests))


def reference_run(policy: str, seed: int, requests: int = 20_000) -> Run:
    """The same users, graph and default sampler without a server: a policy as `banditd simulate` names it."""
    world = digits(seed)
    encoder = Encoder(world)
    learner = parse_policy(policy, len(world.item_ids), encoder.n_slots, encoder.edges)
    return _run(simulate(world, learner, requests, seed, encoder=encoder))


def digits_table(
    runs: int = 5,
    requests: int = 20_000,
    variants: Sequence[str] = VARIANTS,
    references: Sequence[str] = REFERENCES,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Variants of Diag-LinUCB over HTTP on servers that have default settings otherwise, beside the references.

    Run i of every policy has seed i, and every run a server of its own. `progress` gets a line after each run.
    """
    rows: list[Row] = []

    def measure(policy: str, over: str, run: Callable[[int], Run]) -> None:
        found = []
        for seed in range(runs):
            found.append(run(seed))
            first, last = found[-1]["first_2000"], found[-1]["last_2000"]
            progress(f"digits, {policy} ({over}), run {seed + 1} of {runs}: first 2,000 {first:.3f}, last {last:.3f}")
        rows.append(_row(policy, over, requests, found))

    for variant in variants:
        measure(f"diag_linucb {variant}", "HTTP", partial(_served_run, variant, requests=requests))
    for policy in references:
        measure(policy, "in process", partial(reference_run, policy, requests=requests))
    return rows


def _served_run(variant: str, seed: int, requests: int) -> Run:
    with serve(env={VARIANT_KEY: variant}) as server:
        return digits_run(server.url, seed, requests)


def _run(played: Simulation) -> Run:
    rewards = played.rewards
    return Run(
        first_2000=float(rewards[:STRETCH].mean()), last_2000=float(rewards[-STRETCH:].mean()), mean=played.reward
    )


def _row(policy: str, over: str, requests: int, runs: Sequence[Run]) -> Row:
    first, last = [run["first_2000"] for run in runs], [run["last_2000"] for run in runs]
    return Row(
        policy=policy,
        over=over,
        runs=len(runs),
        requests=requests,
        first_2000=median(first),
        first_2000_min=min(first),
        first_2000_max=max(first),
        last_2000=median(last),
        last_2000_min=min(last),
        last_2000_max=max(last),
        mean=median(run["mean"] for run in runs),
    )
