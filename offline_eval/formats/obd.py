"""The Open Bandit Dataset, as Parquet or CSV.

Saito, Aihara, Matsutani, Narita, "Open Bandit Dataset and Pipeline: Towards Realistic and Reproducible Off-Policy
Evaluation", NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bandits.arrays import F64, I64
from offline_eval.formats import columns, csv_text, hashing, parquet, text
from offline_eval.formats.chunk import Chunk, Place, ReadOptions, Shard
from offline_eval.formats.columns import Faults
from offline_eval.formats.lists import MAX_CONTEXT

REQUIRED = ("timestamp", "item_id", "position", "click", "propensity_score")
_USER, _AFFINITY = "user_feature_", "user-item_affinity_"
_BATCH = 65_536


class OpenBanditDataset:
    """A row per item shown: click is the reward, item_id the action; users and the logging distribution are unknown.

    The context is the affinities, and of each user feature a column `user_feature_k=value` that is 1 or missing.
    """

    NAME = "obd"
    SUFFIXES: tuple[str, ...] = (".parquet", ".csv")
    FIXED_ACTIONS = True

    def recognises(self, path: Path) -> bool:
        return {"item_id", "propensity_score"} <= set(_names(path))

    def shards(self, path: Path, first: int) -> list[Shard]:
        if text.suffix(path) == ".parquet":
            return parquet.shards(self.NAME, path, first)
        return [Shard(self.NAME, path, first)]

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        names = _names(shard.path)
        parquet.require(shard.path, names, REQUIRED)
        wanted = [name for name in names if name in REQUIRED or name.startswith((_USER, _AFFINITY))]
        if text.suffix(shard.path) == ".parquet":
            for batch, place in parquet.batches(shard.path, shard.part, min(rows, _BATCH), wanted):
                yield from _chunks(batch, place, place.number, rows, options)
            return
        first = 0
        for batch, place in csv_text.batches(shard.path):
            faults = Faults(place)
            typed = _typed(batch.select(wanted), faults)
            yield from _chunks(typed, place, np.arange(first, first + len(typed)), rows, options, faults)
            first += batch.num_rows


def _names(path: Path) -> list[str]:
    return parquet.names(path) if text.suffix(path) == ".parquet" else csv_text.header(path)


def _typed(batch: pa.RecordBatch, faults: Faults) -> pa.RecordBatch:
    """Text as what the columns are."""
    arrays = []
    for name in batch.schema.names:
        if name == "timestamp":
            arrays.append(csv_text.times(batch[name], name, faults))
        elif name.startswith(_USER):
            arrays.append(batch[name])
        else:
            arrays.append(csv_text.numbers(batch[name], name, faults))
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _chunks(
    batch: pa.RecordBatch, place: Place, index: I64, rows: int, options: ReadOptions, faults: Faults | None = None
) -> Iterator[Chunk]:
    faults = faults or Faults(place)
    timestamp = columns.times(batch["timestamp"], "timestamp", faults)
    item = columns.integers(batch["item_id"], "item_id", faults, 0)
    position = columns.integers(batch["position"], "position", faults, 0)
    click = columns.numbers(batch["click"], "click", faults)
    propensity = columns.propensities(batch["propensity_score"], "propensity_score", faults)
    affinities = sorted(name for name in batch.schema.names if name.startswith(_AFFINITY))
    affinity = np.empty((batch.num_rows, len(affinities)), order="F")
    for k, name in enumerate(affinities):
        affinity[:, k] = columns.numbers(batch[name], name, faults, optional=True, nan=True)
    context, names = np.empty((batch.num_rows, 0)), list[str]()
    users = sorted(name for name in batch.schema.names if name.startswith(_USER))
    hot, values = _one_hot(batch, users, faults)
    if options.context:
        context, names = np.concatenate([affinity, hot], axis=1), [*affinities, *values]
    faults.settle()
    keys = [hashing.column(batch[name]) for name in (*REQUIRED, *users)]
    chunk = Chunk(
        place=place,
        action=columns.number_ids(item),
        reward=click,
        propensity=propensity,
        timestamp=timestamp,
        fingerprint=hashing.combine([*keys, hashing.matrix(affinity, affinities)]),
        position=position,
        context=context,
        names=names,
        segments={"position": columns.number_ids(position), "hour": columns.hours(timestamp)},
        index=index,
    )
    yield from pieces(chunk, rows)


def pieces(chunk: Chunk, rows: int) -> Iterator[Chunk]:
    """The rows in their order, at most `rows` at a time, fewer where the context is wide."""
    size = max(1, min(rows, MAX_CONTEXT // max(1, len(chunk.names))))
    if len(chunk) <= size:
        yield chunk
        return
    for low in range(0, len(chunk), size):
        keep = np.zeros(len(chunk), bool)
        keep[low : low + size] = True
        yield replace(chunk.where(keep, ""), left_out=chunk.left_out if low == 0 else {})


def _one_hot(batch: pa.RecordBatch, users: list[str], faults: Faults) -> tuple[F64, list[str]]:
    """A column for each value of each user feature: 1, or NaN in the other rows."""
    blocks, names = [np.empty((batch.num_rows, 0), order="F")], list[str]()
    for name in users:
        ids = columns.ids(columns.texts(batch[name], name, faults, optional=True))
        used, code = np.unique(ids.code, return_inverse=True)
        block = np.full((batch.num_rows, len(used)), np.nan, order="F")
        block[np.arange(batch.num_rows), code] = 1.0
        blocks.append(block[:, used >= 0])
        names += [f"{name}={ids.names[k]}" for k in used[used >= 0]]
    return np.concatenate(blocks, axis=1), names
