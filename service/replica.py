"""The learned values as scoring sees them: the sum over partitions, followed through the store's ring of changes.

`poll` runs on any thread and only reads the store; `publish` moves the tables and runs on the thread that scores, so
every request sees one consistent state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from bandits.cells import CellTable, ChunkValues, decode, tables_of
from bandits.mirror import Meta, decode_meta
from service.store import ParameterStore
from service.updater import RING, decode_ring, ring_key

_CELLS, _TOTALS, _NAMES = b"ctn"


@dataclass(slots=True)
class Changes:
    """What one poll found in one partition, or a slice of it.

    meta     where the partition stands with them; None for all slices but the last
    reload   they are the whole partition, and replace what was known of it
    """

    partition: int
    meta: Meta | None
    cells: ChunkValues
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    names: dict[bytes, bytes] = field(default_factory=dict)
    reload: bool = False


def _changes(partition: int, meta: Meta, values: Mapping[bytes, bytes], *, reload: bool) -> Changes:
    cells = decode({key: value for key, value in values.items() if key[0] == _CELLS})
    names = {key: value for key, value in values.items() if key[0] == _NAMES}
    changes = Changes(partition, meta, cells, names=names, reload=reload)
    for key in [key for key in values if key[0] == _TOTALS]:
        impressions, rewards = np.frombuffer(values[key], np.int64).tolist()
        changes.totals[int.from_bytes(key[1:], "little")] = (impressions, rewards)
    return changes


class ArmNames(Mapping[int, str]):
    """Ids by arm key, kept as the store has them: most are never looked at."""

    def __init__(self) -> None:
        self._texts: dict[bytes, bytes] = {}

    def add(self, texts: Mapping[bytes, bytes]) -> None:
        """Take in store keys and values."""
        self._texts.update(texts)

    def forget(self, arms: Iterable[int]) -> None:
        """Let the ids of arms go."""
        for arm in arms:
            self._texts.pop(b"n" + arm.to_bytes(8, "little"), None)

    def __getitem__(self, arm: int) -> str:
        try:
            return self._texts[b"n" + arm.to_bytes(8, "little")].decode()
        except KeyError:
            raise KeyError(arm) from None

    def __iter__(self) -> Iterator[int]:
        return (int.from_bytes(key[1:], "little") for key in self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def slices(changes: Iterable[Changes], chunks: int) -> Iterator[list[Changes]]:
    """The same changes in portions of about so many chunks, so that scoring need not stand still for all of them."""
    portion: list[Changes] = []
    size = 0
    for part in _parts(changes, chunks):
        portion.append(part)
        size += part.cells.keys.size
        if size >= chunks:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _parts(changes: Iterable[Changes], chunks: int) -> Iterator[Changes]:
    for change in changes:
        keys, words, start = change.cells
        last = max(0, (keys.size - 1) // chunks)
        for i in range(last):
            part = slice(i * chunks, (i + 1) * chunks)
            bounds = start[part.start : part.stop + 1]
            cells = ChunkValues(keys[part], words[bounds[0] : bounds[-1]], bounds - bounds[0])
            yield Changes(change.partition, None, cells, reload=change.reload and i == 0)
        bounds = start[last * chunks :]
        cells = ChunkValues(keys[last * chunks :], words[bounds[0] : bounds[-1]], bounds - bounds[0])
        reload = change.reload and last == 0
        yield Changes(change.partition, change.meta, cells, change.totals, change.names, reload)


@dataclass(slots=True)
class _Partition:
    meta: Meta | None = None
    cells: CellTable = field(default_factory=CellTable)
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    renewing: bool = False


class Replica:
    """Cells and totals of all partitions, summed."""

    def __init__(self, store: ParameterStore, n_partitions: int) -> None:
        self._store = store
        self._polled: list[Meta | None] = [None] * n_partitions
        self._partitions = [_Partition() for _ in range(n_partitions)]
        self.cells = CellTable()
        self.names = ArmNames()
        self.version = ""
        self._slices = 0
        self._left: list[npt.NDArray[np.uint64]] = []
        self._held_by_left: dict[int, set[int]] = {}

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
            # The values may be newer than the ring that named them: absolute, they do no harm, and `meta` stays the
            # ring's, so that the next poll reads what the newer applies changed besides.
            if raw is None or decode_meta(raw).token != meta.token:
                return self._reload(partition)
        self._polled[partition] = meta
        return _changes(partition, meta, values, reload=reload)

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

    def publish(self, changes: Iterable[Changes]) -> npt.NDArray[np.int32] | None:
        """Take changes in; returns the chunk rows of `cells` that moved, or None where all have moved.

        Call it on the thread that scores. Chunks that left stay as zeros until they are many: then `cells` becomes
        another, smaller object.
        """
        for change in changes:
            known = self._partitions[change.partition]
            self.names.add(change.names)
            if change.reload:
                known.renewing = True
                known.cells.mark_clean()
            if known.renewing:
                known.cells.renew(change.cells, self.cells)
            else:
                known.cells.replace(change.cells, self.cells)
                known.totals |= change.totals
            if change.meta is None:
                self._slices += 1
                continue
            known.meta = change.meta
            self._slices = 0
            if known.renewing:
                known.renewing, known.totals = False, change.totals
                left = known.cells.drop_rest(self.cells)
                known.cells = known.cells.compacted()
                self._left += [left] if left.size else []
        # Between two slices the cells are of no log prefix, so their version must be no prefix's.
        stands = [self.next_of(partition) for partition in range(len(self._partitions))] + [self._slices]
        self.version = blake2b(np.array(stands, "<u8").tobytes(), digest_size=8).hexdigest()
        if not self._left or any(known.renewing for known in self._partitions):
            return self.cells.take_changed()
        held = tables_of(np.concatenate(self._left), [known.cells for known in self._partitions])
        self.names.forget(arm for arm, tables in held.items() if not tables)
        self._held_by_left |= held
        self._left = []
        compacted = self.cells.compacted()
        if compacted is self.cells:
            return self.cells.take_changed()
        self.cells = compacted
        self.cells.mark_clean()
        return None

    def take_left(self) -> dict[int, set[int]]:
        """Arms that have lost chunks since the last call, and the tables in which they still have some."""
        left, self._held_by_left = self._held_by_left, {}
        return left

    def totals(self, table: int) -> tuple[int, int]:
        """Impressions and sum of rewards (unit 2**-15) of a totals table, over all partitions."""
        found = [p.totals.get(table, (0, 0)) for p in self._partitions]
        return sum(impressions for impressions, _ in found), sum(rewards for _, rewards in found)

    @property
    def nbytes(self) -> int:
        """Memory of the cells, bytes."""
        return self.cells.nbytes + sum(p.cells.nbytes for p in self._partitions)

    def next_of(self, partition: int) -> int:
        meta = self._partitions[partition].meta
        return 0 if meta is None else meta.next
