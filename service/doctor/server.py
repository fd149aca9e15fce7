"""Checks of a running server, by what it says of itself over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from service.doctor.checks import Unsound, raise_first

MAX_CLOCK_OFFSET_S = 300


class Server:
    """Answers of a server, each asked for once. key is sent where there is one."""

    def __init__(self, client: httpx.Client, clock_s: Callable[[], float] = time.time) -> None:
        self._client, self.clock_s = client, clock_s
        self._ready: tuple[httpx.Response, dict[str, Any]] | None = None

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET. Raises Unsound where there is none."""
        try:
            return self._client.get(path)
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise Unsound(f"{self._client.base_url}: {fault}; is `banditd serve` running there?") from fault

    @property
    def ready(self) -> tuple[httpx.Response, dict[str, Any]]:
        """The answer to /readyz and its document; Unsound where it is none of banditd's."""
        if self._ready is None:
            answer = self.get("/readyz")
            try:
                document = answer.json()
                self._ready = answer, {name: document[name] for name in ("status", "degraded", "halted")}
            except (ValueError, TypeError, LookupError) as fault:
                raise Unsound(f"{answer.url}: answered {answer.status_code}, not as banditd does") from fault
        return self._ready


def live(server: Server) -> str:
    """The process answers."""
    answer = server.get("/livez")
    if answer.status_code != 200:
        raise Unsound(f"{answer.url}: answered {answer.status_code}; restart it")
    return "/livez answers"


def ready(server: Server) -> str:
    """Its state is loaded and it takes requests."""
    answer, document = server.ready
    if answer.status_code != 200:
        raise Unsound(f"{answer.url}: answered {answer.status_code}, {document['status']}; wait, or see its messages")
    return f"/readyz says {document['status']}"


def degraded(server: Server) -> str:
    """Everything works as it should."""
    raise_first([str(line) for line in server.ready[1]["degraded"]])
    return "nothing"


def halted(server: Server) -> str:
    """No partition is halted."""
    raise_first([str(line) for line in server.ready[1]["halted"]])
    return "no partition"


def clock(server: Server) -> str:
    """Its clock and this machine's agree."""
    before = server.clock_s()
    date = server.get("/livez").headers.get("date")
    if date is None:
        return "the server sends no Date"
    try:
        offset_s = parsedate_to_datetime(date).timestamp() - (before + server.clock_s()) / 2
    except ValueError as fault:
        raise Unsound(f"the server's Date header cannot be read: {date!r}") from fault
    if abs(offset_s) > MAX_CLOCK_OFFSET_S:
        raise Unsound(f"the server's clock is {offset_s:+.0f} s from this machine's; set them right")
    return f"the server's clock is {round(offset_s):+d} s from this machine's, to a second"
