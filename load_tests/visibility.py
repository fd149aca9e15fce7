"""How long feedback takes to reach the scores, from outside: post a reward, then ask until the answer shows it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import TypedDict

import msgspec
import numpy as np

from load_tests.client import Client
from load_tests.load import Outcome, Plan, loader
from load_tests.server import Server
from load_tests.throughput import PATH, graph_server, make_bodies, make_graph

CONFIG = '[surfaces.default.diag_linucb]\nvariant = "published"\n'
"""There the mean of a cell without rewards is 0, and nothing but a reward moves it."""

GIVE_UP_S = 30.0
POLL_S = 0.0005
_BUCKET = re.compile(r'^banditd_feedback_to_score_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


class Row(TypedDict):
    """From before a reward is posted until an answer that shows it has come.

    load_requests_s  of other recommend requests meanwhile
    """

    load: str
    rewards: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    load_requests_s: float


class Report(TypedDict):
    """server_p99_at_most_s: the bucket of the server's own histogram, over both rows, that holds its p99."""

    rows: list[Row]
    server_rewards: int
    server_p99_at_most_s: float


def visibility(rewards: int = 300, connections: int = 16, n_clusters: int = 256, n_items: int = 200_000) -> Report:
    """Measure a server without other traffic, then one that answers `connections` closed-loop connections as well."""
    with graph_server(make_graph(n_clusters, n_items=n_items), CONFIG) as server, Client(server.url) as client:
        idle = [probe(client, f"idle-{i}") for i in range(rewards)]
        with background(server, connections) as outcomes:
            loaded = [probe(client, f"loaded-{i}") for i in range(rewards)]
        metrics = client.get("/metrics")[1].decode()
    requests_s = sum(o.requests for o in outcomes) / sum(o.seconds for o in outcomes)
    count, bound_s = histogram_p99(metrics)
    return Report(
        rows=[_row("none", idle, 0.0), _row(f"{connections} connections", loaded, requests_s)],
        server_rewards=count,
        server_p99_at_most_s=bound_s,
    )


def probe(client: Client, name: str) -> float:
    """Seconds until a reward for an item and feature of this name shows; RuntimeError after 30."""
    # Deferred decisions are not learned from, so that asking changes nothing.
    ask = {"features": {name: 1.0}, "items": [name], "n": 1, "deferred": True, "explain": True}
    before = _expect(client.post(PATH, ask), 200)
    if before["items"][0]["mean"] != 0.0:
        raise RuntimeError(f"a new item must have mean 0, got {before['items'][0]['mean']}")
    started = time.perf_counter()
    event = {"item": name, "kind": "reward", "value": 1.0}
    _expect(client.post("/v1/feedback", {"receipt": before["receipt"], "events": [event]}), 202)
    while _expect(client.post(PATH, ask), 200)["items"][0]["mean"] == 0.0:
        if time.perf_counter() - started > GIVE_UP_S:
            raise RuntimeError(f"a reward did not reach the scores within {GIVE_UP_S:.0f} s")
        time.sleep(POLL_S)
    return time.perf_counter() - started


@contextmanager
def background(server: Server, connections: int) -> Iterator[list[Outcome]]:
    """Load on a server while the block runs; the outcomes are complete after it."""
    plan = Plan(server.url, PATH, make_bodies(), connections, 2000)
    outcomes: list[Outcome] = []
    stop = Event()
    with loader() as load, ThreadPoolExecutor(1) as pool:

        def repeat() -> None:
            while not stop.is_set():
                outcomes.append(load.run(plan))

        running = pool.submit(repeat)
        try:
            yield outcomes
        finally:
            stop.set()
            running.result()


def histogram_p99(metrics: str) -> tuple[int, float]:
    """Rewards that the server timed, and the upper edge in seconds of the bucket that holds their 99th percentile."""
    buckets = [(float(edge), float(count)) for edge, count in _BUCKET.findall(metrics)]
    total = buckets[-1][1]
    return int(total), next(edge for edge, count in buckets if count >= 0.99 * total)


def _expect(answer: tuple[int, bytes], status: int) -> dict[str, list[dict[str, float]]]:
    if answer[0] != status:
        raise RuntimeError(f"answered {answer[0]} where {status} belongs: {answer[1].decode()}")
    content: dict[str, list[dict[str, float]]] = msgspec.json.decode(answer[1])
    return content


def _row(load: str, seconds: list[float], requests_s: float) -> Row:
    p50, p99, most = (float(q) * 1000 for q in np.percentile(seconds, (50, 99, 100)))
    return Row(load=load, rewards=len(seconds), p50_ms=p50, p99_ms=p99, max_ms=most, load_requests_s=requests_s)
