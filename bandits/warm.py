"""Compiles every kernel for the types a server uses, by a round through all of them with tiny inputs.

Compiled code is cached beside the sources: `make setup` runs `python -m bandits.warm`, and a server runs it again
before it says that it is ready, so that no request waits for the compiler.
"""

from __future__ import annotations

import numpy as np

from bandits import sampling, scoring
from bandits.cells import CellTable, decode, tables_of
from bandits.context import CONSTANT, from_embedding
from bandits.graph import Graph
from bandits.mirror import Mirror
from bandits.names import arm_key
from bandits.records import (
    REWARD,
    Details,
    Event,
    Position,
    Receipt,
    ReceiptContext,
    Retired,
    encode_decision,
    encode_events,
    encode_frame,
    encode_receipt,
    encode_retire,
)
from bandits.tables import GraphTable, HashedTable, Learning

_TABLE, _TOTALS = 1, 2


def warm() -> None:
    """Compile all kernels, or load them from the cache."""
    scoring.warm()
    sampling.warm()
    mirror, values = _fold()
    loaded = Mirror()
    loaded.load(values.items(), mirror.watermark)
    loaded.take_expired(2**62)
    cells, partition = CellTable(), CellTable()
    chunks = decode({key: value for key, value in values.items() if key[:1] == b"c"})
    partition.replace(chunks, cells)
    partition.get(_TABLE, arm_key("item"), 0)
    rows = cells.take_changed()
    partition.renew(chunks, cells)
    tables_of(np.zeros(1, np.uint64), [partition])
    partition.mark_clean()
    partition.drop_rest(cells)
    partition.kept(rows)
    for prior in (None, np.ones(1, np.float32)):
        one = np.ones((1, 1), np.float32)
        graph = Graph.of(one, 1.0, 1, ["item"], np.array([0, 1]), np.zeros(1, np.int32), prior)
        table = GraphTable(graph, _TABLE, _TOTALS, Learning())
        table.refresh(cells, rows, (1, 1), 0.0)
        context = from_embedding([1.0], graph)
        table.upper_bounds(context)
        graph.edge_masks(np.zeros(1, np.int32), context.slots)
        table.upper_bounds_of(np.zeros(1, np.int32), context)
    HashedTable(_TABLE, _TOTALS, Learning()).upper_bounds(cells, graph.arm, CONSTANT)


def _fold() -> tuple[Mirror, dict[bytes, bytes]]:
    context = ReceiptContext(_TABLE, CONSTANT.slots.tobytes(), CONSTANT.quanta.tobytes())
    position = Position(arm_key("item"), "item", 1.0)
    receipt = encode_receipt(Receipt(1, 0, 0, 0, 0, 0, 1, _TOTALS, "warm", (0,), (context,), (position,)))
    details = Details("diag_linucb", "explore", ("greedy", 1.0, 1, 0.0), "", [0.0])
    entries = [encode_decision(receipt, details), encode_events(receipt, [Event(0, REWARD, 0, 1, 1.0)])]
    mirror = Mirror()
    mirror.fold(encode_frame(entries, bytes(16)), 0)
    values = mirror.take_changes()
    mirror.fold(encode_frame([encode_retire([Retired(_TABLE + 2)], 0)], bytes(16)), 0, 2)
    return mirror, values


if __name__ == "__main__":
    warm()
