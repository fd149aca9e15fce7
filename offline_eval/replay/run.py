"""Replay a policy on a log that may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bandits.arrays import F64
from bandits.errors import UsageError
from bandits.names import MAX_WEIGHT
from offline_eval.accumulate import Sums, blocks_of_rows
from offline_eval.batches import Batch, Frame, batch_rows, batches
from offline_eval.estimators.base import Split
from offline_eval.formats.chunk import ReadOptions, Shard
from offline_eval.learners import is_learner, learner
from offline_eval.progress import Advance
from offline_eval.replay.doubly_robust import DoublyRobust
from offline_eval.replay.model import running_model
from offline_eval.replay.player import FixedPlayer
from offline_eval.replay.rejection import Matching, Rejection
from offline_eval.replay.rows import rows_of
from offline_eval.replay.scan import CERTAIN, Scan, certain
from offline_eval.targets import Target, parse

MAX_ENTRIES = 4_000_000
"""Of a batch's contexts."""
Way = Rejection | Matching | DoublyRobust


@dataclass
class Played:
    """What a replay comes to, before its interval.

    way       rejection, matching or doubly robust replay, with its sums
    uniform   whether the log was chosen uniformly
    learns    whether the policy does
    n         rows played
    baseline  sums of the logged rewards
    notes     what to know of how it was played
    """

    way: Way
    uniform: bool
    learns: bool
    n: int = 0
    baseline: Sums = field(default_factory=Sums)
    notes: list[str] = field(default_factory=list)

    def count(self, batch: Batch) -> None:
        """Take in the logged rewards of a batch."""
        n = len(batch)
        self.n += n
        self.baseline.add(Split(np.zeros(n), np.ones(n), batch.reward), batch.chunk.count, None, None)


@dataclass(frozen=True)
class Log:
    """A log that was scanned.

    scan     of the same shards with the same options
    uniform  whether the log was chosen uniformly
    advance  told of the rows done
    """

    shards: Sequence[Shard]
    options: ReadOptions
    scan: Scan
    frame: Frame
    uniform: bool
    advance: Advance

    @property
    def n_slots(self) -> int:
        """Context columns and the constant slot."""
        return len(self.frame.columns) + 1

    def batches(self, rows: int) -> Iterator[tuple[Shard, Batch]]:
        """In order, as they were scanned."""
        for shard in self.shards:
            for batch in batches(shard, rows, self.options, self.frame):
                keep = ~certain(batch.chunk)
                if not self.options.include_exploit and not keep.all():
                    batch = Batch(batch.chunk.where(keep, CERTAIN), self.frame, batch.action[keep], batch.reward[keep])
                if len(batch):
                    yield shard, batch
                    self.advance(len(batch))


def play(log: Log, policy: str, seed: int, quantile: float, largest_reward: float) -> Played:
    """The pass that replays.

    policy          as on the command line
    seed            of the draws
    quantile        share of rows in which doubly robust replay may cut off its rejection sampling
    largest_reward  what |reward| does not exceed; a learner sees rewards divided by it

    Raises BadLog where a learning policy meets a log that is not sorted by time, and UsageError for a bad policy.
    """
    if is_learner(policy):
        return _play_learner(log, policy, np.random.default_rng(seed), quantile, largest_reward)
    target = parse(policy, log.scan.survey, log.frame.actions, len({shard.path for shard in log.shards}))
    if log.uniform or policy == "logged":
        return _match(log, target)
    return _play_fixed(log, target)


def _play_learner(log: Log, policy: str, rng: np.random.Generator, quantile: float, scale: float) -> Played:
    if log.scan.unsorted is not None:
        raise log.scan.unsorted
    n_actions = len(log.frame.actions)
    try:
        player = learner(policy, n_actions, log.n_slots, scale)
    except ValueError as fault:
        raise UsageError(f"--policy: {fault}") from fault
    way: Rejection | DoublyRobust = Rejection(player, rng)
    if not log.uniform:
        way = DoublyRobust(player, running_model(n_actions, log.n_slots), rng, quantile=quantile)
    divisor, note = _divisor(log.scan, log.frame.columns)
    played = Played(way, log.uniform, learns=True, notes=_learning_notes(log.scan, scale) + note)
    for _, batch in log.batches(max(1, min(16_384, MAX_ENTRIES // log.n_slots))):
        way.play(rows_of(batch, divisor))
        played.count(batch)
    return played


def _match(log: Log, target: Target) -> Played:
    way = Matching()
    played = Played(way, log.uniform, learns=False)
    no_context = np.ones(len(log.frame.columns))
    for shard, batch in log.batches(batch_rows(len(log.frame.actions), True)):
        block = blocks_of_rows(batch.chunk.index + shard.first, log.scan.survey.rows)
        way.play(rows_of(batch, no_context), target.of_action(batch), block)
        played.count(batch)
    return played


def _play_fixed(log: Log, target: Target) -> Played:
    n_actions = len(log.frame.actions)
    divisor, _ = _divisor(log.scan, log.frame.columns)
    player = FixedPlayer(np.empty((0, n_actions)))
    model = running_model(n_actions, log.n_slots)
    way = DoublyRobust(player, model, np.random.default_rng(0), quantile=None)
    played = Played(way, uniform=False, learns=False)
    for _, batch in log.batches(batch_rows(max(n_actions, log.n_slots), True)):
        player.target = target.probabilities(batch)
        way.play(rows_of(batch, divisor))
        played.count(batch)
    return played


def _divisor(scan: Scan, columns: Sequence[str]) -> tuple[F64, list[str]]:
    """What each context column is divided by: its largest magnitude where a learner would refuse it."""
    largest = [scan.largest.get(name, 0.0) for name in columns]
    large = [(name, size) for name, size in zip(columns, largest, strict=True) if size > MAX_WEIGHT]
    divisor = np.array([size if size > MAX_WEIGHT else 1.0 for size in largest])
    if not large:
        return divisor, []
    named = ", ".join(f"{name} / {size:.6g}" for name, size in large[:5]) + (", .." if len(large) > 5 else "")
    return divisor, [f"features beyond {MAX_WEIGHT:g} were divided by their largest magnitude: {named}"]


def _learning_notes(scan: Scan, scale: float) -> list[str]:
    notes = []
    if not scan.survey.names:
        notes.append("the log has no named features: the policy learned without context")
    if scan.survey.time is None:
        notes.append("the log has no timestamps: rows were played in the order of the file")
    if scale != 1.0:
        notes.append(f"rewards were divided by {scale:.6g} for the learner")
    return notes
