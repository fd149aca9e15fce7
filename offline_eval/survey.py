"""The first pass over a log: what its batches have to agree on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from bandits.arrays import F64, Bool
from offline_eval.actions import Actions
from offline_eval.dataset import LARGEST, TOO_LARGE, TOO_SMALL
from offline_eval.diagnostics.fingerprints import Fingerprints
from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Chunk, Id

MAX_ACTIONS = 10_000_000
MAX_NAMES = 4_096
"""Of context columns."""
MAX_CATEGORIES = 50
"""Of one segment; further ones are told together."""


EVEN = 1e-9
"""Of propensity times candidates from 1, where every candidate was as likely."""


@dataclass
class RawReward:
    """What is known of a reward by name: rows that have it, their sum, sum of squares and range."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: F64) -> None:
        """Take in values, NaN where missing."""
        there = values[~np.isnan(values)]
        if len(there):
            one = RawReward(len(there), *map(float, (there.sum(), there @ there, there.min(), there.max())))
            self.merge(one)

    def merge(self, other: RawReward) -> None:
        """Take in another's."""
        self.n, self.total, self.squares = self.n + other.n, self.total + other.total, self.squares + other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def mean(self) -> float:
        return float(self.total / self.n)

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return float(math.sqrt(max(self.squares / self.n - self.mean**2, 0.0)))


@dataclass
class Survey:
    """What a log holds, merged from its chunks in order.

    rows           read, those left out included
    n              rows that are evaluated
    left_out       rows that are not, by reason
    ids            actions by their text: logged, candidates or declared
    logged         texts of those that were logged
    names          of the context's columns, each with the sum of its values
    rewards        raw ones by name
    propensity, reward, time   (low, high) of the first two; (first, last) in microseconds, None without
    ordered        whether timestamps never fall; None without any
    unread         columns of a table that are no numbers
    reward_name    what the rows' reward is called
    with_user, without_user          rows; both 0 where the log has no column of users
    candidates     rows whose candidates are known
    distributions  rows whose whole logging distribution is known
    graphless      rows whose candidates a graph alone knows that was not given, by its version
    even           rows whose propensity is 1 by the number of their candidates
    segments       rows by segment and category
    fingerprints   of all rows, for duplicates; None where a row has none
    sizes          rows of each shard, in order
    """

    rows: int = 0
    n: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    ids: dict[str, Id] = field(default_factory=dict)
    logged: set[str] = field(default_factory=set)
    names: dict[str, float] = field(default_factory=dict)
    rewards: dict[str, RawReward] = field(default_factory=dict)
    propensity: tuple[float, float] = (math.inf, -math.inf)
    reward: tuple[float, float] = (math.inf, -math.inf)
    time: tuple[int, int] | None = None
    ordered: bool | None = None
    reward_name: str = "reward"
    unread: set[str] = field(default_factory=set)
    with_user: int = 0
    without_user: int = 0
    candidates: int = 0
    distributions: int = 0
    graphless: Counter[str] = field(default_factory=Counter)
    even: int = 0
    segments: dict[str, Counter[Id]] = field(default_factory=dict)
    fingerprints: Fingerprints | None = field(default_factory=Fingerprints)
    sizes: list[int] = field(default_factory=list)
    _last: int = 0

    @property
    def actions(self) -> Actions:
        """All actions of the log."""
        return Actions.of(self.ids.values())

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the context's columns, sorted."""
        return tuple(sorted(self.names))

    @property
    def least_propensity(self) -> float:
        return self.propensity[0]

    def uniform(self, fixed: int | None) -> bool:
        """Whether every row's action was drawn uniformly from known candidates.

        fixed  number of actions, where the same ones stood for choice in every row
        """
        if fixed is None:
            return self.even == self.n
        return all(abs(end * fixed - 1.0) < EVEN for end in self.propensity)

    @property
    def middle(self) -> F64 | None:
        """Means of those columns, float64 (d,): they halve the log for the diagnosis; None without any."""
        return np.array([self.names[name] / self.n for name in self.columns]) if self.names and self.n else None

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk. Raises BadLog where a bound is passed."""
        _check_sizes(chunk)
        left = sum(chunk.left_out.values())
        self.rows += len(chunk) + left
        self.n += len(chunk)
        self.reward_name = chunk.reward_name
        self.unread.update(chunk.unread)
        self.left_out.update(chunk.left_out)
        self._add_ids(chunk)
        sums = np.nan_to_num(chunk.context).sum(axis=0).tolist() if len(chunk) else [0.0] * len(chunk.names)
        for name, total in zip(chunk.names, sums, strict=True):
            self.names[name] = self.names.get(name, 0.0) + total
        for name, values in chunk.rewards.items():
            self.rewards.setdefault(name, RawReward()).add(values)
        if len(self.names) > MAX_NAMES:
            raise BadLog("features", len(self.names), f"a log may have {MAX_NAMES:,} of them", place=chunk.place.file)
        if not len(chunk):
            return
        self.propensity = _joined(self.propensity, _range(chunk.propensity))
        self.reward = _joined(self.reward, _range(chunk.reward))
        self._add_times(chunk)
        if chunk.user is not None:
            without = int((chunk.user == 0).sum())
            self.with_user, self.without_user = self.with_user + len(chunk) - without, self.without_user + without
        for name, ids in chunk.segments.items():
            counts = np.bincount(ids.code[ids.code >= 0], minlength=len(ids.names))
            self.segments.setdefault(name, Counter()).update(dict(zip(ids.names, counts.tolist(), strict=True)))
        if self.fingerprints is not None:
            if chunk.fingerprint is None:
                self.fingerprints = None
            else:
                self.fingerprints.add(chunk.fingerprint)

    def _add_ids(self, chunk: Chunk) -> None:
        used = np.unique(chunk.action.code)
        for code in used[used >= 0].tolist():
            name = chunk.action.names[code]
            self.logged.add(str(name))
            self.ids.setdefault(str(name), name)
        for name in chunk.declared:
            self.ids.setdefault(str(name), name)
        if chunk.candidates is not None:
            self.candidates += int(chunk.candidates.known.sum())
            size = np.diff(chunk.candidates.start)
            self.even += int((chunk.candidates.known & (np.abs(chunk.propensity * size - 1.0) < EVEN)).sum())
            if chunk.candidates.value is not None:
                self.distributions += _whole(chunk)
            for code in np.flatnonzero(np.bincount(chunk.candidates.code)).tolist():
                name = chunk.candidates.names[code]
                self.ids.setdefault(str(name), name)
        self._add_graphs(chunk)
        if len(self.ids) > MAX_ACTIONS:
            raise BadLog("action", len(self.ids), f"a log may have {MAX_ACTIONS:,} of them", place=chunk.place.file)

    def _add_graphs(self, chunk: Chunk) -> None:
        if chunk.graph is None or chunk.candidates is None:
            return
        unknown = chunk.graph.code[~chunk.candidates.known]
        counts = np.bincount(unknown[unknown >= 0], minlength=len(chunk.graph.names)).tolist()
        self.graphless += Counter({str(name): n for name, n in zip(chunk.graph.names, counts, strict=True)})

    def _add_times(self, chunk: Chunk) -> None:
        if chunk.timestamp is None:
            return
        low, high = int(chunk.timestamp.min()), int(chunk.timestamp.max())
        rising = bool((np.diff(chunk.timestamp) >= 0).all())
        if self.time is None:
            self.time, self.ordered = (low, high), rising
        else:
            self.ordered = bool(self.ordered) and rising and int(chunk.timestamp[0]) >= self._last
            self.time = (min(self.time[0], low), max(self.time[1], high))
        self._last = int(chunk.timestamp[-1])

    def merge(self, other: Survey) -> None:
        """Take in what follows."""
        if other.time is not None:
            if self.time is None:
                self.time, self.ordered = other.time, other.ordered
            else:
                # Of a shard that is in order its first time is its smallest.
                self.ordered = bool(self.ordered) and bool(other.ordered) and other.time[0] >= self._last
                self.time = (min(self.time[0], other.time[0]), max(self.time[1], other.time[1]))
            self._last = other._last
        self.rows, self.n = self.rows + other.rows, self.n + other.n
        self.sizes += other.sizes
        self.left_out.update(other.left_out)
        self.unread |= other.unread
        self.reward_name = other.reward_name if other.rows else self.reward_name
        self.ids = {**other.ids, **self.ids}
        self.logged |= other.logged
        for column, total in other.names.items():
            self.names[column] = self.names.get(column, 0.0) + total
        for reward, seen in other.rewards.items():
            self.rewards.setdefault(reward, RawReward()).merge(seen)
        self.propensity = _joined(self.propensity, other.propensity)
        self.reward = _joined(self.reward, other.reward)
        self.with_user, self.without_user = self.with_user + other.with_user, self.without_user + other.without_user
        self.candidates += other.candidates
        self.distributions += other.distributions
        self.graphless += other.graphless
        self.even += other.even
        for name, counts in other.segments.items():
            self.segments.setdefault(name, Counter()).update(counts)
        if other.n and self.fingerprints is not None:
            if other.fingerprints is None:
                self.fingerprints = None
            else:
                self.fingerprints.merge(other.fingerprints)

    def categories(self, segment: str) -> tuple[Id, ...]:
        """Of a segment, the most frequent first; beyond MAX_CATEGORIES they are left to "other"."""
        return tuple(name for name, _ in self.segments[segment].most_common(MAX_CATEGORIES))


def _check_sizes(chunk: Chunk) -> None:
    """Raise BadLog for the first number whose square would overflow a sum."""
    for name, values in {"reward": chunk.reward, **chunk.rewards}.items():
        _refuse(chunk, name, values, np.abs(values) > LARGEST, TOO_LARGE)
    _refuse(chunk, "propensity", chunk.propensity, chunk.propensity < 1 / LARGEST, TOO_SMALL)
    large = np.abs(chunk.context) > LARGEST
    for k in np.flatnonzero(large.any(axis=0)).tolist():
        _refuse(chunk, chunk.names[k], chunk.context[:, k], large[:, k], TOO_LARGE)


def _refuse(chunk: Chunk, column: str, values: F64, bad: Bool, rule: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise BadLog(column, float(values[row]), rule, place=chunk.place.of(row))


def _range(values: F64) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _joined(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _whole(chunk: Chunk) -> int:
    """Rows whose whole logging distribution is known."""
    ragged = chunk.candidates
    assert ragged is not None
    assert ragged.value is not None
    rows = np.repeat(np.arange(len(chunk)), np.diff(ragged.start))
    unknown = np.bincount(rows, np.isnan(ragged.value), len(chunk)) > 0
    return int((ragged.known & ~unknown & (np.diff(ragged.start) > 0)).sum())
