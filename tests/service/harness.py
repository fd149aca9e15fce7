"""A whole server in this process: node and application on an event loop of their own, asked from the test's thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bandits.records import Entry, decode_frame
from service.app import create_app
from service.log import Frame
from service.node import Node
from service.settings import Settings, load

T = TypeVar("T")

SURFACES = """
[surfaces.home]
[surfaces.shop]
[[surfaces.shop.rewards]]
name = "click"
weight = 1.0
[[surfaces.shop.rewards]]
name = "stars"
range = [-5.0, 5.0]
weight = 0.5
[[surfaces.shop.rewards]]
name = "seconds"
range = [0.0, 60.0]
weight = 0.01
clip = true
"""
"""Two surfaces, the second with three rewards: a plain one, one with a sign, one that is clipped."""

JSON = {"content-type": "application/json"}
HOT = ["/v1/recommend", "/v1/recommend/batch", "/v1/feedback"]


def settings_of(data: Path, toml: str = "") -> Settings:
    """Settings of a data directory and a configuration text."""
    file = data.with_suffix(".toml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(toml)
    return load(str(file), {}, {"server.data": str(data)}).settings


class Server:
    """A running server; requests go through its whole ASGI application."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.app = create_app(node)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    def start(self) -> None:
        """Run until ready; raises what refused the start."""
        self._thread.start()
        self._started.wait()
        if self.node.fault is not None:
            self._thread.join()
            raise self.node.fault

    def stop(self) -> None:
        # A server that halted has closed its loop by itself.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end.set)
        self.join()

    def join(self) -> None:
        """Wait for the end of a server that ends by itself."""
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()

        def ended() -> None:
            self._started.set()
            self._end.set()

        self.node.on_ready, self.node.on_end = self._started.set, ended
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client, self.node.run():
            self._client = client
            await self._end.wait()

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.on_loop(self._client.request(method, path, **given))

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of a coroutine, run where the server runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> httpx.Response:
        return self.request("POST", path, json=body)

    def recommend(self, **body: Any) -> dict[str, Any]:
        """The decision for a request that must be answered."""
        return answered(self.post("/v1/recommend", body), 200)

    def recommend_many(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        decisions: list[dict[str, Any]] = []
        for start in range(0, len(requests), 1024):
            body = {"requests": requests[start : start + 1024]}
            decisions += answered(self.post("/v1/recommend/batch", body), 200)["decisions"]
        return decisions

    def feedback(self, receipt: str, *events: dict[str, Any]) -> dict[str, Any]:
        return answered(self.post("/v1/feedback", {"receipt": receipt, "events": list(events)}), 202)

    def reward(self, decision: dict[str, Any], value: float, item: str | None = None) -> None:
        """Reward an item of a decision, its first one by default."""
        item = decision["items"][0]["id"] if item is None else item
        self.feedback(decision["receipt"], {"kind": "reward", "item": item, "value": value})

    def upload(self, graph: bytes, surface: str = "default") -> httpx.Response:
        return self.request(
            "PUT",
            f"/v1/surfaces/{surface}/graph",
            content=graph,
            headers={"content-type": "application/octet-stream"},
        )

    def settle(self) -> None:
        """Wait until all that was answered so far is in the log, folded, and in the scores."""
        node = self.node
        while node.writer.queued_bytes or any(
            node.replica.next_of(p) < node.data.log.bounds(p)[1] for p in range(node.data.log.partitions)
        ):
            time.sleep(0.002)

    def frames(self) -> list[Frame]:
        """All frames of the log, partition by partition."""
        self.settle()
        log = self.node.data.log
        return [frame for p in range(log.partitions) for frame in log.read(p, log.bounds(p)[0], 1_000_000)]

    def entries(self) -> list[Entry]:
        return [entry for frame in self.frames() for entry in decode_frame(frame.body)]

    def cells(self, surface: str = "default", query: str = "") -> dict[str, Any]:
        self.settle()
        return answered(self.get(f"/v1/surfaces/{surface}/cells{query}"), 200)

    def sums(self, surface: str = "default", query: str = "") -> dict[tuple[str, int], tuple[float, float, float]]:
        """(arm, slot) -> weight_sq_sum, weight_sum, reward_sum."""
        return {
            (cell["arm"], cell["slot"]): (cell["weight_sq_sum"], cell["weight_sum"], cell["reward_sum"])
            for cell in self.cells(surface, query)["cells"]
        }


def answered(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: httpx.Response, status: int, path: str | None = None) -> dict[str, Any]:
    """The problem document of a refusal, whose form is checked; path of its only error where it has one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"]
    assert problem["detail"]
    if path is None:
        assert "errors" not in problem
    else:
        assert [error["path"] for error in problem["errors"]] == [path], problem
    return problem


@contextmanager
def running(data: Path, toml: str = "") -> Iterator[Server]:
    """A server on a data directory, ready, and stopped in the end."""
    server = Server(Node(settings_of(data, toml)))
    server.start()
    try:
        yield server
    finally:
        server.stop()
