"""Replies kept for their event ids: what a request with the same surface and event id gets again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Key = tuple[str, str]
"""Name of a surface, and an event id."""


class RepliesUnavailable(Exception):
    """Replies could not be found or kept. Whether they are kept is unknown; finding or keeping again is safe."""


class RepliesFull(RepliesUnavailable):
    """There is no room for the replies; none of them was kept."""


class Kept(NamedTuple):
    """A reply as it was sent, kept for its key until a time, UTC microseconds."""

    key: Key
    expires_us: int
    reply: bytes


class KeptReplies(Protocol):
    """The first reply of each key. Of replies that have expired by now_us nothing is seen any more."""

    def find(self, keys: Sequence[Key], now_us: int) -> list[bytes | None]:
        """The reply kept for each key, or None. Raises RepliesUnavailable."""

    def keep(self, replies: Sequence[Kept], now_us: int) -> list[bytes]:
        """Keep each reply unless there is one for its key; return those that hold now, each an earlier one or its own.

        Durable when it returns. Each reply is kept or not by itself, an earlier one of the same call counting as well.
        Raises RepliesUnavailable: nobody may answer with any of them then.
        """

    def expire(self, now_us: int) -> int:
        """Remove some replies that have expired and say how many; 0 when none is left. Raises RepliesUnavailable."""
