"""State that is used in memory and, with the offset it stands at, copied to a file from time to time."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.log import check_partition
from service.store import Claim
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore


@dataclass(slots=True)
class Pending:
    """What one partition's memory holds beyond its file.

    lock         guards changes and next, together with the memory they mirror
    copying      one copy at a time
    token        the claim of the file
    written      offset the file stands at
    next         offset the memory stands at
    changes      last value of every key written since then, None if it was removed
    """

    token: bytes
    written: int
    next: int
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    copying: threading.Lock = field(default_factory=threading.Lock)


class CheckpointedStore:
    """ParameterStore of a MemoryStore that begins with a SqliteStore's content; checkpoint copies the changes back.

    A crash falls back to the last checkpoint: values and offset of one moment, from where the log is folded again.
    The file is claimed for the life of this object: a second one on the same file fences off the first one's
    checkpoints. Raises ValueError if the stores differ in partitions.
    """

    def __init__(self, memory: MemoryStore, file: SqliteStore) -> None:
        if memory.partitions != file.partitions:
            raise ValueError(f"memory has {memory.partitions} partitions, the file {file.partitions}")
        self._memory = memory
        self._file = file
        self._pending: list[Pending] = []
        for partition in range(file.partitions):
            claim = file.claim(partition)
            memory.load(partition, dict(file.scan(partition)), claim.next)
            self._pending.append(Pending(claim.token, written=claim.next, next=claim.next))

    @property
    def partitions(self) -> int:
        """Number of partitions."""
        return self._memory.partitions

    def claim(self, partition: int) -> Claim:
        """Take the partition in memory; see ParameterStore.claim."""
        return self._memory.claim(partition)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of keys in memory; see ParameterStore.read."""
        return self._memory.read(partition, keys)

    def apply(self, partition: int, token: bytes, values: Mapping[bytes, bytes], *, start: int, stop: int) -> None:
        """Write to memory, durable with the next checkpoint; see ParameterStore.apply."""
        pending = self._partition(partition)
        with pending.lock:
            self._memory.apply(partition, token, values, start=start, stop=stop)
            pending.changes.update(values)
            pending.next = stop

    def delete(self, partition: int, token: bytes, keys: Sequence[bytes], *, at: int) -> None:
        """Remove keys from memory, durable with the next checkpoint; see ParameterStore.delete."""
        pending = self._partition(partition)
        with pending.lock:
            self._memory.delete(partition, token, keys, at=at)
            pending.changes.update(dict.fromkeys(keys))

    def scan(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return every key and value in memory; see ParameterStore.scan."""
        return self._memory.scan(partition)

    def checkpoint(self, partition: int | None = None) -> int:
        """Copy what changed in one partition, or in all, to the file; return the number of keys copied.

        One transaction per partition holds the values and the offset of one moment; applies go on meanwhile. If the
        file fails, StoreUnavailable or Fenced is raised, the file stays as it was, and the next checkpoint copies all.
        """
        if partition is not None:
            return self._copy(partition)
        return sum(self._copy(each) for each in range(self.partitions))

    def checkpointed(self, partition: int) -> int:
        """Offset the file stands at: frames from here on are needed after a crash."""
        return self._partition(partition).written

    def close(self) -> None:
        """Copy what changed, then close the file, which happens also if the copy fails."""
        try:
            self.checkpoint()
        finally:
            self._file.close()
            self._memory.close()

    def _copy(self, partition: int) -> int:
        pending = self._partition(partition)
        with pending.copying:
            with pending.lock:
                changes, pending.changes = pending.changes, {}
                stop = pending.next
            if not changes and stop == pending.written:
                return 0
            try:
                self._file.write(partition, pending.token, changes, start=pending.written, stop=stop)
            except BaseException:
                with pending.lock:
                    changes.update(pending.changes)
                    pending.changes = changes
                raise
            pending.written = stop
            return len(changes)

    def _partition(self, partition: int) -> Pending:
        check_partition(partition, len(self._pending))
        return self._pending[partition]
