"""Requests a second of POST /v1/recommend beside those of a bare FastAPI + pydantic endpoint."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict

import msgspec
import numpy as np

from bandits.arrays import F32
from bandits.graph import Graph
from load_tests.client import Client
from load_tests.load import Loader, Outcome, Plan, loader
from load_tests.process import cpu_seconds
from load_tests.server import Server, run, serve

PATH = "/v1/recommend"
DIMENSIONS = 64
TOP_K = 8
N_BODIES = 1000
SETTLE_S = 0.5
"""After a run, so that what the server still folds counts as its CPU time and does not disturb the other's run."""


class Row(TypedDict):
    """Medians over the pairs.

    server_cpu_us  CPU time of all the server's threads a request; None where the system does not tell
    errors         answers that were not 2xx, over all pairs
    """

    server: str
    requests_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float | None
    answer_bytes: float
    errors: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one server."""

    outcome: Outcome
    cpu_us: float | None


class Report(TypedDict):
    """Both servers, and ours over the other: median over pairs of requests/s, and of the CPU time they take."""

    rows: list[Row]
    ratio: float
    ratio_quartile_1: float
    ratio_quartile_3: float
    cpu_ratio: float | None
    candidates: float
    pairs: int
    connections: int
    requests: int


def make_graph(n_clusters: int = 256, row_size: int = 640, n_items: int = 200_000, seed: int = 3) -> Graph:
    """A random graph; contexts of unit vectors have TOP_K clusters in it, with row_size edges each."""
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.choice(n_items, row_size, replace=False)) for _ in range(n_clusters)]
    return Graph.of(
        unit_vectors(rng, n_clusters),
        tau=0.1,
        top_k=TOP_K,
        items=[f"item-{i:06d}" for i in range(n_items)],
        row_start=np.arange(0, (n_clusters + 1) * row_size, row_size),
        row_item=np.concatenate(rows).astype(np.int32),
    )


def make_bodies(n: int = N_BODIES, seed: int = 4) -> list[str]:
    """Bodies of requests for 10 items, each of another user."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(rng, n).astype(float).round(5).tolist()
    bodies = [{"user": f"user-{i}", "embedding": vector, "n": 10} for i, vector in enumerate(vectors)]
    return [msgspec.json.encode(body).decode() for body in bodies]


def unit_vectors(rng: np.random.Generator, n: int) -> F32:
    """n random directions, float32 (n, DIMENSIONS)."""
    vectors = rng.normal(size=(n, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@contextmanager
def graph_server(graph: Graph, config: str | None = None) -> Iterator[Server]:
    """Our server, serving from a graph, with everything at its default."""
    with serve(config=config) as server:
        with Client(server.url) as client:
            status, content = client.put("/v1/surfaces/default/graph", graph.to_bytes())
        if status != 200:
            raise RuntimeError(f"the graph was refused: {status} {content.decode()}")
        yield server


@contextmanager
def baseline_server(answer: bytes) -> Iterator[Server]:
    """The bare endpoint, with `answer` as its constant."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.json")
        path.write_bytes(answer)
        with run([sys.executable, "-m", "load_tests.baseline", str(path)]) as server:
            yield server


def throughput(
    pairs: int = 15, requests: int = 20_000, connections: int = 32, n_clusters: int = 256, n_items: int = 200_000
) -> Report:
    """Run both servers at once and load them in turn, `requests` each a pair; which one goes first alternates."""
    bodies = make_bodies()
    with graph_server(make_graph(n_clusters, n_items=n_items)) as ours:
        with Client(ours.url) as client:
            answers = [client.post(PATH, body.encode()) for body in bodies[:20]]
        for status, content in answers:
            if status != 200:
                raise RuntimeError(f"{PATH} answered {status}: {content.decode()}")
        candidates = median(msgspec.json.decode(content)["n_candidates"] for _, content in answers)
        with baseline_server(answers[0][1]) as baseline, loader() as load:
            servers = {"banditd": ours, "FastAPI + pydantic": baseline}
            runs = _run_pairs(load, servers, bodies, pairs, requests, connections)
    mine, theirs = runs.values()
    ratios = [a.outcome.requests_s / b.outcome.requests_s for a, b in zip(mine, theirs, strict=True)]
    rows = [_row(name, measured) for name, measured in runs.items()]
    cpu, cpu_theirs = (row["server_cpu_us"] for row in rows)
    low, high = np.percentile(ratios, (25, 75)).tolist()
    return Report(
        rows=rows,
        ratio=median(ratios),
        ratio_quartile_1=low,
        ratio_quartile_3=high,
        cpu_ratio=None if cpu is None or cpu_theirs is None else cpu_theirs / cpu,
        candidates=candidates,
        pairs=pairs,
        connections=connections,
        requests=requests,
    )


def _run_pairs(
    load: Loader, servers: dict[str, Server], bodies: list[str], pairs: int, requests: int, connections: int
) -> dict[str, list[Measured]]:
    runs: dict[str, list[Measured]] = {name: [] for name in servers}
    for pair in range(-1, pairs):
        order = list(servers) if pair % 2 else list(servers)[::-1]
        for name in order:
            measured = _measure(load, servers[name], bodies, requests, connections)
            if pair >= 0:  # the first only warms both up
                runs[name].append(measured)
    return runs


def _measure(load: Loader, server: Server, bodies: list[str], requests: int, connections: int) -> Measured:
    before = cpu_seconds(server.pid)
    outcome = load.run(Plan(server.url, PATH, bodies, connections, requests))
    time.sleep(SETTLE_S)
    after = cpu_seconds(server.pid)
    cpu_us = None if before is None or after is None else (after - before) / requests * 1e6
    return Measured(outcome, cpu_us)


def _row(name: str, runs: Sequence[Measured]) -> Row:
    cpu = [run.cpu_us for run in runs if run.cpu_us is not None]
    return Row(
        server=name,
        requests_s=median(run.outcome.requests_s for run in runs),
        p50_ms=median(run.outcome.p50_ms for run in runs),
        p99_ms=median(run.outcome.p99_ms for run in runs),
        server_cpu_us=sum(cpu) / len(cpu) if cpu else None,
        answer_bytes=median(run.outcome.answer_bytes for run in runs),
        errors=sum(sum(run.outcome.errors.values()) for run in runs),
    )
