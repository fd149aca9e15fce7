"""Simulation worlds: their truth is true, and the loop measures against it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bandits.names import feature_slot
from bandits.sampling import Sampler
from bandits.simulation import WORLDS, Learning, Oracle, Request, Uniform, World, parse_policy, simulate
from bandits.simulation.encoding import Encoder

ARGMAX = Sampler(kind="greedy", epsilon=0.0)
every_world = pytest.mark.parametrize("factory", WORLDS.values(), ids=WORLDS)
Factory = Callable[[int], World]


class Recorder(Uniform):
    """Keeps how many rounds had been served at each learning step."""

    def __init__(self) -> None:
        self.served: list[Request] = []
        self.learned_at: list[int] = []

    def scores(self, request: Request) -> np.ndarray:
        self.served.append(request)
        return super().scores(request)

    def learn(self, request: Request, item: int, reward: float) -> None:
        assert item in request.candidates
        self.learned_at.append(len(self.served))


@every_world
def test_truth_is_the_mean_of_the_rewards_drawn(factory: Factory):
    """2,000 draws of each of 20 pairs: within 5 standard errors."""
    world, rng = factory(3), np.random.default_rng(0)
    users = world.users(rng, 20)
    truth = world.mean_reward(users)
    for row, user in enumerate(users.index.tolist()):
        item = int(rng.integers(len(world.item_ids)))
        drawn = np.mean([world.reward(rng, user, item) for _ in range(2000)])
        rate = truth[row, item]
        assert abs(drawn - rate) <= 5 * np.sqrt(rate * (1 - rate) / 2000)


@every_world
def test_shapes_of_a_world(factory: Factory):
    world = factory(0)
    users = world.users(np.random.default_rng(1), 7)
    assert users.embedding.dtype == np.float32
    assert users.embedding.shape == (7, world.dim)
    assert world.mean_reward(users).shape == (7, len(world.item_ids))
    assert len(set(world.item_ids)) == len(world.item_ids) == len(world.arrival)
    assert (world.graph is None) != (world.feature_names is None)


@every_world
def test_one_seed_gives_one_world_and_one_game(factory: Factory):
    first, second, other = (
        simulate(factory(seed), surface_default(factory(seed)), 200, seed).rewards for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def surface_default(world: World) -> Learning:
    encoder = Encoder(world)
    policy = parse_policy("diag_linucb", len(world.item_ids), encoder.n_slots, encoder.edges)
    assert isinstance(policy, Learning)
    return policy


@every_world
def test_the_oracle_has_no_regret_and_random_has_some(factory: Factory):
    """Scores are float32, so that the oracle may miss what float32 cannot tell apart."""
    world = factory(1)
    oracle = simulate(world, Oracle(world), 500, 2, sampler=ARGMAX)
    random = simulate(world, Uniform(), 500, 2)
    assert oracle.regret == pytest.approx(0.0, abs=500 * 1e-6)
    assert oracle.upper_bound == random.upper_bound
    assert random.regret > 100


@pytest.mark.parametrize("refresh", [1, 7, 25])
def test_rewards_are_learned_together_after_each_refresh(refresh: int):
    recorder = Recorder()
    simulate(WORLDS["digits"](0), recorder, 50, 0, refresh)
    whole = 50 // refresh
    assert recorder.learned_at == [refresh * (1 + i // refresh) for i in range(whole * refresh)]


def test_items_of_the_shop_are_served_from_their_arrival_on():
    world, recorder = WORLDS["shop"](0), Recorder()
    simulate(world, recorder, 250, 0)
    first_new = len(world.item_ids) - 40
    assert [len(recorder.served[at].candidates) - first_new for at in (0, 99, 100, 199, 200)] == [0, 0, 1, 1, 2]


def test_graph_worlds_offer_the_items_of_the_users_clusters():
    world = WORLDS["clusters"](0)
    assert world.graph is not None
    encoder = Encoder(world)
    users = world.users(np.random.default_rng(0), 1)
    slots, weights, candidates = encoder.context(int(users.index[0]), users.embedding[0])
    rows = [world.graph.row_item[world.graph.row_start[c] : world.graph.row_start[c + 1]] for c in slots]
    assert candidates.tolist() == sorted(set(np.concatenate(rows).tolist()))
    assert weights.sum() == pytest.approx(1.0, abs=1e-3)
    assert encoder.edges is not None
    assert encoder.edges.sum() == 64 * 32


def test_shop_contexts_are_its_named_features():
    world = WORLDS["shop"](0)
    assert world.feature_names is not None
    users = world.users(np.random.default_rng(0), 1)
    slots, weights, _ = Encoder(world).context(int(users.index[0]), users.embedding[0])
    hashed = sorted(feature_slot(name) for name in world.feature_names)
    expected = {
        hashed.index(feature_slot(name)): value
        for name, value in zip(world.feature_names, users.embedding[0].tolist(), strict=True)
        if value
    }
    assert dict(zip(slots.tolist(), weights.tolist(), strict=True)) == pytest.approx(expected, abs=2**-16)


def test_centred_diag_linucb_learns_the_digits():
    """Service defaults, refreshed at every request, 20,000 requests; random is right in one of ten."""
    world = WORLDS["digits"](0)
    outcome = simulate(world, surface_default(world), 20_000, 0)
    assert outcome.rewards[:2000].mean() >= 0.85
    assert outcome.rewards[-2000:].mean() >= 0.955


def test_a_curve_splits_all_rounds():
    outcome = simulate(WORLDS["digits"](0), Uniform(), 30, 0)
    curve = outcome.curve(points=4)
    assert [stop for stop, _ in curve] == [7, 15, 22, 30]
    assert curve[0][1] == outcome.rewards[:7].mean()
    assert len(outcome.curve(points=100)) == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("greedy", "policy must be one of uniform, full_linucb, diag_linucb, got 'greedy'"),
        ("diag_linucb:alpha", "policy options are key=value"),
        ("diag_linucb:alpha=1,alpha=2", "each once"),
        ("diag_linucb:alpha=x", "policy option alpha must be a number, got 'x'"),
        ("diag_linucb:alpha=nan", "alpha must be finite"),
        ("diag_linucb:variant=none", "variant must be one of published, centred, weights"),
        ("diag_linucb:beta=1", "policy diag_linucb takes alpha, prior, variant, got 'beta'"),
        ("full_linucb:variant=centred", "policy full_linucb takes alpha, prior, got 'variant'"),
        ("uniform:alpha=1", "policy uniform takes no options, got 'alpha'"),
    ],
)
def test_bad_policies_say_what_is_wrong(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_policy(text, 2, 2, None)


def test_rounds_and_refresh_are_at_least_one():
    world = WORLDS["digits"](0)
    with pytest.raises(ValueError, match="rounds must be >= 1, got 0"):
        simulate(world, Uniform(), 0, 0)
    with pytest.raises(ValueError, match="refresh must be >= 1, got 0"):
        simulate(world, Uniform(), 1, 0, 0)
