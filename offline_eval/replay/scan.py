"""The first pass of a replay: what the log holds, how it was chosen, and whether it is in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bandits.arrays import I64, Bool
from offline_eval.errors import BadLog
from offline_eval.formats import FORMATS
from offline_eval.formats.chunk import Chunk, ReadOptions, Shard
from offline_eval.learners import MAX_CELLS
from offline_eval.progress import Advance
from offline_eval.survey import Survey

ROWS = 65_536
TOLERANCE = 1e-6
CERTAIN = "propensity 1"


@dataclass
class Scan:
    """What is known of a log before it is replayed.

    survey     of the rows that are replayed
    largest    largest |value| of each context column by name
    listed     whether propensity = 1 / candidates in every row whose candidates are known
    unlisted   (smallest, largest) propensity of the rows whose candidates are unknown
    most       most candidates of a row whose candidates are known
    slots      different slots of the contexts, int64 (S,) ascending; None where a row's are unknown
    graphs     versions of the graphs that rows asked, "" of rows that asked none
    unsorted   the first row that is older than the one before it, or None
    """

    survey: Survey = field(default_factory=Survey)
    largest: dict[str, float] = field(default_factory=dict)
    listed: bool = True
    unlisted: tuple[float, float] = (math.inf, 0.0)
    most: int = 0
    slots: I64 | None = field(default_factory=lambda: np.empty(0, np.int64))
    graphs: set[str] = field(default_factory=set)
    unsorted: BadLog | None = None
    _last: int | None = None

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk."""
        self.survey.add(chunk)
        if not len(chunk):
            return
        for name, column in zip(chunk.names, chunk.context.T, strict=True):
            size = float(np.nanmax(np.abs(column))) if (~np.isnan(column)).any() else 0.0
            self.largest[name] = max(self.largest.get(name, 0.0), size)
        self._add_propensities(chunk)
        self._add_slots(chunk)
        names, used = ([], [-1]) if chunk.graph is None else (chunk.graph.names, np.unique(chunk.graph.code).tolist())
        self.graphs |= {str(names[code]) if code >= 0 else "" for code in used}
        if self.unsorted is None and chunk.timestamp is not None:
            self._add_times(chunk)

    def _add_propensities(self, chunk: Chunk) -> None:
        known = np.zeros(len(chunk), bool)
        if chunk.candidates is not None:
            known = chunk.candidates.known
            size = np.diff(chunk.candidates.start)
            self.most = max(self.most, int(size[known].max(initial=0)))
            self.listed &= bool((np.abs(chunk.propensity * size - 1.0)[known] <= TOLERANCE).all())
        rest = chunk.propensity[~known]
        if len(rest):
            low, high = self.unlisted
            self.unlisted = (min(low, float(rest.min())), max(high, float(rest.max())))

    def _add_slots(self, chunk: Chunk) -> None:
        if chunk.slots is None:
            self.slots = None
        elif self.slots is not None:
            self.slots = np.union1d(self.slots, np.array(chunk.slots.names, np.int64))
            if len(self.slots) > MAX_CELLS:
                rule = f"a learner holds at most {MAX_CELLS:,} numbers"
                raise BadLog("slots", f"{len(self.slots):,} different ones", rule, place=chunk.place.of(0))

    def _add_times(self, chunk: Chunk) -> None:
        time = chunk.timestamp
        assert time is not None
        before = np.concatenate([[time[0] if self._last is None else self._last], time[:-1]])
        if (time < before).any():
            row = int(np.argmax(time < before))
            rule = f"is earlier than the row before it ({before[row]}): a learning policy needs a log sorted by time"
            self.unsorted = BadLog("timestamp", time[row], f"{rule}; sort it first", place=chunk.place.of(row))
        self._last = int(time[-1])

    def uniform(self, n_actions: int) -> bool:
        """Whether every row was chosen uniformly among its candidates.

        Where candidates are unknown, one propensity for all rows is that of as many actions, some of them never seen.
        """
        low, high = self.unlisted
        if low > high:
            return self.listed
        n = round(1.0 / low)
        return self.listed and high - low <= TOLERANCE * low and abs(n * low - 1.0) <= TOLERANCE and n >= n_actions


def certain(chunk: Chunk) -> Bool:
    """Rows in which nothing else could have been chosen though there were several candidates, bool (m,)."""
    mask: Bool = chunk.propensity == 1.0
    if chunk.candidates is not None:
        mask = mask & (~chunk.candidates.known | (np.diff(chunk.candidates.start) > 1))
    return mask


def scan(shards: Sequence[Shard], options: ReadOptions, advance: Advance) -> Scan:
    """The first pass. Raises BadLog."""
    found = Scan()
    for shard in shards:
        start = found.survey.rows
        for chunk in FORMATS[shard.format].read(shard, ROWS, options):
            before = found.survey.rows
            if not options.include_exploit and (left := certain(chunk)).any():
                chunk = chunk.where(~left, CERTAIN)
            found.add(chunk)
            advance(found.survey.rows - before)
        found.survey.sizes.append(found.survey.rows - start)
    return found
