"""The parameter store: per partition a fenced map of bytes, standing at an offset of the feedback log."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

META_KEY = b"m"
TOKEN_BYTES = 16
# Redis 7.0 unpacks at most 3,999 pairs of arguments in one call; every store keeps the same bound.
MAX_KEYS = 3500


class StoreUnavailable(Exception):
    """The store did not answer as it should. Whether a write took place is unknown: claim again and look at next."""


class Fenced(Exception):
    """The token does not hold the partition, because another claim came later; nothing was changed."""


class Gap(Exception):
    """The partition does not stand where the writer thought it did; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a partition, until the next claim of it.

    token  16 random bytes
    next   offset of the next frame to fold; 0 if the partition was never written
    meta   value of key b"m", or None if there is none
    """

    token: bytes
    next: int
    meta: bytes | None


class ParameterStore(Protocol):
    """A map of bytes to bytes per partition. Values are absolute, so that a repeated apply cannot count twice.

    Any thread may call any method. All methods raise ValueError for an unknown partition and StoreUnavailable if the
    backend fails.
    """

    @property
    def partitions(self) -> int:
        """Number of partitions, fixed for the life of the store."""

    def claim(self, partition: int) -> Claim:
        """Take the partition: from now on every older token is fenced off."""

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys in their order, None where there is none, all as of one moment between applies."""

    def apply(self, partition: int, token: bytes, values: Mapping[bytes, bytes], *, start: int, stop: int) -> None:
        """Write absolute values and move the partition from start to stop, atomically and durably.

        Raises Fenced or Gap, changing nothing, unless token holds the partition and it stands at start; Fenced if both
        are wrong. ValueError for more than 3,500 keys or stop < start.
        """

    def delete(self, partition: int, token: bytes, keys: Sequence[bytes], *, at: int) -> None:
        """Remove keys, those absent included, atomically; raises as apply does, with at as the start."""

    def scan(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return every key and value once, in no order, all as of one moment between applies."""

    def close(self) -> None:
        """Release files and connections; calling it again does nothing."""


def new_token() -> bytes:
    """Return 16 random bytes. A counter could repeat after a failover."""
    return secrets.token_bytes(TOKEN_BYTES)


def check_holder(partition: int, token: bytes, start: int, *, holder: bytes | None, at: int) -> None:
    """Raise Fenced or Gap unless token is the partition's holder and the partition stands at start."""
    if token != holder:
        raise Fenced(f"partition {partition} was claimed by another writer")
    if start != at:
        raise Gap(f"partition {partition} stands at offset {at}, writer expected {start}")


def check_write(n_keys: int, start: int, stop: int) -> None:
    """Raise ValueError unless one write may hold n_keys and move from start to stop."""
    if n_keys > MAX_KEYS:
        raise ValueError(f"one write must have at most {MAX_KEYS} keys, got {n_keys}")
    if not 0 <= start <= stop:
        raise ValueError(f"offsets must satisfy 0 <= start <= stop, got {start} and {stop}")
