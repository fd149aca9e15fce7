"""What was learned, for people: cells in reward units with the names of their arms and features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bandits.cells import SUM_UNITS, CellTable, cells_of
from bandits.context import CONSTANT, CONSTANT_NAME
from bandits.names import WEIGHT_UNIT
from service.node import Node
from service.problems import invalid
from service.rewards import Generation
from service.surface import Surface

MAX_LIMIT = 100_000


def cells_page(
    node: Node, surface: Surface, limit: int, cursor: str | None, *, every_generation: bool = False
) -> dict[str, Any]:
    """A page of a surface's cells, in the order (table, arm, slot)."""
    generations = surface.generations
    if every_generation:
        generations = [g for g in node.generations if g.surface == surface.name]
    after = _parse(cursor)
    rows = _rows(node.replica.cells, {g.table for g in generations})
    page: list[Row] = []
    more = False
    for row in rows:
        if row[:3] > after:
            if len(page) == limit:
                more = True
                break
            page.append(row)
    by_table = {g.table: g for g in generations}
    names = node.replica.names
    return {
        "surface": totals(node, surface.name, generations),
        "partitions": [
            {
                "partition": u.partition,
                "next": node.replica.next_of(u.partition),
                "end": node.data.log.bounds(u.partition)[1],
                "topic_id": node.data.log.topic_id.hex(),
            }
            for u in node.updaters
        ],
        "cells": [describe(row, by_table, names, surface) for row in page],
        "cursor": ":".join(f"{part:x}" for part in page[-1][:3]) if more else None,
    }


def totals(node: Node, name: str, generations: Iterable[Generation]) -> dict[str, Any]:
    """Impressions (positions) and sum of rewards of some generations, in reward units."""
    found = [(node.replica.totals(g.totals), g.rewards.scale) for g in generations]
    return {
        "name": name,
        "impressions": sum(impressions for (impressions, _), _ in found),
        "reward": sum(rewards * WEIGHT_UNIT * scale for (_, rewards), scale in found),
    }


Row = tuple[int, int, int, tuple[int, int, int]]


def _rows(cells: CellTable, tables: set[int]) -> list[Row]:
    wanted = np.isin(cells.arrays.keys.a[: cells.n_chunks], np.array(list(tables), np.uint64))
    rows = np.flatnonzero(wanted).astype(np.int32)
    return sorted(cells_of(cells.values(rows))) if rows.size else []


def describe(
    row: Row, generations: Mapping[int, Generation], names: Mapping[int, str], surface: Surface
) -> dict[str, Any]:
    """One cell: sums in reward units."""
    table, arm, slot, sums = row
    weight_sq_sum, weight_sum, reward_sum = (np.array(sums) * SUM_UNITS).tolist()
    feature = None
    if table == surface.hashed.table:
        constant = slot == int(CONSTANT.slots[0])
        feature = surface.hasher.name(slot) or (CONSTANT_NAME if constant else None)
    return {
        "arm": names.get(arm, f"{arm:016x}"),
        "slot": slot,
        "feature": feature,
        "table": f"{table:016x}",
        "weight_sq_sum": weight_sq_sum,
        "weight_sum": weight_sum,
        "reward_sum": reward_sum * generations[table].rewards.scale,
    }


def _parse(cursor: str | None) -> tuple[int, int, int]:
    if cursor is None:
        return (-1, -1, -1)
    try:
        table, arm, slot = (int(part, 16) for part in cursor.split(":"))
    except ValueError:
        raise invalid("cursor", f"must be the cursor of an earlier reply, got {cursor!r}") from None
    return (table, arm, slot)
