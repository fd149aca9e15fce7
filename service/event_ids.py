"""Event ids: the first reply to each is kept, and every later request with it gets that reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

from service.kept_replies import Kept, KeptReplies, Key, RepliesFull, RepliesUnavailable
from service.log_sqlite import wall_clock_us
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.surface import unknown_surface

logger = logging.getLogger(__name__)

EXPIRE_EVERY_S = 60.0
RETRY_AFTER_S = 1
FIND_AT_ONCE = 500
"""Keys that one request may have looked up before others get their turn."""
T = TypeVar("T")
R = TypeVar("R")
Asked = list[tuple[list[T], asyncio.Future[list[R]]]]
"""What is asked for in one call, and who waits for the answers."""


class Unavailable(Problem):
    """503: replies cannot be looked up or kept. The path of their file is for the log only."""

    def __init__(self, reason: str) -> None:
        detail = f"replies cannot be kept by event_id for now, retry is safe: {reason}"
        super().__init__(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)})
        self.reason = reason


class EventIds:
    """Lets one request at a time answer for an event id; used on the event loop's thread.

    Calls of KeptReplies run on a thread of their own, one at a time: what was asked meanwhile goes into the next one,
    so that many requests share a sync.

    surfaces   names, the default one first
    ttl_s      how long a reply is kept
    """

    def __init__(self, replies: KeptReplies, metrics: Metrics, *, surfaces: Sequence[str], ttl_s: int) -> None:
        self._replies, self._metrics, self._ttl_us = replies, metrics, ttl_s * 10**6
        self.clock_us: Callable[[], int] = wall_clock_us
        self._surfaces = tuple(surfaces)
        self._held: dict[Key, asyncio.Future[Mapping[Key, bytes] | Unavailable]] = {}
        self._finds: Asked[Key, bytes | None] = []
        self._keeps: Asked[Kept, bytes] = []
        self._asking: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="banditd-replies")
        self.failing = False
        """Whether the last call failed."""

    @property
    def waiting(self) -> int:
        """Requests that wait for the next call."""
        return len(self._finds) + len(self._keeps)

    def key(self, surface: str | None, event_id: str) -> Key:
        """What a reply is kept by; Problem for an unknown surface or an id that is not printable."""
        name = self._surfaces[0] if surface is None else surface
        if name not in self._surfaces:
            raise unknown_surface(name)
        if not event_id.isprintable():
            raise invalid("event_id", f"must be 1 to 128 printable characters, got {event_id!r}")
        return name, event_id

    @asynccontextmanager
    async def hold(self, keys: Collection[Key]) -> AsyncIterator[dict[Key, bytes]]:
        """Give the replies that are kept; keys without one are this block's alone until it ends.

        Who asks for such a key meanwhile waits, gets the replies that the block has added, and tries anew where it has
        not. Raises Unavailable where replies cannot be looked up; where the block does, so it is for those who wait.
        """
        found = await self._settled(keys)
        # No await from here to the holding: all keys at once, so that two batches never wait for each other.
        mine = [key for key in dict.fromkeys(keys) if key not in found]
        ended = asyncio.get_running_loop().create_future()
        self._held.update(dict.fromkeys(mine, ended))
        outcome: Mapping[Key, bytes] | Unavailable = found
        try:
            found |= await self._find(mine)
            self._metrics.event_ids("repeated", len(found))
            yield found
        except Unavailable as problem:
            outcome = problem
            raise
        finally:
            for key in mine:
                del self._held[key]
            ended.set_result(outcome)

    async def find(self, keys: Collection[Key]) -> dict[Key, bytes]:
        """The replies that are kept, those under way included. Raises Unavailable where they cannot be looked up."""
        found = await self._settled(keys)
        return found | await self._find([key for key in dict.fromkeys(keys) if key not in found])

    async def keep(self, replies: Mapping[Key, bytes]) -> dict[Key, bytes]:
        """Keep replies, durably; those that hold now. Raises Unavailable where none of them may be answered with."""
        expires_us = self.clock_us() + self._ttl_us
        kept = [Kept(key, expires_us, reply) for key, reply in replies.items()]
        holding = dict(zip(replies, await self._ask(self._keeps, kept), strict=True))
        self._metrics.event_ids("kept", sum(holding[key] == reply for key, reply in replies.items()))
        return holding

    async def keep_house(self) -> None:
        """Remove expired replies from time to time, until cancelled."""
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            try:
                await self.expire()
            except RepliesUnavailable as fault:
                logger.warning("expired replies are not removed for now: %s", fault)

    async def expire(self) -> None:
        """Remove all replies that have expired, a few at a time. Raises RepliesUnavailable."""
        while await self._run(self._replies.expire, self.clock_us()):
            pass

    def close(self) -> None:
        """Wait for the call under way; whoever asks from now on is refused. On any thread."""
        self._thread.shutdown()

    async def _settled(self, keys: Iterable[Key]) -> dict[Key, bytes]:
        """Replies of these keys that others were making, awaited until nobody holds any of the other keys.

        Raises Unavailable where that was their end: to ask again, one after the other, would take all of them as long.
        """
        wanted, found = set(keys), dict[Key, bytes]()
        while ended := {self._held[key] for key in wanted - found.keys() if key in self._held}:
            for one in ended:
                replies = await asyncio.shield(one)
                if isinstance(replies, Unavailable):
                    self._metrics.event_ids("unavailable", len(wanted))
                    raise Unavailable(replies.reason) from replies
                found |= {key: replies[key] for key in wanted & replies.keys()}
        return found

    async def _find(self, keys: list[Key]) -> dict[Key, bytes]:
        found: dict[Key, bytes] = {}
        for start in range(0, len(keys), FIND_AT_ONCE):
            some = keys[start : start + FIND_AT_ONCE]
            replies = await self._ask(self._finds, some)
            found |= {key: reply for key, reply in zip(some, replies, strict=True) if reply is not None}
        return found

    async def _ask(self, waiting: Asked[T, R], rows: list[T]) -> list[R]:
        answer: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        waiting.append((rows, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        try:
            return await answer
        except RepliesUnavailable as fault:
            self._metrics.event_ids("unavailable", len(rows))
            full = isinstance(fault, RepliesFull)
            raise Unavailable("their file is full" if full else "their file cannot be read or written") from fault

    async def _ask_all(self) -> None:
        try:
            while self._finds or self._keeps:
                finds, self._finds = self._finds, []
                await self._call(self._replies.find, finds)
                keeps, self._keeps = self._keeps, []
                await self._call(self._replies.keep, keeps)
        finally:
            self._asking = None

    async def _call(self, call: Callable[[list[Any], int], Sequence[R]], asked: Asked[Any, R]) -> None:
        """One call for the rows of all that asked, and to each the answers to its own."""
        if not asked:
            return
        rows = [row for some, _ in asked for row in some]
        try:
            answers = iter(await self._run(call, rows, self.clock_us()))
        # Whatever went wrong belongs to those who wait, or they would wait for ever.
        except Exception as fault:
            if not self.failing:
                logger.warning("replies cannot be kept by event_id since this call: %s", fault)
            self.failing = True
            for _, waiter in asked:
                if not waiter.done():
                    waiter.set_exception(fault)
            return
        self.failing = False
        for some, waiter in asked:
            own = list(islice(answers, len(some)))
            if not waiter.done():
                waiter.set_result(own)

    def _run(self, call: Callable[..., R], *given: Any) -> asyncio.Future[R]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._thread, call, *given)
        except RuntimeError as fault:
            raise RepliesUnavailable(f"the server ends: {fault}") from fault
