"""What was learned, for people: cells in reward units with the names of their arms and features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bandits.cells import SUM_UNITS, CellTable, cells_of
from bandits.names import WEIGHT_UNIT
from service.problems import invalid
from service.rewards import Generation

MAX_LIMIT = 100_000
Row = tuple[int, int, int, tuple[int, int, int]]


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


def cells_page(
    learned: Learned, surface: str, generations: Sequence[Generation], limit: int, cursor: str | None = None
) -> dict[str, Any]:
    """A page of a surface's cells, in the order (table, arm, slot); `cursor` is null at the end."""
    after = _parse(cursor)
    rows = [row for row in _rows(learned.cells, [g.table for g in generations]) if row[:3] > after]
    page = rows[:limit]
    by_table = {g.table: g for g in generations}
    return {
        "surface": surface_totals(learned.totals, surface, generations),
        "partitions": list(learned.partitions),
        "cells": [_describe(row, by_table[row[0]], learned) for row in page],
        "cursor": ":".join(f"{part:x}" for part in page[-1][:3]) if len(rows) > limit else None,
    }


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


def _rows(cells: CellTable, tables: Sequence[int]) -> list[Row]:
    wanted = np.isin(cells.arrays.keys.rows[: cells.n_chunks, 0], np.array(tables, np.uint64))
    rows = np.flatnonzero(wanted).astype(np.int32)
    return sorted(cells_of(cells.values(rows))) if rows.size else []


def _describe(row: Row, generation: Generation, learned: Learned) -> dict[str, Any]:
    table, arm, slot, sums = row
    weight_sq_sum, weight_sum, reward_sum = (np.array(sums) * SUM_UNITS).tolist()
    return {
        "arm": learned.names.get(arm, f"{arm:016x}"),
        "slot": slot,
        "feature": learned.feature(table, slot),
        "table": f"{table:016x}",
        "weight_sq_sum": weight_sq_sum,
        "weight_sum": weight_sum,
        "reward_sum": reward_sum * generation.rewards.scale,
    }


def _parse(cursor: str | None) -> tuple[int, int, int]:
    if cursor is None:
        return (-1, -1, -1)
    try:
        table, arm, slot = (int(part, 16) for part in cursor.split(":"))
    except ValueError:
        raise invalid("cursor", f"must be the cursor of an earlier reply, got {cursor!r}") from None
    return (table, arm, slot)
