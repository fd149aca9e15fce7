"""The learned values as scoring sees them: the sum over partitions, followed through the store's ring of changes.

`poll` runs on any thread and only reads the store; `publish` moves the tables and runs on the thread that scores, so
every request sees one consistent state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from bandits.cells import CellTable
from bandits.mirror import Meta, decode_meta
from service.store import ParameterStore
from service.updater import RING, decode_ring, ring_key


@dataclass(slots=True)
class Changes:
    """What one poll found in one partition.

    reload   the values are the whole partition, and replace what was known of it
    """

    partition: int
    meta: Meta
    values: dict[bytes, bytes]
    reload: bool = False


@dataclass(slots=True)
class _Partition:
    meta: Meta | None = None
    cells: CellTable = field(default_factory=CellTable)
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)


class Replica:
    """Cells and totals of all partitions, summed."""

    def __init__(self, store: ParameterStore, n_partitions: int) -> None:
        self._store = store
        self._polled: list[Meta | None] = [None] * n_partitions
        self._partitions = [_Partition() for _ in range(n_partitions)]
        self.cells = CellTable()
        self.arms: set[int] = set()
        self.names: dict[int, str] = {}
        self.version = ""

    def poll(self) -> list[Changes]:
        """Read what changed since the last poll; not safe to call from two threads at once."""
        found = (self._poll_partition(partition) for partition in range(len(self._polled)))
        return [changes for changes in found if changes is not None]

    def _poll_partition(self, partition: int) -> Changes | None:
        known = self._polled[partition]
        (raw,) = self._store.read(partition, [b"m"])
        if raw is None:
            return None
        meta = decode_meta(raw)
        if known is not None and meta.next == known.next and meta.token == known.token:
            return None
        keys = None if known is None else self._changed_keys(partition, known, meta)
        if keys is None:
            values, reload = dict(self._store.scan(partition)), True
            meta = decode_meta(values[b"m"])
        else:
            raw, *found = self._store.read(partition, [b"m", *keys])
            values, reload = {k: v for k, v in zip(keys, found, strict=True) if v is not None}, False
            meta = decode_meta(raw or b"")
            if meta.token != (known.token if known else b""):
                return self._reload(partition)
        self._polled[partition] = meta
        return Changes(partition, meta, values, reload)

    def _reload(self, partition: int) -> Changes | None:
        self._polled[partition] = None
        return self._poll_partition(partition)

    def _changed_keys(self, partition: int, known: Meta, meta: Meta) -> list[bytes] | None:
        """Keys that changed since known, or None where the ring does not tell."""
        behind = meta.ring - known.ring
        if meta.token != known.token or meta.next < known.next or not 0 < behind < RING:
            return None
        numbers = range(known.ring + 1, meta.ring + 1)
        keys: dict[bytes, None] = {}
        at = known.next
        for raw in self._store.read(partition, [ring_key(number) for number in numbers]):
            entry = decode_ring(raw) if raw is not None else None
            if entry is None or entry.start != at:
                return None
            at = entry.stop
            keys |= dict.fromkeys(entry.keys)
        return list(keys)

    def publish(self, changes: Iterable[Changes]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        """Take changes in; returns the chunk rows of `cells` that moved. Call it on the thread that scores."""
        for change in changes:
            known = self._partitions[change.partition]
            if change.reload and known.meta is not None:
                self._drop(known)
            self._take(known, change.values)
            known.meta = change.meta
        stands = [0 if p.meta is None else p.meta.next for p in self._partitions]
        self.version = blake2b(np.array(stands, "<u8").tobytes(), digest_size=8).hexdigest()
        return self.cells.take_changed()

    def _drop(self, known: _Partition) -> None:
        """Take a partition's cells out of the sum, before it is loaded anew."""
        rows = np.arange(known.cells.n_chunks, dtype=np.int32)
        values = known.cells.values(rows)
        for key, value in values.items():
            words = np.frombuffer(value, np.int64).copy()
            words[2:] = 0
            values[key] = words.tobytes()
        known.cells.replace(values, self.cells)
        known.totals.clear()

    def _take(self, known: _Partition, values: dict[bytes, bytes]) -> None:
        known.cells.replace({k: v for k, v in values.items() if k[0] == 0x63}, self.cells)
        for key, value in values.items():
            if key[0] == 0x74:
                impressions, rewards = np.frombuffer(value, np.int64).tolist()
                known.totals[int.from_bytes(key[1:], "little")] = (impressions, rewards)
            elif key[0] == 0x6E:
                arm = int.from_bytes(key[1:], "little")
                self.arms.add(arm)
                self.names[arm] = value.decode()

    def totals(self, table: int) -> tuple[int, int]:
        """Impressions and sum of rewards (unit 2**-15) of a totals table, over all partitions."""
        found = [p.totals.get(table, (0, 0)) for p in self._partitions]
        return sum(impressions for impressions, _ in found), sum(rewards for _, rewards in found)

    @property
    def nbytes(self) -> int:
        """Memory of the cells, bytes."""
        return self.cells.nbytes + sum(p.cells.nbytes for p in self._partitions)

    def standing(self, partition: int) -> Meta | None:
        """Where the published values of a partition stand."""
        return self._partitions[partition].meta

    def next_of(self, partition: int) -> int:
        meta = self._partitions[partition].meta
        return 0 if meta is None else meta.next
