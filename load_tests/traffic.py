"""A world's users asking a server over HTTP, and the rewards that the world draws for what they are served."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bandits.simulation import Simulation, Users, World
from bandits.simulation.encoding import Encoder
from load_tests.client import Client

MAX_BATCH = 1024
_BLOCK = 1024
_POLL_S = 0.002


class RequestFailed(Exception):
    """The server did not answer a request with the status that it should; the message holds its answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, answered, and the reward that the world drew for it.

    reward      posted with the receipt, unless it is held back
    chosen      true mean reward of the item served
    best        largest true mean reward among the candidates
    random      average true mean reward of the candidates
    propensity  of the item served
    """

    item: str
    receipt: str
    propensity: float
    reward: float
    chosen: float
    best: float
    random: float


class Traffic:
    """One client of the surface `default`, which asks for one item at a time.

    client    of a server that nobody else uses
    seed      of users and rewards: with the same seed `bandits.simulation.simulate` meets the same users
    deferred  whether decisions count only once their reward arrives, so that a reward held back changes nothing

    Makes the world's graph, where it has one, the surface's. Raises RequestFailed.
    """

    def __init__(self, client: Client, world: World, seed: int, *, deferred: bool = False) -> None:
        self._client, self._world, self._deferred = client, world, deferred
        self._encoder = Encoder(world)
        seeds = np.random.SeedSequence(seed).spawn(3)
        self._user_rng, self._reward_rng = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[2])
        self._place = {item: i for i, item in enumerate(world.item_ids)}
        self._arrival = np.sort(world.arrival)
        self._ahead: list[tuple[int, NDArray[np.float32], NDArray[np.float64]]] = []
        self._contexts: dict[int, dict[str, object]] = {}
        self._listed: tuple[int, msgspec.Raw] = (-1, msgspec.Raw(b""))
        self.asked = self.posted = 0
        self._reward_sum = 0.0
        if world.graph is not None:
            check(client.put("/v1/surfaces/default/graph", world.graph.to_bytes()), 200)

    def ask(self, n: int = 1) -> list[Outcome]:
        """The next n users ask, n <= 1024, all with the same parameters; several go as one batch."""
        visits = [self._next_user() for _ in range(n)]
        bodies = [self._body(user, embedding, self.asked + i) for i, (user, embedding, _) in enumerate(visits)]
        if n == 1:
            decisions = [check(self._client.post("/v1/recommend", bodies[0]), 200)]
        else:
            answer = check(self._client.post("/v1/recommend/batch", {"requests": bodies}), 200)
            decisions = answer["decisions"]
        outcomes = []
        for (user, embedding, truth), decision in zip(visits, decisions, strict=True):
            served = decision["items"][0]
            place = self._place[served["id"]]
            reward = self._world.reward(self._reward_rng, user, place)
            possible = truth[self._candidates(user, embedding, self.asked)]
            outcome = Outcome(
                item=served["id"],
                receipt=decision["receipt"],
                propensity=served["propensity"],
                reward=reward,
                chosen=float(truth[place]),
                best=float(possible.max()),
                random=float(possible.mean()),
            )
            outcomes.append(outcome)
            self.asked += 1
        return outcomes

    def post(self, outcomes: Sequence[Outcome]) -> None:
        """Post the rewards of outcomes; they are in the server's log when this returns."""
        batch = [
            {"receipt": one.receipt, "events": [{"item": one.item, "kind": "reward", "value": one.reward}]}
            for one in outcomes
        ]
        for start in range(0, len(batch), MAX_BATCH):
            part = batch[start : start + MAX_BATCH]
            body: object = part[0] if len(part) == 1 else {"batch": part}
            check(self._client.post("/v1/feedback", body), 202)
        self.posted += len(outcomes)
        self._reward_sum += sum(one.reward for one in outcomes)

    def wait_until_learned(self, timeout_s: float = 60.0) -> None:
        """Return once everything posted is in the parameters that serve. Raises TimeoutError.

        The surface's totals are published together with its parameters. Rewards must be multiples of 2**-15, as 0 and
        1 are, for their sum to be met exactly.
        """
        deadline = time.monotonic() + timeout_s
        wanted = self.posted if self._deferred else self.asked
        while True:
            found = check(self._client.get("/v1/surfaces/default"), 200)
            if found["impressions"] == wanted and found["reward"] == self._reward_sum:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{found['impressions']} of {wanted} impressions learned after {timeout_s} s")
            time.sleep(_POLL_S)

    def _next_user(self) -> tuple[int, NDArray[np.float32], NDArray[np.float64]]:
        if not self._ahead:
            users: Users = self._world.users(self._user_rng, _BLOCK)
            rows = zip(users.index.tolist(), users.embedding, self._world.mean_reward(users), strict=True)
            self._ahead = list(rows)[::-1]
        return self._ahead.pop()

    def _body(self, user: int, embedding: NDArray[np.float32], at: int) -> dict[str, object]:
        body = self._contexts.get(user)
        if body is None:
            body = self._contexts[user] = {"user": f"user-{user}", "n": 1, **self._context(embedding)}
            if self._deferred:
                body["deferred"] = True
        return body if self._world.graph is not None else {**body, "items": self._items(at)}

    def _context(self, embedding: NDArray[np.float32]) -> dict[str, object]:
        if self._world.graph is not None:
            return {"embedding": msgspec.Raw(msgspec.json.encode(embedding.tolist()))}
        names = self._world.feature_names or ()
        features = {name: value for name, value in zip(names, embedding.tolist(), strict=True) if value}
        return {"features": msgspec.Raw(msgspec.json.encode(features))}

    def _items(self, at: int) -> msgspec.Raw:
        """The items that request number `at` can be served, as JSON."""
        arrived = int(np.searchsorted(self._arrival, at, side="right"))
        if self._listed[0] != arrived:
            here = [item for item, since in zip(self._world.item_ids, self._world.arrival, strict=True) if since <= at]
            self._listed = (arrived, msgspec.Raw(msgspec.json.encode(here)))
        return self._listed[1]

    def _candidates(self, user: int, embedding: NDArray[np.float32], at: int) -> NDArray[np.intp]:
        candidates = self._encoder.context(user, embedding)[2]
        return candidates[self._world.arrival[candidates] <= at]


def play(traffic: Traffic, requests: int, *, delay: int = 1, batch: int = 1) -> Simulation:
    """Play requests over HTTP, rewards posted together after every `delay` of them; the last ones are not posted.

    batch  requests asked at once, at most delay

    With delay 1 each reward is posted before the next request is sent, and reaches the scores as soon as the server
    refreshes them. With a longer one the parameters stand still until the server has learned all that was posted.
    Raises RequestFailed, TimeoutError.
    """
    if not 1 <= batch <= min(delay, MAX_BATCH):
        raise ValueError(f"batch must be 1 to delay = {delay} and at most {MAX_BATCH}, got {batch}")
    done: list[Outcome] = []
    held: list[Outcome] = []
    while len(done) < requests:
        served = traffic.ask(min(batch, requests - len(done), delay - len(held)))
        done += served
        held += served
        if len(held) == delay:
            traffic.post(held)
            held = []
            if delay > 1:
                traffic.wait_until_learned()
    return Simulation(
        np.array([one.reward for one in done]),
        np.array([one.chosen for one in done]),
        np.array([one.best for one in done]),
    )


def check(answer: tuple[int, bytes], wanted: int) -> Any:
    """The JSON of an answer. Raises RequestFailed where its status is not `wanted`."""
    status, body = answer
    if status != wanted:
        raise RequestFailed(f"answer {status} where {wanted} was due: {body[:500].decode(errors='replace')}")
    return msgspec.json.decode(body)
