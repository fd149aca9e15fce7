"""The table of cells that everything learned online is: (table, arm, slot) -> three integer sums.

Sums commute, so merging two tables is folding the union of their increments. A chunk's bytes are the same in
memory, SQLite and Redis: epoch, a 64-bit presence mask, and three int64 for each set bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bandits.kernels import chunks as kernel
from bandits.kernels import retire
from bandits.kernels.chunks import GONE, HOLDERS, N_GONE, SATURATED, TOP, Chunks
from bandits.kernels.index import grown, make_index, rehash

CHUNK_KEY = np.dtype([("prefix", "S1"), ("table", "<u8"), ("arm", "<u8"), ("chunk", "<u4")])
SUM_UNITS = np.array([2.0**-30, 2.0**-15, 2.0**-30])
"""What one unit of weight_sq_sum, weight_sum and reward_sum is worth."""

_ROWS, _CELLS = 1024, 8192
WASTED_CHUNKS, WASTED_SHARE = 1000, 0.1
"""From so many on, and so large a share of all, chunks that are gone are worth the copy of the others."""


class CellTable:
    """Growable cells in chunks; see kernels.chunks.Chunks for the arrays.

    >>> cells = CellTable()
    >>> cells.add(table=1, arm=7, slot=70, weight_sq=4, weight=2, reward=6)
    >>> cells.add(table=1, arm=7, slot=70, weight_sq=4, weight=2, reward=0)
    >>> cells.get(table=1, arm=7, slot=70)
    (8, 4, 6)
    """

    def __init__(self, rows: int = _ROWS, cells: int = _CELLS) -> None:
        self.arrays = Chunks(
            make_index(rows, kernel.ROW_COLUMNS),
            np.zeros(rows, np.int32),
            np.zeros((cells, 3), np.int64),
            np.full(kernel.N_CLASSES, -1, np.int64),
            np.zeros(4, np.int64),
        )

    @property
    def n_chunks(self) -> int:
        return int(self.arrays.keys.used[0])

    @property
    def n_gone(self) -> int:
        """Chunks among them that no partition has any more; all their cells are 0."""
        return int(self.arrays.state[N_GONE])

    def held(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Those of the chunk rows that are not gone."""
        return rows[self.arrays.keys.rows[rows, HOLDERS] != GONE] if self.n_gone else rows

    @property
    def saturated(self) -> int:
        """Additions that passed int64 and were cut to it."""
        return int(self.arrays.state[SATURATED])

    @property
    def nbytes(self) -> int:
        """Memory in use, bytes; what is reserved beyond it has not been touched."""
        a = self.arrays
        rows = self.n_chunks * (a.keys.rows.itemsize * kernel.ROW_COLUMNS + a.changed.itemsize)
        return int(a.keys.slots.nbytes + rows + a.arena.itemsize * 3 * int(a.state[TOP]))

    def reserve(self, cells: int) -> Chunks:
        """Arrays with room for so many more cells, however they fall into chunks."""
        a = self.arrays
        n, top = self.n_chunks, int(a.state[TOP])
        if n + cells > len(a.keys.rows):
            rows = max(2 * len(a.keys.rows), n + cells)
            a = a._replace(keys=grown(a.keys, rows), changed=longer(a.changed, rows))
        # An addition takes at most a block of 64 beside the one it leaves.
        if top + 65 * cells > len(a.arena):
            a = a._replace(arena=longer(a.arena, max(2 * len(a.arena), top + 65 * cells)))
        self.arrays = a
        return a

    def add(self, table: int, arm: int, slot: int, weight_sq: int, weight: int, reward: int) -> None:
        """Add one increment, in units of 2**-30, 2**-15 and 2**-30."""
        arrays = self.reserve(1)
        kernel.add(arrays, np.uint64(table), np.uint64(arm), np.uint32(slot), weight_sq, weight, reward)

    def get(self, table: int, arm: int, slot: int) -> tuple[int, int, int]:
        """The three sums of a cell; zeros where there is none."""
        cell = kernel.find_cell(self.arrays, np.uint64(table), np.uint64(arm), np.uint32(slot))
        if cell < 0:
            return (0, 0, 0)
        first, second, third = self.arrays.arena[cell].tolist()
        return (first, second, third)

    def take_changed(self) -> npt.NDArray[np.int32]:
        """Rows of the chunks that changed since the last call, in the order they changed."""
        a = self.arrays
        rows: npt.NDArray[np.int32] = a.changed[: int(a.state[kernel.N_CHANGED])].copy()
        a.keys.rows[rows, kernel.DIRTY] = 0
        a.state[kernel.N_CHANGED] = 0
        return rows

    def mark_clean(self) -> None:
        """Forget which chunks changed."""
        self.take_changed()

    def keys(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.void]:
        """Keys of chunk rows, (n,) of CHUNK_KEY."""
        found = self.arrays.keys.rows[rows]
        keys = np.empty(rows.size, CHUNK_KEY)
        keys["prefix"] = b"c"
        keys["table"], keys["arm"], keys["chunk"] = found[:, 0], found[:, 1], found[:, 2]
        return keys

    def chunks(self, rows: npt.NDArray[np.int32]) -> ChunkValues:
        """A copy of chunk rows, in their order."""
        start = np.empty(rows.size + 1, np.int64)
        kernel.encoded_words(self.arrays, rows, start)
        words = np.empty(int(start[-1]), np.int64)
        kernel.encode(self.arrays, rows, start, words)
        return ChunkValues(self.keys(rows), words, start)

    def values(self, rows: npt.NDArray[np.int32]) -> dict[bytes, bytes]:
        """Store keys and values of chunk rows."""
        keys, words, start = self.chunks(rows)
        data = words.tobytes()
        stops = (8 * start).tolist()
        return dict(zip(split(keys), [data[a:b] for a, b in zip(stops, stops[1:], strict=False)], strict=True))

    def replace(self, values: ChunkValues, total: CellTable) -> None:
        """Put the values of chunks in place of this table's, and move total by the difference."""
        keys, words, start = values
        if keys.size:
            own, sums = self._room(keys, start, total)
            table, arm, chunk = _columns(keys)
            kernel.replace(own, sums, table, arm, chunk, words, start)

    def renew(self, values: ChunkValues, total: CellTable) -> None:
        """As replace, for a part of a table that is read anew: mark_clean before its parts, drop_rest after them."""
        keys, words, start = values
        if keys.size:
            own, sums = self._room(keys, start, total)
            table, arm, chunk = _columns(keys)
            retire.renew(own, sums, table, arm, chunk, words, start)

    def drop_rest(self, total: CellTable) -> npt.NDArray[np.uint64]:
        """Let go of the chunks that renew has not brought, and move total by them; returns their arms."""
        arms = np.empty(self.n_chunks, np.uint64)
        n = retire.clear_unmarked(self.arrays, total.reserve(1), arms)
        self.mark_clean()
        return arms[:n]

    def compacted(self) -> CellTable:
        """This table, or a new one without the chunks that are gone, where those are many."""
        if self.n_gone < max(WASTED_CHUNKS, WASTED_SHARE * self.n_chunks):
            return self
        return self.kept(self.held(np.arange(self.n_chunks, dtype=np.int32)))

    def kept(self, rows: npt.NDArray[np.int32]) -> CellTable:
        """A new table of these chunk rows; those that had changed stay so."""
        top = int(self.arrays.state[TOP])
        table = CellTable(max(_ROWS, rows.size + rows.size // 4), max(_CELLS, top + rows.size))
        table.arrays.state[SATURATED] = self.arrays.state[SATURATED]
        retire.copy_chunks(self.arrays, rows, table.arrays)
        return table

    def _room(
        self, keys: npt.NDArray[np.void], start: npt.NDArray[np.int64], total: CellTable
    ) -> tuple[Chunks, Chunks]:
        n_cells = int((start[-1] - 2 * keys.size) // 3) + keys.size
        return self.reserve(n_cells), total.reserve(n_cells)


class ChunkValues(NamedTuple):
    """Decoded store values of n chunks; see check.

    keys   (n,)      of CHUNK_KEY
    words  int64     all values, one after another
    start  (n + 1,)  word where each begins
    """

    keys: npt.NDArray[np.void]
    words: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]

    def check(self) -> None:
        """Raise ValueError where a value is not as long as its mask says: kernels would read beyond it."""
        size = np.diff(self.start)
        if np.any(size < 2) or int(self.start[-1]) != self.words.size:
            raise ValueError("a chunk's value is cut")
        cells = np.bitwise_count(self.words[self.start[:-1] + 1].view(np.uint64))
        if np.any(size != 2 + 3 * cells.astype(np.int64)):
            raise ValueError("a chunk's value has another length than its mask says")


def decode(values: Mapping[bytes, bytes]) -> ChunkValues:
    """Chunks from their store keys and values."""
    keys = np.frombuffer(b"".join(values), CHUNK_KEY)
    start = np.zeros(keys.size + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values.values()), np.int64, keys.size) // 8, out=start[1:])
    return ChunkValues(keys, np.frombuffer(b"".join(values.values()), np.int64), start)


def tables_of(arms: npt.NDArray[np.uint64], holders: Iterable[CellTable]) -> dict[int, set[int]]:
    """The tables in which each of the arms, each once, has a chunk that one of the holders has."""
    arms = np.unique(arms)
    index = make_index(max(1, arms.size))
    index.rows[: arms.size, 0] = arms
    index.used[0] = arms.size
    rehash(index)
    found: dict[int, set[int]] = {arm: set() for arm in arms.tolist()}
    for cells in holders:
        out = np.empty((cells.n_chunks, 2), np.uint64)
        n = retire.held_by(cells.arrays, index, out)
        for table, arm in out[:n].tolist():
            found[arm].add(table)
    return found


def _columns(keys: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.uint64], ...]:
    return tuple(keys[name].astype(np.uint64) for name in ("table", "arm", "chunk"))


def split(records: npt.NDArray[np.void]) -> list[bytes]:
    """The bytes of each record of a structured array."""
    size, data = records.dtype.itemsize, records.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


def cells_of(values: Mapping[bytes, bytes]) -> Iterable[tuple[int, int, int, tuple[int, int, int]]]:
    """(table, arm, slot, sums) of every cell in the chunks given, in the order of their keys."""
    keys, words, start = decode(dict(sorted(values.items())))
    for i, (_, table, arm, chunk) in enumerate(keys.tolist()):
        mask = int(words[start[i] + 1]) & (2**64 - 1)
        sums = words[start[i] + 2 : start[i + 1]].reshape(-1, 3).tolist()
        slots = [64 * chunk + bit for bit in range(64) if mask >> bit & 1]
        for slot, (weight_sq, weight, reward) in zip(slots, sums, strict=True):
            yield table, arm, slot, (weight_sq, weight, reward)


def longer(array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    larger = np.zeros((length, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
