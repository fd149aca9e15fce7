"""Traffic: a world's users over HTTP, the same as in process, and a delay in which parameters stand still."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.simulation import Uniform, clusters, digits, shop, simulate
from load_tests.client import Client
from load_tests.server import serve
from load_tests.traffic import RequestFailed, Traffic, check, play
from load_tests.worlds import SAMPLER_KEY


@pytest.mark.parametrize("world", [clusters(3, n_users=200), shop(3, n_users=200)], ids=["clusters", "shop"])
def test_users_and_candidates_are_those_of_a_simulation_in_process(world):
    """The best candidate of each request, new items of the shop included, and the total of rewards that it learned."""
    with serve() as server, Client(server.url) as client:
        traffic = Traffic(client, world, seed=7)
        played = play(traffic, 240, delay=40, batch=17)
        traffic.wait_until_learned()
        learned = check(client.get("/v1/surfaces/default"), 200)
    assert played.best.tolist() == simulate(world, Uniform(), 240, 7).best.tolist()
    assert (played.chosen <= played.best).all()
    assert (learned["impressions"], learned["reward"]) == (240, played.rewards.sum())


def test_while_rewards_are_held_back_parameters_stand_still_and_move_once_they_are_posted():
    """An argmax over ten equal scores serves the first item to everyone, until it has learned anything at all."""
    with serve(env={SAMPLER_KEY: "greedy"}) as server, Client(server.url) as client:
        traffic = Traffic(client, digits(0), seed=1, deferred=True)
        held = traffic.ask(60) + traffic.ask(1) + traffic.ask(60)
        assert {one.item for one in held} == {"0"}
        traffic.post(held)
        traffic.wait_until_learned()
        assert {one.item for one in traffic.ask(60)} - {"0"}
        traffic.posted += 1
        with pytest.raises(TimeoutError, match="121 of 122 impressions"):
            traffic.wait_until_learned(timeout_s=0.0)


@pytest.mark.parametrize(("delay", "batch"), [(1, 2), (5, 0), (5000, 1025)])
def test_a_batch_is_at_least_1_and_at_most_the_delay_and_what_the_route_takes(delay, batch):
    with pytest.raises(ValueError, match=f"batch must be 1 to delay = {delay} and at most 1024, got {batch}"):
        play(None, 10, delay=delay, batch=batch)


def test_an_answer_with_another_status_is_shown():
    with pytest.raises(RequestFailed, match=r"answer 422 where 202 was due: no such item"):
        check((422, b"no such item"), 202)
    assert check((202, b'{"accepted":2}'), 202) == {"accepted": 2}


def test_expected_reward_of_a_random_choice_is_the_mean_over_candidates():
    with serve() as server, Client(server.url) as client:
        (one,) = Traffic(client, digits(0), seed=1).ask()
    assert (one.random, one.best) == (pytest.approx(0.1), 1.0)
    assert one.propensity == pytest.approx(0.1)
    assert one.reward == one.chosen
    assert np.isin(one.item, [str(i) for i in range(10)])
