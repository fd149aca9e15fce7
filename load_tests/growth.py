"""Memory of a server under half of its load, minute by minute, and how much of it are dedupe bits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypedDict

import msgspec

from load_tests.client import Client
from load_tests.load import Loader, Plan, loader
from load_tests.process import resident_bytes
from load_tests.throughput import PATH, graph_server, make_bodies, make_graph

MIB = 1 << 20
CONNECTIONS = 8
N_SERVED = 10
BITS = 1 + N_SERVED * 2
"""Dedupe bits of a decision with one reward name: its own, and for each position an impression's and a reward's."""
CHUNK_BITS = 256
CHUNK_BYTES = 280
"""What a chunk of 32 bytes comes to: 84 in the fold's table with its key and hash slots, 196 in the store in memory."""
REPORTED = 50
"""Decisions a second whose feedback is posted."""
_METRIC = r"^{name} (\S+)$"


class Row(TypedDict):
    """At the end of a minute; sizes in MiB.

    dedupe_predicted  from the number of decisions alone
    dedupe            as the server measures it
    rest              resident memory beside the dedupe bits
    grown             of `rest` since the warm-up, over what it was then
    """

    minute: int
    decisions: int
    resident: float
    dedupe_predicted: float
    dedupe: float
    rest: float
    grown: float


class Report(TypedDict):
    rows: list[Row]
    requests_s: float
    warm_up_minutes: int
    grown: float


def growth(
    minutes: int = 20,
    warm_up: int = 7,
    minute_s: float = 60.0,
    requests: int = 20_000,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Find by `requests` the most that a server answers, then load it with half of that. Needs Linux's /proc."""
    bodies = make_bodies()
    rows: list[Row] = []
    with graph_server(make_graph(n_clusters=32, row_size=200, n_items=2000)) as server, loader() as load:
        most = load.run(Plan(server.url, PATH, bodies, CONNECTIONS, requests)).requests_s
        with Client(server.url) as client:
            for minute in range(1, warm_up + minutes + 1):
                _half_load(load, client, bodies, most / 2, minute_s)
                rows.append(_look(client, server.pid, minute, rows, warm_up))
                progress(f"minute {minute}: {rows[-1]['resident']:.1f} MiB, beside dedupe bits {rows[-1]['rest']:.1f}")
    return Report(rows=rows, requests_s=most / 2, warm_up_minutes=warm_up, grown=rows[-1]["grown"])


def _half_load(load: Loader, client: Client, bodies: list[str], requests_s: float, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while (started := time.monotonic()) < ends:
        load.run(Plan(client.url, PATH, bodies, CONNECTIONS, max(1, int(requests_s) - REPORTED)))
        _report(client, bodies)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - started)))


def _report(client: Client, bodies: list[str]) -> None:
    """Decisions of one second with their feedback: each item seen, the first one rewarded."""
    requests = "[" + ",".join(bodies[:REPORTED]) + "]"
    status, answer = client.post(f"{PATH}/batch", f'{{"requests":{requests}}}'.encode())
    if status != 200:
        raise RuntimeError(f"{PATH}/batch answered {status}: {answer.decode()}")
    batch = [
        {
            "receipt": decision["receipt"],
            "events": [{"kind": "impression"}, {"kind": "reward", "item": decision["items"][0]["id"], "value": 1.0}],
        }
        for decision in msgspec.json.decode(answer)["decisions"]
    ]
    status, answer = client.post("/v1/feedback", {"batch": batch})
    if status != 202:
        raise RuntimeError(f"/v1/feedback answered {status}: {answer.decode()}")


def _look(client: Client, pid: int, minute: int, rows: list[Row], warm_up: int) -> Row:
    metrics = client.get("/metrics")[1].decode()
    decisions = int(_metric(metrics, r'banditd_decisions_total\{mode="explore",surface="default"\}'))
    dedupe = _metric(metrics, r'banditd_state_bytes\{part="dedupe"\}') / MIB
    resident = resident_bytes(pid) / MIB
    rest = resident - dedupe
    warm = rows[warm_up - 1]["rest"] if minute > warm_up else rest
    return Row(
        minute=minute,
        decisions=decisions,
        resident=resident,
        dedupe_predicted=decisions * BITS / CHUNK_BITS * CHUNK_BYTES / MIB,
        dedupe=dedupe,
        rest=rest,
        grown=rest / warm - 1,
    )


def _metric(metrics: str, name: str) -> float:
    found = re.search(_METRIC.format(name=name), metrics, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/metrics has no {name}")
    return float(found[1])
