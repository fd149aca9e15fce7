"""Rows of the own log as chunks: checks, candidates of later positions, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandits.arrays import F64, I64
from bandits.own_log import VERSION
from offline_eval.dataset import SUM_TOLERANCE
from offline_eval.formats import columns, hashing
from offline_eval.formats.chunk import Chunk, Ids, Place, ReadOptions
from offline_eval.formats.columns import Faults
from offline_eval.formats.lists import MAX_CONTEXT, Lists, Weighted, dense, entries, lists, named, weighted
from offline_eval.formats.own_graphs import questions, versions
from offline_eval.formats.served import Decisions, decide

REQUIRED = ("version", "decision_id", "timestamp", "mode", "position", "item", "propensity", "reward")
OPTIONAL = ("user", "policy", "rewards", "candidates", "graph", "exclude", "distribution", "features")
SLOTS = ("slots", "weights")
MODES = ("explore", "exploit", "holdout")


@dataclass(frozen=True, slots=True)
class OwnRows:
    """n checked rows; see bandits.own_log.Row for what the columns mean."""

    place: Place
    index: I64
    decision: NDArray[np.uint64]
    timestamp: I64
    user: NDArray[np.uint64] | None
    policy: Ids | None
    mode: Ids
    item: NDArray[np.intp]
    propensity: F64
    reward: F64
    rewards: dict[str, F64]
    decisions: Decisions
    features: tuple[Lists, I64, list[str], F64] | None
    slots: Weighted | None

    @property
    def position(self) -> I64:
        return self.decisions.position


def read(
    batch: pa.RecordBatch,
    place: Place,
    index: I64,
    decisions: Decisions | None,
    low: int,
    graphs: Mapping[str, Path],
) -> OwnRows:
    """Check rows. Raises BadLog for the first fault.

    decisions  of the whole file, of which these are the rows from low on, where a decision's rows lie apart; else None:
               each decision has all its rows in the batch
    graphs     files by version
    """
    faults = Faults(place)
    version = columns.integers(batch["version"], "version", faults, 0)
    faults.refuse(version != VERSION, "version", batch["version"], f"must be {VERSION}, the version that is read")
    decision = hashing.column(columns.texts(batch["decision_id"], "decision_id", faults))
    timestamp = columns.times(batch["timestamp"], "timestamp", faults)
    mode = columns.ids(columns.texts(batch["mode"], "mode", faults))
    wrong = np.array([name not in MODES for name in mode.names] + [False])[mode.code]
    faults.refuse(wrong, "mode", batch["mode"], f"must be one of {', '.join(MODES)}")
    propensity = columns.propensities(batch["propensity"], "propensity", faults, optional=True)
    reward = columns.numbers(batch["reward"], "reward", faults, optional=True)
    there = batch.schema.names
    user = hashing.users(columns.texts(batch["user"], "user", faults, optional=True)) if "user" in there else None
    policy = None
    if "policy" in there:
        policy = columns.ids(columns.texts(batch["policy"], "policy", faults, optional=True))
    rewards = {}
    if "rewards" in there:
        found, code, names, value = named(batch["rewards"], "rewards", faults)
        raw = dense(found.rows, code, value, len(reward), len(names))
        rewards = {name: raw[:, k] for k, name in enumerate(names)}
    features = named(batch["features"], "features", faults) if "features" in there else None
    slots = weighted(batch["slots"], batch["weights"], faults) if set(SLOTS) <= set(there) else None
    mine = decide_rows(batch, faults, graphs)
    item = mine.item
    whole = mine.decisions if decisions is None else decisions.part(low, len(reward))
    faults.refuse(whole.missing, "item", batch["item"], "must be among the decision's candidates")
    faults.settle()
    if decisions is not None:
        names = list(decisions.names)
        at = {name: k for k, name in enumerate(names)}
        item = np.array([at[name] for name in mine.decisions.names], np.intp)[item] if len(item) else item
    return OwnRows(
        place,
        index,
        decision,
        timestamp,
        user,
        policy,
        mode,
        item,
        propensity,
        reward,
        rewards,
        whole,
        features,
        slots,
    )


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows joined with their decisions, and what each served, into the decisions' names."""

    decisions: Decisions
    item: NDArray[np.intp]


def decide_rows(batch: pa.RecordBatch, faults: Faults, graphs: Mapping[str, Path]) -> Joined:
    """Of some rows their decisions; the columns that this needs are checked.

    graphs  files by version; candidates that are left to another one are unknown
    """
    n, there = batch.num_rows, batch.schema.names

    def held(name: str) -> Lists:
        array = batch[name] if name in there else pa.nulls(n)
        return lists(array, name, faults)

    item = columns.texts(batch["item"], "item", faults)
    candidates, distribution = held("candidates"), held("distribution")
    flat = columns.texts(candidates.flat, "candidates", entries(candidates, faults))
    version = versions(batch, faults)
    asked = questions(batch, version, candidates.known, graphs, faults)
    out = pa.nulls(0, pa.string())
    if asked is not None:
        out = columns.texts(asked.exclude.flat, "exclude", entries(asked.exclude, faults))
    ids = columns.ids(pa.concat_arrays([one.cast(pa.large_string()) for one in (item, flat, out)]))
    marked = candidates.known.copy()
    for name in ("graph", "exclude"):
        if name in there:
            marked |= ~columns.nulls(batch[name])
    decisions = decide(
        hashing.column(batch["decision_id"]),
        columns.integers(batch["position"], "position", faults, 0),
        ids.code[:n],
        marked,
        candidates.start,
        ids.code[n : n + len(flat)],
        [str(name) for name in ids.names],
        _law(candidates, distribution, faults),
        candidates.known,
        version,
        asked,
        ids.code[n + len(flat) :],
    )
    return Joined(decisions, ids.code[:n])


def _law(candidates: Lists, distribution: Lists, faults: Faults) -> F64:
    """Probability of each candidate, NaN where it is not logged."""
    inner = entries(distribution, faults)
    value = columns.numbers(distribution.flat, "distribution", inner)
    inner.refuse((value < 0) | (value > 1 + SUM_TOLERANCE), "distribution", distribution.flat, "must be a probability")
    length, wanted = np.diff(distribution.start), np.diff(candidates.start)
    unlike = distribution.known & (length != wanted)
    if unlike.any():
        texts = [f"{k} numbers" for k in length]
        faults.refuse(unlike, "distribution", texts, "must be aligned with candidates")
    total = np.bincount(distribution.rows, value, len(length))
    off = distribution.known & ~unlike & (np.abs(total - 1.0) > SUM_TOLERANCE) & (length > 0)
    faults.refuse(off, "sum of distribution", total, "must be 1")
    found = np.full(int(candidates.start[-1]), np.nan)
    aligned = distribution.known & ~unlike
    found[np.repeat(aligned, wanted)] = value[np.repeat(aligned, length)]
    return found


def chunks(rows: OwnRows, low: int, size: int, options: ReadOptions) -> Iterator[Chunk]:
    """Rows from low on as chunks of at most `size`, fewer where contexts or candidates are many."""
    n = len(rows.reward)
    while low < n:
        high = min(low + size, n)
        high = low + rows.decisions.fitting(low, high, MAX_CONTEXT)
        context, names = np.empty((high - low, 0)), list[str]()
        if options.context and rows.features is not None:
            found, code, every, value = rows.features
            first, last = found.start[low], found.start[high]
            used = np.unique(code[first:last])
            while len(used) * (high - low) > MAX_CONTEXT and high - low > 1:
                high -= (high - low) // 2
                last = found.start[high]
                used = np.unique(code[first:last])
            names = [every[k] for k in used]
            inside = np.searchsorted(used, code[first:last])
            context = dense(found.rows[first:last] - low, inside, value[first:last], high - low, len(used))
        yield _kept(_chunk(rows, low, high, context, names), rows, slice(low, high), options)
        low = high


def _chunk(rows: OwnRows, low: int, high: int, context: F64, names: list[str]) -> Chunk:
    part = slice(low, high)
    position, timestamp = rows.position[part], rows.timestamp[part]
    segments = {"position": columns.number_ids(position), "hour": columns.hours(timestamp)}
    for name, ids in (("mode", rows.mode), ("policy", rows.policy)):
        if ids is not None:
            segments[name] = Ids(ids.code[part], ids.names)
    return Chunk(
        place=replace(rows.place, number=rows.place.number[part]),
        action=Ids(rows.item[part], rows.decisions.names),
        reward=rows.reward[part],
        propensity=rows.propensity[part],
        user=None if rows.user is None else rows.user[part],
        timestamp=timestamp,
        fingerprint=hashing.combine([rows.decision[part], position.astype(np.uint64)]),
        position=position,
        candidates=rows.decisions.candidates(low, high),
        context=context,
        names=names,
        rewards={name: raw[part] for name, raw in rows.rewards.items()},
        segments=segments,
        index=rows.index[part],
        graph=rows.decisions.versions(low, high),
        slots=None if rows.slots is None else rows.slots.ragged(low, high),
    )


def _kept(chunk: Chunk, rows: OwnRows, part: slice, options: ReadOptions) -> Chunk:
    """Without the rows that evaluation leaves out; a row with several reasons counts under the first."""
    exploit = rows.mode.code[part] == (list(rows.mode.names).index("exploit") if "exploit" in rows.mode.names else -1)
    reasons = {
        "exploit mode": exploit & (not options.include_exploit),
        "no reward yet": np.isnan(chunk.reward),
        "no propensity": np.isnan(chunk.propensity),
    }
    keep = np.ones(len(chunk), bool)
    left_out = {}
    for reason, mask in reasons.items():
        if n := int((mask & keep).sum()):
            left_out[reason] = n
        keep &= ~mask
    return replace(chunk.where(keep, ""), left_out=left_out) if left_out else chunk
