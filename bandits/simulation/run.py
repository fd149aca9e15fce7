"""Play a policy in a world and compare it with the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandits import checks
from bandits.sampling import Sampler
from bandits.simulation.encoding import Encoder
from bandits.simulation.policy import Policy, Request
from bandits.simulation.world import World

BLOCK = 1024
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Simulation:
    """What happened in n rounds.

    rewards  float64  (n,)  reward drawn in each round
    chosen   float64  (n,)  true mean reward of the item served
    best     float64  (n,)  largest true mean reward among the round's candidates
    """

    rewards: Floats
    chosen: Floats
    best: Floats

    @property
    def reward(self) -> float:
        """Mean reward of a round."""
        return float(self.rewards.mean())

    @property
    def regret(self) -> float:
        """Sum over all rounds of the true mean reward missed."""
        return float((self.best - self.chosen).sum())

    @property
    def upper_bound(self) -> float:
        """Mean reward of a round if the best candidate were always served."""
        return float(self.best.mean())

    def curve(self, points: int = 20) -> list[tuple[int, float]]:
        """Mean reward of up to `points` consecutive stretches, each with the number of rounds played by its end."""
        ends = np.unique(np.linspace(0, len(self.rewards), checks.count("points", points) + 1).astype(int))
        return [
            (int(stop), float(self.rewards[start:stop].mean())) for start, stop in zip(ends[:-1], ends[1:], strict=True)
        ]


def simulate(
    world: World,
    policy: Policy,
    rounds: int,
    seed: int,
    refresh: int = 1,
    *,
    sampler: Sampler | None = None,
    encoder: Encoder | None = None,
) -> Simulation:
    """Play `rounds` requests for one item each.

    seed     of everything random; two policies with one seed meet the same users
    refresh  rounds for which the parameters stay frozen: rewards are learned together after each such stretch
    sampler  draws the item from the scores; None: Sampler(), the service's default
    encoder  of this world, so that several simulations share its work

    Raises ValueError for a count below 1.
    """
    rounds, refresh = checks.count("rounds", rounds), checks.count("refresh", refresh)
    sampler = Sampler() if sampler is None else sampler
    encoder = Encoder(world) if encoder is None else encoder
    user_rng, draw_rng, reward_rng = (np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(3))
    late = world.arrival.max(initial=0) > 0
    rewards, chosen, best = np.empty(rounds), np.empty(rounds), np.empty(rounds)
    waiting: list[tuple[Request, int, float]] = []
    for start in range(0, rounds, BLOCK):
        users = world.users(user_rng, min(BLOCK, rounds - start))
        truth = world.mean_reward(users)
        uniform = draw_rng.random((len(truth), 1, 2))
        for row, user in enumerate(users.index.tolist()):
            at = start + row
            slots, weights, candidates = encoder.context(user, users.embedding[row])
            if late:
                candidates = candidates[world.arrival[candidates] <= at]
            request = Request(user, slots, weights, candidates)
            score = policy.scores(request).astype(np.float32)
            item = int(candidates[sampler.draw(score, 1, uniform[row])[0][0]])
            rewards[at] = world.reward(reward_rng, user, item)
            chosen[at], best[at] = truth[row, item], truth[row, candidates].max()
            waiting.append((request, item, float(rewards[at])))
            if len(waiting) == refresh:
                for event in waiting:
                    policy.learn(*event)
                waiting.clear()
    return Simulation(rewards, chosen, best)
