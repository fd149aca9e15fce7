"""A server that is killed and started again on its port, and clients that go on meanwhile."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from load_tests.client import Client
from tests.ledger import Ledger, Post, Reported
from tests.service.processes import ROOT, environment

ITEMS = [f"item{i}" for i in range(12)]
FEATURES = [f"f={i}" for i in range(30)]
VALUES = (0.0, 0.25, 0.5, 1.0)
READY = b" serves on http://"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Crashing:
    """`banditd serve` on one port and one data directory for all its lives; ready within a block, and gone after it.

    variant   of tests.service.variants
    """

    def __init__(self, data: Path, variant: str = "sound") -> None:
        self.data, self.port = data, free_port()
        self._words = ("-m", "tests.service.variants", variant)
        self._stderr = data.with_suffix(".stderr")
        self._stderr.touch()

    def __enter__(self) -> Crashing:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *fault: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def start(self) -> None:
        """Start a life; it need not get ready."""
        words = [sys.executable, *self._words, "serve", "--port", str(self.port), "--data", str(self.data)]
        with self._stderr.open("ab") as stderr:
            self._seen = stderr.tell()
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, cwd=ROOT, env=environment()
            )

    def wait_ready(self) -> None:
        """Wait until this life answers."""
        while READY not in self._stderr.read_bytes()[self._seen :]:
            assert self._process.poll() is None, self.stderr
            time.sleep(0.005)

    def kill(self) -> None:
        """End this life as a power cut would, but for the page cache."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Ask for the end; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)


class Player(threading.Thread):
    """A client that asks, reports, and sends what was not acknowledged again, at about so many events a second."""

    def __init__(self, url: str, ledger: Ledger, seed: int, events_s: float) -> None:
        super().__init__(daemon=True)
        self._client = Client(url, timeout_s=20.0)
        self._ledger, self._rng, self._events_s = ledger, random.Random(seed), events_s
        self._stopping = threading.Event()
        self._retry: list[Post] = []
        self.fault: BaseException | None = None

    def stop(self) -> None:
        """Let every post be acknowledged, then end."""
        self._stopping.set()
        self.join()
        if self.fault is not None:
            raise self.fault

    def run(self) -> None:
        try:
            began, sent = time.monotonic(), 0
            while not self._stopping.is_set():
                sent += self._round()
                time.sleep(max(0.0, sent / self._events_s - (time.monotonic() - began)))
            while self._retry:
                self._send(self._retry.pop())
        except BaseException as fault:
            self.fault = fault
        finally:
            self._client.close()

    def _ask(self, path: str, body: object) -> dict[str, Any] | None:
        """The reply of a request that was carried out; None where nobody knows."""
        try:
            status, answer = self._client.post(path, body)
        except (ConnectionError, TimeoutError):
            time.sleep(0.02)
            return None
        if status == 503:
            time.sleep(0.02)
            return None
        assert status in (200, 202), (status, answer)
        reply: dict[str, Any] = msgspec.json.decode(answer)
        return reply

    def _round(self) -> int:
        """One batch of decisions and the feedback for it; the number of events sent."""
        rng, ledger = self._rng, self._ledger
        requests = [self._request() for _ in range(15)]
        ledger.asked(len(requests))
        reply = self._ask("/v1/recommend/batch", {"requests": requests})
        if reply is None:
            return 0
        ledger.answered(requests, reply["decisions"])
        waiting = [decision for decision in reply["decisions"] if rng.random() < 0.9]
        sent = 0
        while waiting:
            some, waiting = waiting[:4], waiting[4:]
            post = ledger.post((one["decision_id"], self._events(one)) for one in some)
            sent += sum(len(events) for _, events in post.parts)
            self._send(post)
        if rng.random() < 0.2 and not self._retry:
            # As a client does that lost the answer.
            self._send(post)
        if self._retry:
            self._send(self._retry.pop(rng.randrange(len(self._retry))))
        return sent

    def _send(self, post: Post) -> None:
        reply = self._ask("/v1/feedback", post.body)
        if reply is None:
            self._retry.append(post)
        else:
            self._ledger.acknowledged(post, reply)

    def _request(self) -> dict[str, Any]:
        rng = self._rng
        features = {name: rng.choice((0.25, 0.5, 1.0)) for name in rng.sample(FEATURES, 3)}
        request = {"user": f"u{rng.randrange(500)}", "features": features, "items": rng.sample(ITEMS, 6), "n": 2}
        return request | ({"deferred": True} if rng.random() < 0.2 else {})

    def _events(self, decision: dict[str, Any]) -> list[Reported]:
        events = [Reported("impression")] if self._rng.random() < 0.3 else []
        for item in decision["items"]:
            # A value that a later report repeats: the first one counts, and order between posts is not known.
            value = VALUES[sum(map(ord, decision["decision_id"] + item["id"])) % len(VALUES)]
            if self._rng.random() < 0.8:
                events.append(Reported("reward", item["id"], value))
        return events or [Reported("impression", decision["items"][0]["id"])]
