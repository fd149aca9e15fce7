"""Rows of a log file as columns: what every format is read into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64

Id = str | int
_PER_ROW = ("reward", "propensity", "count", "user", "timestamp", "fingerprint", "position", "context", "index")


@dataclass(frozen=True, slots=True)
class Ids:
    """m ids, dictionary-encoded.

    code   intp (m,)  into names; -1: missing
    names  distinct; all text or all integers
    """

    code: NDArray[np.intp]
    names: Sequence[Id]


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list of ids for each of m rows; row i holds code[start[i]:start[i + 1]].

    start  int64    (m+1,)
    code   intp     (E,)   into names
    names  distinct
    value  float64  (E,)   what belongs to each id (a probability), or None
    known  bool     (m,)   false where the row's list is unknown (it is then empty)
    """

    start: NDArray[np.int64]
    code: NDArray[np.intp]
    names: Sequence[Id]
    known: NDArray[np.bool_]
    value: F64 | None = None

    def where(self, keep: NDArray[np.bool_]) -> Ragged:
        """The rows where keep holds."""
        length = np.diff(self.start)
        entries = np.repeat(keep, length)
        start = np.concatenate([[0], np.cumsum(length[keep])]).astype(np.int64)
        value = None if self.value is None else self.value[entries]
        return Ragged(start, self.code[entries], self.names, self.known[keep], value)


@dataclass(frozen=True, slots=True)
class Place:
    """Where m rows stand in their file: 0-based rows (Parquet, npz) or 1-based physical lines (text).

    number  int64 (m,)
    """

    file: str
    kind: Literal["row", "line"]
    number: NDArray[np.int64]

    def of(self, i: int) -> str:
        """Of the i-th row of the chunk."""
        return f"{self.file}: {self.kind} {self.number[i]}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """m rows, each one action and its reward, already checked one by one: types, ranges, propensity in (0, 1].

    place         of each row
    action        what was chosen
    reward        float64 (m,)
    propensity    float64 (m,)
    count         float64 (m,)  rows that each one stands for, or None
    user          uint64 (m,)   64-bit hash of the user id, 0: none; None: the log has no users
    timestamp     int64 (m,)    microseconds UTC, or None
    fingerprint   uint64 (m,)   equal for duplicates: hash of (decision id, position), or without ids of every column
                                where there is a timestamp; None: no test is possible
    position      int64 (m,)    place in the slate, or None
    candidates    what could have been chosen in each row, without those served at earlier positions; or None.
                  Its `value` is the logging policy's whole distribution, NaN where unknown; None: never known
    context       float64 (m, d) numbers by name, NaN where missing; d may be 0
    names         (d,) of the context's columns
    rewards       raw rewards by name, float64 (m,) with NaN where missing (satisfaction, revenue of an ad-load log)
    segments      columns to slice diagnostics by, by name: position, mode, policy, hour, ..
    left_out      rows read but left out, by reason: {"exploit mode": 12, "no reward yet": 3}
    index         int64 (m,)    0-based number of each row in its file, those left out counted; `place` may count lines
    unread        columns of a table that are no numbers, so that they are not in the context
    reward_name   which of the raw rewards `reward` is, where the file has no column of its own for it
    declared      ids that the file declares to be all actions (obp: 0 .. n_actions - 1); empty: none declared
    graph         version of the graph that each row's decision asked, -1: none; None: the format has none. It alone
                  knows the candidates of a row that names one and whose candidates are unknown
    slots         contexts as weighted slots, `value` their weights, |weight| <= 16, slots different within a row; None:
                  not asked for (ReadOptions.slots), or the file has none
    """

    place: Place
    action: Ids
    reward: F64
    propensity: F64
    count: F64 | None = None
    user: NDArray[np.uint64] | None = None
    timestamp: NDArray[np.int64] | None = None
    fingerprint: NDArray[np.uint64] | None = None
    position: NDArray[np.int64] | None = None
    candidates: Ragged | None = None
    context: F64 = field(default_factory=lambda: np.empty((0, 0)))
    names: Sequence[str] = ()
    rewards: Mapping[str, F64] = field(default_factory=dict)
    segments: Mapping[str, Ids] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    index: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    declared: Sequence[Id] = ()
    reward_name: str = "reward"
    unread: Sequence[str] = ()
    graph: Ids | None = None
    slots: Ragged | None = None

    def __len__(self) -> int:
        return len(self.reward)

    def where(self, keep: NDArray[np.bool_], reason: str) -> Chunk:
        """The rows where keep holds, the others counted as left out for the reason."""

        def ids(some: Ids) -> Ids:
            return Ids(some.code[keep], some.names)

        def part(column: NDArray[Any] | None) -> Any:
            return column[keep] if column is not None and len(column) == len(keep) else column

        return replace(
            self,
            place=replace(self.place, number=self.place.number[keep]),
            action=ids(self.action),
            candidates=None if self.candidates is None else self.candidates.where(keep),
            graph=None if self.graph is None else ids(self.graph),
            slots=None if self.slots is None else self.slots.where(keep),
            rewards={name: values[keep] for name, values in self.rewards.items()},
            segments={name: ids(some) for name, some in self.segments.items()},
            left_out={**self.left_out, reason: self.left_out.get(reason, 0) + int((~keep).sum())},
            **{name: part(getattr(self, name)) for name in _PER_ROW},
        )


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read. Picklable.

    columns          canonical name -> column of the file (CSV's --map)
    include_exploit  keep rows of mode exploit and of propensity 1 that it chose
    default_reward   of a line without outcome (dsjson)
    slate            reserved
    context          read the context; without it chunks have none, and are read faster
    slots            read the context's weighted slots too (own log), which a replayed learner wants
    graphs           files of graphs by version, which give the candidates that an own log leaves to them
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    include_exploit: bool = False
    default_reward: float = 0.0
    context: bool = True
    slots: bool = False
    graphs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a log that one process reads alone. Picklable.

    first   number of its first row among all rows of the log, an estimate where unknown beforehand; orders shards
    part    what of the file: row groups (start, stop) of Parquet, or None for all of it
    """

    format: str
    path: Path
    first: int = 0
    part: tuple[int, int] | None = None


class LogFormat(Protocol):
    """A file format; one module each, in formats.FORMATS by name."""

    NAME: str
    SUFFIXES: tuple[str, ...]
    FIXED_ACTIONS: bool
    """Whether the same actions stand for choice in every row."""

    def recognises(self, path: Path) -> bool:
        """Whether a file of one of the suffixes looks like it (column names of Parquet, first line of text)."""

    def shards(self, path: Path, first: int) -> list[Shard]:
        """Parts of one file that can be read on their own, in order."""

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        """Chunks of at most `rows` rows, in order. Raises BadLog with file, row, column, value and rule."""
