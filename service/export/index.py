"""Decisions of one partition joined with their events, in the order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from service.export.scan import NOWHERE

Records: TypeAlias = np.ndarray[tuple[int], np.dtype[np.void]]
Found: TypeAlias = tuple[int, str, int, int, int, bool, int, int]
"""issued, decision id, partition, frame, byte, deferred, and where its events start and stop."""

_STEP = 4096


@dataclass(frozen=True, slots=True)
class Index:
    """D decisions and E events of a partition: 53 bytes a decision, 10 an event.

    decisions    DECISION_AT (D,), each once, by time
    start, stop  int64 (D,): a decision's events are start .. stop
    position     uint8 (E,), ascending within a decision; NO_POSITION: all of them
    code         uint8 (E,), ascending within a position; see EVENT_OF
    raw          float64 (E,)
    """

    partition: int
    decisions: Records
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    position: npt.NDArray[np.uint8]
    code: npt.NDArray[np.uint8]
    raw: npt.NDArray[np.float64]

    def in_order(self) -> Iterator[Found]:
        """All decisions by (time, decision id)."""
        for _, tied in groupby(self._by_time(), key=itemgetter(0)):
            yield from sorted(tied)

    def _by_time(self) -> Iterator[Found]:
        for first in range(0, self.decisions.size, _STEP):
            rows = slice(first, first + _STEP)
            found: list[Any] = self.decisions[rows].tolist()
            spans = zip(self.start[rows].tolist(), self.stop[rows].tolist(), strict=True)
            for (boot, low, issued, offset, at, deferred), (start, stop) in zip(found, spans, strict=True):
                name = f"{boot:016x}-{low >> 32:x}-{self.partition:x}-{low & 0xFFFFFFFF:x}"
                yield issued, name, self.partition, offset, at, bool(deferred), start, stop

    def events(self, start: int, stop: int) -> list[tuple[int, int, float]]:
        """(position, code, raw) of some events."""
        columns = (column[start:stop].tolist() for column in (self.position, self.code, self.raw))
        return list(zip(*columns, strict=True))


def join(partition: int, decisions: Records, events: Records, left_out: Counter[str]) -> Index:
    """Give each decision its events, the first of each kind; all in the order of the log.

    left_out counts what came again, and decisions of which there are only events.
    """
    group = _groups(decisions, events)
    of_decision, of_event = group[: decisions.size], group[decisions.size :]
    left_out["known_only_from_events"] += np.setdiff1d(of_event, of_decision).size
    _, first = np.unique(of_decision, return_index=True)
    left_out["duplicate"] += decisions.size - first.size
    first = first[np.argsort(decisions["issued"][first], kind="stable")]
    kept = _first_of_each(of_event, events, left_out)
    of_event, events = of_event[kept], events[kept]
    return Index(
        partition,
        decisions[first],
        np.searchsorted(of_event, of_decision[first], "left"),
        np.searchsorted(of_event, of_decision[first], "right"),
        events["position"].copy(),
        events["code"].copy(),
        events["raw"].copy(),
    )


def _groups(decisions: Records, events: Records) -> npt.NDArray[np.int64]:
    """A number for each decision, given to its entries, then to its events."""
    boot = np.concatenate([decisions["boot"], events["boot"]])
    low = np.concatenate([decisions["low"], events["low"]])
    order = np.lexsort((low, boot))
    boot, low = boot[order], low[order]
    group = np.zeros(order.size, np.int64)
    group[order[1:]] = np.cumsum((boot[1:] != boot[:-1]) | (low[1:] != low[:-1]))
    return group


def _first_of_each(group: npt.NDArray[np.int64], events: Records, left_out: Counter[str]) -> npt.NDArray[np.int64]:
    """Places of the first event of each (decision, position, code), in that order; lexsort keeps the log's order."""
    position, code = events["position"], events["code"]
    order = np.lexsort((code, position, group))
    new = np.ones(order.size, np.bool_)
    new[1:] = np.any([np.diff(column[order]) != 0 for column in (group, position, code)], axis=0)
    again = order[~new]
    left_out["duplicate"] += int(np.count_nonzero(code[again]))
    kept: npt.NDArray[np.int64] = order[new & (position[order] != NOWHERE)]
    return kept
