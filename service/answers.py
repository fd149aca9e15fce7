"""Replies to requests for decisions as they are sent: JSON, and one decision per event id."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from service.decisions import Decisions, Prepared, Sealed
from service.decoding import explained
from service.event_ids import EventIds
from service.kept_replies import Key
from service.problems import Problem
from service.schemas import AdLoadRequest, RecommendRequest, encode
from service.surface import Surface

BATCH_BREATH = 32
"""Requests of a batch answered before other connections get their turn."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request whose body is wrong: answered all the same where a reply is kept for its event id.

    fault   what its decoder raised; explained where there is no such reply
    """

    surface: str | None
    event_id: str | None
    body: bytes
    fault: Exception


R = TypeVar("R", bound=RecommendRequest | AdLoadRequest)
Asked = TypeVar("Asked", bound=RecommendRequest | AdLoadRequest, contravariant=True)


class Drawer(Protocol[Asked]):
    """Draws what one route answers with."""

    def surface(self, name: str | None) -> Surface:
        """The surface that a request names, or the default one; Problem where this route does not serve it."""

    def prepare(self, request: Asked) -> Prepared:
        """A decision that is not logged yet. Raises Problem, leaving no trace."""


class Answers(Generic[R]):
    """Draws, keeps and logs, in this order where there is an event id; used on the event loop's thread."""

    def __init__(self, drawer: Drawer[R], decisions: Decisions, event_ids: EventIds) -> None:
        self._drawer, self._decisions, self._event_ids = drawer, decisions, event_ids

    async def one(self, request: R | Refused) -> bytes:
        """The reply to a request. Raises Problem."""
        (reply,) = await self._replies([request], "")
        return reply

    async def batch(self, requests: Sequence[R | Refused]) -> list[bytes]:
        """The reply to each request; Problem, with nothing kept or logged, where any of them is refused."""
        return await self._replies(requests, "requests")

    async def _replies(self, requests: Sequence[R | Refused], path: str) -> list[bytes]:
        keys = [self._key(request, path, i) for i, request in enumerate(requests)]
        async with self._event_ids.hold([key for key in keys if key is not None]) as kept:
            named: dict[Key, Prepared] = {}
            plain: dict[int, Prepared] = {}
            for i, (request, key) in enumerate(zip(requests, keys, strict=True)):
                if key is None:
                    plain[i] = await self._prepare(request, path, i)
                elif key not in kept and key not in named:
                    named[key] = await self._prepare(request, path, i)
                if i % BATCH_BREATH == BATCH_BREATH - 1:
                    await asyncio.sleep(0)
            if named:
                kept |= await self._keep({key: self._decisions.seal(one) for key, one in named.items()})
            sent = {i: encode(self._decisions.commit(one)) for i, one in plain.items()}
            return [sent[i] if key is None else kept[key] for i, key in enumerate(keys)]

    def _key(self, request: R | Refused, path: str, i: int) -> Key | None:
        if request.event_id is None:
            return None
        with _at(path, i):
            return self._event_ids.key(self._drawer.surface(request.surface).name, request.event_id)

    async def _prepare(self, request: R | Refused, path: str, i: int) -> Prepared:
        with _at(path, i):
            if isinstance(request, Refused):
                raise await explained(request.body, request.fault) from request.fault
            return self._drawer.prepare(request)

    async def _keep(self, sealed: dict[Key, Sealed]) -> dict[Key, bytes]:
        """Keep the replies, then log the decisions of those that hold; what others kept meanwhile holds instead."""
        own = {key: encode(one.decision) for key, one in sealed.items()}
        try:
            holding = await self._event_ids.keep(own)
        except Problem:
            for one in sealed.values():
                self._decisions.withdraw(one)
            raise
        for key, one in sealed.items():
            if holding[key] == own[key]:
                self._decisions.log(one)
            else:
                self._decisions.withdraw(one)
        return holding


@contextmanager
def _at(path: str, i: int) -> Iterator[None]:
    """Say which request of a batch is refused."""
    try:
        yield
    except Problem as problem:
        if not path:
            raise
        raise problem.at(f"{path}[{i}]") from problem
