"""The parameter store in this process, gone with it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.log import check_partition
from service.store import META_KEY, Claim, check_holder, check_write, new_token


@dataclass(slots=True)
class Shard:
    """One partition: its lock, its map, the offset it stands at and the token that may write it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    values: dict[bytes, bytes] = field(default_factory=dict)
    next: int = 0
    token: bytes | None = None


class MemoryStore:
    """ParameterStore in dictionaries, one and one lock per partition."""

    def __init__(self, partitions: int) -> None:
        if partitions < 1:
            raise ValueError(f"partitions must be >= 1, got {partitions}")
        self._shards = [Shard() for _ in range(partitions)]

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return len(self._shards)

    def load(self, partition: int, values: Mapping[bytes, bytes], at: int) -> None:
        """Replace everything a partition holds and let it stand at `at`; whoever held it is fenced off."""
        shard = self._shard(partition)
        with shard.lock:
            shard.values, shard.next, shard.token = dict(values), at, None

    def claim(self, partition: int) -> Claim:
        """Take the partition; see ParameterStore.claim."""
        shard = self._shard(partition)
        with shard.lock:
            shard.token = new_token()
            return Claim(shard.token, shard.next, shard.values.get(META_KEY))

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys; see ParameterStore.read."""
        shard = self._shard(partition)
        with shard.lock:
            return list(map(shard.values.get, keys))

    def apply(self, partition: int, token: bytes, values: Mapping[bytes, bytes], *, start: int, stop: int) -> None:
        """Write values and move from start to stop; see ParameterStore.apply."""
        check_write(len(values), start, stop)
        shard = self._shard(partition)
        with shard.lock:
            check_holder(partition, token, start, holder=shard.token, at=shard.next)
            shard.values.update(values)
            shard.next = stop

    def delete(self, partition: int, token: bytes, keys: Sequence[bytes], *, at: int) -> None:
        """Remove keys; see ParameterStore.delete."""
        check_write(len(keys), at, at)
        shard = self._shard(partition)
        with shard.lock:
            check_holder(partition, token, at, holder=shard.token, at=shard.next)
            for key in keys:
                shard.values.pop(key, None)

    def scan(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return every key and value; see ParameterStore.scan."""
        shard = self._shard(partition)
        with shard.lock:
            return list(shard.values.items())

    def close(self) -> None:
        """There is nothing to release."""

    def _shard(self, partition: int) -> Shard:
        check_partition(partition, len(self._shards))
        return self._shards[partition]
