"""What a slow refresh of the parameters costs: the same world at delay 1 and at delay 2,000."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypedDict

from bandits import DiagLinUCB
from bandits.sampling import Sampler
from bandits.simulation import Learning, Simulation, World, clusters, simulate
from bandits.simulation.encoding import Encoder

SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "plackett_luce (default)": Sampler(kind="plackett_luce", temperature=0.02, epsilon=0.01),
        "argmax": Sampler(kind="greedy", epsilon=0.0),
    }
)


class Row(TypedDict):
    """One sampler on one world: mean reward of a round at delay 1 and at `delay`, and how they compare.

    ratio        reward_delayed / reward_1
    upper_bound  mean reward if the best candidate were always served
    """

    seed: int
    sampler: str
    rounds: int
    delay: int
    reward_1: float
    reward_delayed: float
    ratio: float
    upper_bound: float


def delay_table(
    seeds: Sequence[int],
    *,
    rounds: int = 20_000,
    delay: int = 2_000,
    alpha: float = 0.3,
    samplers: Mapping[str, Sampler] = SAMPLERS,
) -> list[Row]:
    """Play centred Diag-LinUCB on the clusters world of each seed, with each sampler, at delay 1 and at `delay`.

    With delay R, rewards are learned together after every R requests, and scores stay frozen in between.
    """
    rows: list[Row] = []
    for seed in seeds:
        world = clusters(seed)
        encoder = Encoder(world)
        for name, sampler in samplers.items():
            prompt, late = (
                _play(world, encoder, sampler, rounds=rounds, seed=seed, alpha=alpha, refresh=refresh)
                for refresh in (1, delay)
            )
            rows.append(row_of(name, seed, rounds, delay, prompt, late))
    return rows


def row_of(sampler: str, seed: int, rounds: int, delay: int, prompt: Simulation, late: Simulation) -> Row:
    """The comparison of one sampler played at delay 1 and at `delay`."""
    return Row(
        seed=seed,
        sampler=sampler,
        rounds=rounds,
        delay=delay,
        reward_1=prompt.reward,
        reward_delayed=late.reward,
        ratio=late.reward / prompt.reward,
        upper_bound=prompt.upper_bound,
    )


def _play(
    world: World, encoder: Encoder, sampler: Sampler, *, rounds: int, seed: int, alpha: float, refresh: int
) -> Simulation:
    learner = DiagLinUCB(len(world.item_ids), encoder.n_slots, alpha=alpha, variant="centred", edges=encoder.edges)
    return simulate(world, Learning(learner), rounds, seed, refresh, sampler=sampler, encoder=encoder)
