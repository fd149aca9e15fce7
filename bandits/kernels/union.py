"""Candidates that a graph gave to logged decisions, from their slots."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from bandits.arrays import I32, I64, Bool


class Asked(NamedTuple):
    """n logged rows of decisions that asked one graph of N items, whose edges are row_start and row_item.

    head          int64 (n,)    row that holds the slots and the excluded items of each row's decision
    slot_start    int64 (n+1,)  of each row's own slots in slot; a slot beyond the graph has no edge
    slot          int64 (S,)
    out_start     int64 (n+1,)  of each row's own excluded items in out
    out           int32 (X,)    places in the graph, -1: not in it
    group         int64 (n,)    decision of each row
    member_start  int64 (G+1,)  of each decision's rows in member
    member        int64 (n,)    rows, by position within a decision
    position      int64 (n,)
    place         int32 (n,)    of what each row served, -1: not in the graph
    """

    row_start: Any
    row_item: Any
    head: Any
    slot_start: Any
    slot: Any
    out_start: Any
    out: Any
    group: Any
    member_start: Any
    member: Any
    position: Any
    place: Any


@njit(cache=True, nogil=True)
def stamp_row(asked: Any, row: int, stamp: I64) -> int:
    """Stamp a row's candidates at position 0 with its number, and return how many they are.

    stamp  int64 (N,)  not the row's number before
    """
    head, n = asked.head[row], 0
    for k in range(asked.slot_start[head], asked.slot_start[head + 1]):
        slot = asked.slot[k]
        if slot < asked.row_start.size - 1:
            for edge in range(asked.row_start[slot], asked.row_start[slot + 1]):
                item = asked.row_item[edge]
                n += stamp[item] != row
                stamp[item] = row
    for k in range(asked.out_start[head], asked.out_start[head + 1]):
        n -= wipe(asked.out[k], row, stamp)
    return n


@njit(cache=True, nogil=True)
def wipe(item: int, row: int, stamp: I64) -> int:
    """Take a row's stamp from an item; 1 where it had it."""
    if item < 0 or stamp[item] != row:
        return 0
    stamp[item] = -1
    return 1


@njit(cache=True, nogil=True)
def wipe_served(asked: Any, row: int, stamp: I64) -> int:
    """Take a row's stamp from what its decision served at earlier positions, and return of how many."""
    group, n = asked.group[row], 0
    for k in range(asked.member_start[group], asked.member_start[group + 1]):
        other = asked.member[k]
        if asked.position[other] >= asked.position[row]:
            break
        n += wipe(asked.place[other], row, stamp)
    return n


@njit(cache=True, nogil=True)
def count_candidates(asked: Any, rows: I64, stamp: I64, length: I64, missing: Bool) -> None:
    """Write for each of the rows how many candidates it had, and whether its own item was none of its decision's.

    stamp    int64 (N,)  of -1
    length   int64 (n,)  out, at the rows
    missing  bool  (n,)  out, at the rows
    """
    for row in rows:
        n = stamp_row(asked, row, stamp)
        place = asked.place[row]
        missing[row] = place < 0 or stamp[place] != row
        length[row] = n - wipe_served(asked, row, stamp)


@njit(cache=True, nogil=True)
def write_candidates(asked: Any, rows: I64, stamp: I64, item: I32) -> None:
    """Write the candidates of the rows one after the other, in the order of their slots.

    stamp  int64 (N,)  of -1
    item   int32 (E,)  out, E the sum of their lengths
    """
    at = 0
    for row in rows:
        stamp_row(asked, row, stamp)
        wipe_served(asked, row, stamp)
        head = asked.head[row]
        for k in range(asked.slot_start[head], asked.slot_start[head + 1]):
            slot = asked.slot[k]
            if slot < asked.row_start.size - 1:
                for edge in range(asked.row_start[slot], asked.row_start[slot + 1]):
                    if stamp[asked.row_item[edge]] == row:
                        item[at] = asked.row_item[edge]
                        stamp[item[at]] = -1
                        at += 1
