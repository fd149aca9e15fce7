"""What was learned, for people: cells in reward units with the names of their arms and features."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bandits.cells import SUM_UNITS, CellTable, ChunkValues
from bandits.names import WEIGHT_UNIT
from service.problems import invalid
from service.rewards import Generation

MAX_LIMIT = 100_000
Place = tuple[int, int, int]
"""Table, arm and slot of a cell."""
Keys = npt.NDArray[np.uint64]
_CURSOR = re.compile(r"([0-9a-f]{1,16}):([0-9a-f]{1,16}):([0-9a-f]{1,8})")
_UNITS = SUM_UNITS.tolist()
_ENCODED = 1000
"""Cells encoded in one go: the encoder keeps the interpreter to itself meanwhile."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Folded state, wherever it comes from.

    cells, totals, names   summed over partitions; totals gives impressions and rewards (unit 2**-15) of a table
    partitions             as they are shown: partition, next, end, topic_id
    feature                name of a slot where it is known
    """

    cells: CellTable
    totals: Callable[[int], tuple[int, int]]
    names: Mapping[int, str]
    partitions: Sequence[Mapping[str, Any]]
    feature: Callable[[int, int], str | None]


class CellsPage:
    """A page of a surface's cells, in the order (table, arm, slot); `cursor` is null at the end.

    Made in steps, so that a server's loop does only what must be seen at one instant: `read`, and making this.
    """

    def __init__(
        self, cells: CellTable, surface: str, generations: Sequence[Generation], limit: int, cursor: str | None = None
    ) -> None:
        self._cells, self._surface, self._generations, self._limit = cells, surface, generations, limit
        self._after = None if cursor is None else _parse(cursor)
        # Rows never move and their keys never change, so other threads may look at them; masks only gain bits.
        self._keys: Keys = cells.arrays.keys.rows[: cells.n_chunks]

    def choose(self) -> None:
        """Find the chunks that the page is made of; on any thread."""
        held = self._cells.held(np.arange(len(self._keys), dtype=np.int32))
        keys = self._keys if held.size == len(self._keys) else self._keys[held]
        rows, self._more = choose(keys, [g.table for g in self._generations], self._after, self._limit)
        self._rows = held[rows]

    def read(self, learned: Learned) -> None:
        """Copy the chosen chunks, and what stands beside them; on the thread that moves them."""
        self._learned, self._chunks = learned, self._cells.chunks(self._rows)
        self._head = {
            "surface": surface_totals(learned.totals, self._surface, self._generations),
            "partitions": list(learned.partitions),
        }

    def document(self) -> dict[str, Any]:
        """The page; on any thread."""
        places, sums = _unpacked(self._chunks, self._after)
        by_table = {g.table: g for g in self._generations}
        shown = places[: self._limit]
        more = self._more or len(places) > self._limit
        return self._head | {
            "cells": [
                _describe(place, of_place, by_table[place[0]], self._learned)
                for place, of_place in zip(shown, sums[: self._limit].tolist(), strict=True)
            ],
            "cursor": "{:x}:{:x}:{:x}".format(*shown[-1]) if more else None,
        }

    def to_json(self) -> bytes:
        """The page as it is sent; on any thread."""
        document = self.document()
        cells = document.pop("cells")
        blocks = (cells[start : start + _ENCODED] for start in range(0, len(cells), _ENCODED))
        encoded = b",".join(msgspec.json.encode(block)[1:-1] for block in blocks)
        return msgspec.json.encode(document)[:-1] + b',"cells":[' + encoded + b"]}"


def cells_page(learned: Learned, surface: str, generations: Sequence[Generation]) -> dict[str, Any]:
    """All of a surface's cells on one page."""
    page = CellsPage(learned.cells, surface, generations, limit=2**62)
    page.choose()
    page.read(learned)
    return page.document()


def surface_totals(
    totals: Callable[[int], tuple[int, int]], surface: str, generations: Sequence[Generation]
) -> dict[str, Any]:
    """Impressions (positions) and sum of rewards of some generations, in reward units."""
    found = [(totals(g.totals), g.rewards.scale) for g in generations]
    return {
        "name": surface,
        "impressions": sum(impressions for (impressions, _), _ in found),
        "reward": sum(rewards * WEIGHT_UNIT * scale for (_, rewards), scale in found),
    }


def choose(keys: Keys, tables: Sequence[int], after: Place | None, limit: int) -> tuple[npt.NDArray[np.int32], bool]:
    """Rows of the chunks that hold the first `limit` cells after a place, in their order, and whether more follow.

    keys   uint64 (n, >= 4): table, arm, chunk and mask of each chunk
    tables in any order; those that no chunk names are empty
    """
    rows, n_cells = [], 0
    for table in sorted(tables):
        found, counts = _of_table(keys, table, after, limit + 1 - n_cells)
        rows.append(found)
        n_cells += int(counts.sum())
        if n_cells > limit:
            break
    return np.concatenate([np.empty(0, np.int32), *rows]), n_cells > limit


def _of_table(
    keys: Keys, table: int, after: Place | None, enough: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Rows of a table's first chunks after a place, until they have enough cells, and how many each has."""
    rows = np.flatnonzero(keys[:, 0] == np.uint64(table)).astype(np.int32)
    arm, chunk, mask = keys[rows, 1], keys[rows, 2], keys[rows, 3]
    if after is not None and after[0] >= table:
        if after[0] > table:
            mask[:] = 0
        at_arm, at_chunk, bit = np.uint64(after[1]), np.uint64(after[2] // 64), after[2] % 64
        mask[(arm < at_arm) | (arm == at_arm) & (chunk < at_chunk)] = 0
        mask[(arm == at_arm) & (chunk == at_chunk)] &= np.uint64(-(2 << bit) & 2**64 - 1)
    rest = np.flatnonzero(mask)
    if rest.size > enough:
        # Every chunk that is left has a cell: no more of them are needed, and sorting all for each page costs most.
        rest = rest[arm[rest] <= np.partition(arm[rest], enough)[enough]]
    rest = rest[np.lexsort((chunk[rest], arm[rest]))]
    counts = np.bitwise_count(mask[rest]).astype(np.int64)
    stop = int(np.searchsorted(np.cumsum(counts), enough)) + 1
    return rows[rest[:stop]], counts[:stop]


def _unpacked(chunks: ChunkValues, after: Place | None) -> tuple[list[Place], npt.NDArray[np.int64]]:
    """Places and sums (n, 3) of the cells in sorted chunks, but for those up to a place."""
    keys, words, start = chunks
    header = start[:-1]
    masks = words[header + 1].view(np.uint8).reshape(-1, 8)
    row, bit = np.nonzero(np.unpackbits(masks, axis=1, bitorder="little"))
    is_sum = np.ones(words.size, np.bool_)
    is_sum[header] = is_sum[header + 1] = False
    found = keys[row]
    slot = 64 * found["chunk"].astype(np.int64) + bit
    places = list(zip(found["table"].tolist(), found["arm"].tolist(), slot.tolist(), strict=True))
    first = 0 if after is None else bisect_right(places, after)
    return places[first:], words[is_sum].reshape(-1, 3)[first:]


def _describe(place: Place, sums: Sequence[int], generation: Generation, learned: Learned) -> dict[str, Any]:
    table, arm, slot = place
    weight_sq_sum, weight_sum, reward_sum = (total * unit for total, unit in zip(sums, _UNITS, strict=True))
    return {
        "arm": learned.names.get(arm, f"{arm:016x}"),
        "slot": slot,
        "feature": learned.feature(table, slot),
        "table": f"{table:016x}",
        "weight_sq_sum": weight_sq_sum,
        "weight_sum": weight_sum,
        "reward_sum": reward_sum * generation.rewards.scale,
    }


def _parse(cursor: str) -> Place:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise invalid("cursor", f"must be the cursor of an earlier reply, got {cursor!r}")
    return int(found[1], 16), int(found[2], 16), int(found[3], 16)
