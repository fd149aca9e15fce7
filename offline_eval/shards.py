"""One function over all shards of a log, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Protocol, Self, TypeVar

from threadpoolctl import threadpool_limits

from offline_eval.formats.chunk import Shard


class Mergeable(Protocol):
    """What a shard comes to."""

    def merge(self, other: Self) -> None:
        """Take in what follows."""


M = TypeVar("M", bound=Mergeable)
Advance = Callable[[int], None]


def over_shards(function: Callable[[Shard, Advance], M], shards: Sequence[Shard], jobs: int, advance: Advance) -> M:
    """function of every shard, merged in their order: a map and a fold, so that any engine that has both will do.

    function  of a shard, telling `advance` of the rows it has read; picklable where jobs > 1
    jobs      processes; 1: this one

    Raises what function raises, of the first shard in order that does.
    """
    results = iter(_map(function, shards, jobs, advance))
    whole = next(results)
    for part in results:
        whole.merge(part)
    return whole


def _map(function: Callable[[Shard, Advance], M], shards: Sequence[Shard], jobs: int, advance: Advance) -> Iterable[M]:
    if jobs == 1 or len(shards) == 1:
        return (function(shard, advance) for shard in shards)
    return _in_processes(function, shards, min(jobs, len(shards)), advance)


def _in_processes(
    function: Callable[[Shard, Advance], M], shards: Sequence[Shard], jobs: int, advance: Advance
) -> Iterator[M]:
    # spawn: a fork would carry pyarrow's threads and their locks along.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_one_thread) as pool:
        try:
            waiting = [pool.submit(_counted, function, shard) for shard in shards]
            for one in waiting:
                result, rows = one.result()
                advance(rows)
                yield result
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _one_thread() -> None:
    threadpool_limits(1)


def _counted(function: Callable[[Shard, Advance], M], shard: Shard) -> tuple[M, int]:
    rows = 0

    def advance(more: int) -> None:
        nonlocal rows
        rows += more

    return function(shard, advance), rows
