"""Replay a policy on a log that may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bandits.arrays import F64, I64, Bool
from bandits.errors import UsageError
from bandits.names import MAX_WEIGHT
from offline_eval.accumulate import Sums, blocks_of_rows
from offline_eval.batches import Batch, Frame, batch_rows, batches
from offline_eval.diagnostics.candidates import not_given
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.estimators.base import Split
from offline_eval.formats.chunk import ReadOptions, Shard
from offline_eval.formats.own import OwnLog
from offline_eval.learners import MAX_CELLS, is_learner, learner
from offline_eval.progress import Advance
from offline_eval.replay.doubly_robust import DoublyRobust
from offline_eval.replay.edges import edges_of, has_prior
from offline_eval.replay.model import running_model
from offline_eval.replay.player import FixedPlayer
from offline_eval.replay.rejection import Matching, Rejection
from offline_eval.replay.rows import Rows, Slots, rows_of
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
    findings  of what the log does not tell
    """

    way: Way
    uniform: bool
    learns: bool
    n: int = 0
    baseline: Sums = field(default_factory=Sums)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

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
    def numbers(self) -> I64 | None:
        """Slots as the log numbers them, where every row has its own: what the service's learner learned with."""
        return self.scan.slots if self.scan.slots is not None and len(self.scan.slots) else None

    @property
    def n_slots(self) -> int:
        """The log's own, or its context columns and the constant slot."""
        return len(self.frame.columns) + 1 if self.numbers is None else len(self.numbers)

    @cached_property
    def divisor(self) -> tuple[F64, list[str]]:
        """What each context column is divided by: its largest magnitude where a learner would refuse it; and a note."""
        largest = [self.scan.largest.get(name, 0.0) for name in self.frame.columns]
        large = [(name, size) for name, size in zip(self.frame.columns, largest, strict=True) if size > MAX_WEIGHT]
        divisor = np.array([size if size > MAX_WEIGHT else 1.0 for size in largest])
        if not large or self.numbers is not None:
            return divisor, []
        named = ", ".join(f"{name} / {size:.6g}" for name, size in large[:5]) + (", .." if len(large) > 5 else "")
        return divisor, [f"features beyond {MAX_WEIGHT:g} were divided by their largest magnitude: {named}"]

    @cached_property
    def edges(self) -> Bool | None:
        """Cells of the learner that logged, bool (K, S), where every row asked one graph and it is given; else None."""
        graphs, numbers, given = self.scan.graphs, self.numbers, self.options.graphs
        if numbers is None or len(graphs) != 1 or not graphs <= given.keys():
            return None
        if len(self.frame.actions) * len(numbers) > MAX_CELLS:
            return None
        (version,) = graphs
        return edges_of(given[version], version, self.frame.actions, numbers)

    def rows(self, batch: Batch) -> Rows:
        """A batch as it is played."""
        own = batch.chunk.slots
        if self.numbers is None or own is None:
            return rows_of(batch, Slots.of(batch.context, self.divisor[0]))
        return rows_of(batch, Slots.numbered(own, self.numbers))

    @property
    def rows_at_once(self) -> int:
        """Rows of a batch, so that its contexts and candidates stay within bounds."""
        low, high = self.scan.unlisted
        candidates = len(self.frame.actions) if low <= high else self.scan.most
        return max(1, min(16_384, MAX_ENTRIES // max(self.n_slots if self.numbers is None else 1, candidates)))

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
        played = _play_learner(log, policy, np.random.default_rng(seed), quantile, largest_reward)
        return replace(played, findings=_unknown_candidates(log))
    target = parse(policy, log.scan.survey, log.frame.actions, len({shard.path for shard in log.shards}))
    if log.uniform or policy == "logged":
        return _match(log, target)
    return replace(_play_fixed(log, target), findings=_unknown_candidates(log))


def _play_learner(log: Log, policy: str, rng: np.random.Generator, quantile: float, scale: float) -> Played:
    if log.scan.unsorted is not None:
        raise log.scan.unsorted
    n_actions = len(log.frame.actions)
    try:
        player = learner(policy, n_actions, log.n_slots, scale, log.edges)
    except ValueError as fault:
        raise UsageError(f"--policy: {fault}") from fault
    way: Rejection | DoublyRobust = Rejection(player, rng)
    if not log.uniform:
        way = DoublyRobust(player, running_model(n_actions, log.n_slots), rng, quantile=quantile)
    played = Played(way, log.uniform, learns=True, notes=_learning_notes(log, scale))
    for _, batch in log.batches(log.rows_at_once):
        way.play(log.rows(batch))
        played.count(batch)
    return played


def _match(log: Log, target: Target) -> Played:
    way = Matching()
    played = Played(way, log.uniform, learns=False)
    for shard, batch in log.batches(batch_rows(len(log.frame.actions), True)):
        block = blocks_of_rows(batch.chunk.index + shard.first, log.scan.survey.rows)
        way.play(log.rows(batch), target.of_action(batch), block)
        played.count(batch)
    return played


def _play_fixed(log: Log, target: Target) -> Played:
    n_actions = len(log.frame.actions)
    player = FixedPlayer(np.empty((0, n_actions)))
    model = running_model(n_actions, log.n_slots)
    way = DoublyRobust(player, model, np.random.default_rng(0), quantile=None)
    played = Played(way, uniform=False, learns=False)
    for _, batch in log.batches(batch_rows(max(n_actions, log.n_slots), True)):
        player.target = target.probabilities(batch)
        way.play(log.rows(batch))
        played.count(batch)
    return played


def _unknown_candidates(log: Log) -> list[Finding]:
    """Whether rows tell what could have been chosen: an own log does, where graphs gave very many with these."""
    survey = log.scan.survey
    unknown = survey.n - survey.candidates
    if log.uniform or not any(shard.format == OwnLog.NAME for shard in log.shards):
        return []
    level = Level.REFUSE if unknown > Thresholds().max_unsupported * survey.n else Level.NOTE if unknown else Level.OK
    detail = f"{unknown:,} of {survey.n:,} rows do not tell them"
    if survey.graphless:
        detail = not_given(survey.graphless, survey.n)
    elif unknown:
        detail += ", so that the policy chose among all actions there; export the rows with their candidates"
    return [Finding("candidates", level, detail)]


def _learning_notes(log: Log, scale: float) -> list[str]:
    notes, scan = list(log.divisor[1]), log.scan
    if log.numbers is not None:
        joined = "each joined to every action" if log.edges is None else "joined to actions by the edges of its graph"
        notes.append(f"contexts are the {log.n_slots:,} slots that the log's own learner saw, {joined}")
        if log.edges is not None and any(has_prior(log.options.graphs[one], one) for one in log.scan.graphs):
            notes.append("the prior means of the graph's edges were left out: every cell started at the centre")
    elif not scan.survey.names:
        notes.append("the log has no named features: the policy learned without context")
    if scan.survey.time is None:
        notes.append("the log has no timestamps: rows were played in the order of the file")
    if scale != 1.0:
        notes.append(f"rewards were divided by {scale:.6g} for the learner")
    return notes
