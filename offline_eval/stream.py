"""Evaluate a log that may be larger than memory: surveyed once, then read in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bandits.arrays import F64
from offline_eval.accumulate import Accumulator, blocks_of_rows, blocks_of_time
from offline_eval.batches import Batch, Frame, batch_rows, batches
from offline_eval.comparison import Comparison
from offline_eval.diagnostics import Diagnosis
from offline_eval.estimators import Estimator
from offline_eval.formats import FORMATS
from offline_eval.formats.chunk import ReadOptions, Shard
from offline_eval.formats.hashing import mix
from offline_eval.intervals.bootstrap import group_of
from offline_eval.plan import Plan
from offline_eval.report.pictures import Pictures
from offline_eval.reward_models.ridge import CrossFittedRidge, RidgeMoments, mrdr_weight
from offline_eval.rounds import Rounds
from offline_eval.shards import Advance, over_shards
from offline_eval.survey import Survey
from offline_eval.targets import Target

FOLDS = 5
SURVEY_ROWS = 131_072


def survey(shards: Sequence[Shard], options: ReadOptions, jobs: int, advance: Advance) -> Survey:
    """The first pass. Raises BadLog."""
    return over_shards(partial(_survey, options), shards, jobs, advance)


def numbered(shards: Sequence[Shard], found: Survey) -> list[Shard]:
    """The shards, each with the number of rows in the files before its own: `first` plus a chunk's index is exact."""
    before: dict[Path, int] = {}
    rows = 0
    for shard, size in zip(shards, found.sizes, strict=True):
        before.setdefault(shard.path, rows)
        rows += size
    return [replace(shard, first=before[shard.path]) for shard in shards]


def _survey(options: ReadOptions, shard: Shard, advance: Advance) -> Survey:
    found = Survey()
    for chunk in FORMATS[shard.format].read(shard, SURVEY_ROWS, options):
        before = found.rows
        found.add(chunk)
        advance(found.rows - before)
    found.sizes = [found.rows]
    return found


@dataclass(frozen=True)
class Job:
    """What every process knows. Picklable.

    members  estimators, families replaced by their members
    dense    whether (n, K) arrays are made
    against  a second target to compare with
    time     (first, last) of the log, None: stretches go by the number of a row
    n        rows of the log
    """

    plan: Plan
    options: ReadOptions
    frame: Frame
    target: Target
    members: Sequence[Estimator]
    dense: bool
    time: tuple[int, int] | None
    n: int
    known_candidates: bool
    middle: F64 | None = None
    models: Mapping[str, CrossFittedRidge] = field(default_factory=dict)
    against: Target | None = None

    def with_models(self, models: Mapping[str, CrossFittedRidge]) -> Job:
        """The same with reward models."""
        return replace(self, models=models)

    @property
    def rows(self) -> int:
        return batch_rows(len(self.frame.actions), self.dense)

    def rounds(self, batch: Batch, row: NDArray[np.int64]) -> Rounds:
        """A batch beside the target."""
        fold = _fold(batch, row)
        models = {name: model.predict(batch.filled_context, fold) for name, model in self.models.items()}
        return Rounds(batch.log(self.dense), *self._beside(self.target, batch), models)

    def second(self, batch: Batch, rounds: Rounds) -> Rounds | None:
        """The same rounds beside the target to compare with."""
        if self.against is None:
            return None
        return Rounds(rounds.log, *self._beside(self.against, batch), rounds.models)

    def _beside(self, target: Target, batch: Batch) -> tuple[F64, F64 | None]:
        if not self.dense or (not self.plan.needs("target") and target.name == "logged" and not batch.knows_logging):
            return target.of_action(batch), None
        whole = target.probabilities(batch)
        return whole[np.arange(len(batch)), batch.action], whole

    def accumulator(self) -> Accumulator:
        """An empty one."""
        comparison = None
        if self.against is not None:
            comparison = Comparison(self.members, self._diagnosis(), self.plan.cluster)
        pictures = Pictures() if self.plan.pictures else None
        return Accumulator(self.members, self._diagnosis(), pictures, comparison=comparison)

    def _diagnosis(self) -> Diagnosis:
        return Diagnosis(len(self.frame.actions), self.known_candidates, self.middle)

    def group(self, batch: Batch, row: NDArray[np.int64]) -> NDArray[np.uint64] | None:
        """Of each round its user, or for a bootstrap without users its group."""
        if self.plan.cluster:
            return batch.chunk.user
        return group_of(_key(batch, row)) if self.plan.interval == "bootstrap" else None

    def block(self, batch: Batch, row: NDArray[np.int64]) -> NDArray[np.intp] | None:
        """Stretch of time of each round."""
        if not self.plan.in_blocks:
            return None
        if self.time is None or batch.chunk.timestamp is None:
            return blocks_of_rows(row, self.n)
        return blocks_of_time(batch.chunk.timestamp, *self.time)


def _fold(batch: Batch, row: NDArray[np.int64]) -> NDArray[np.intp]:
    """Of each round; the rounds of a user share one, so that no model is asked about a user it has seen."""
    user, key = batch.chunk.user, _key(batch, row)
    if user is not None:
        key = np.where(user == 0, key, user)
    return (mix(key) % np.uint64(FOLDS)).astype(np.intp)


def _key(batch: Batch, row: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What tells rounds apart wherever they stand: the fingerprint, without one the number of the row."""
    fingerprint = batch.chunk.fingerprint
    return row.astype(np.uint64) if fingerprint is None else fingerprint


@dataclass
class _Fits:
    """Moments of the reward models by name."""

    of: dict[str, RidgeMoments]

    def merge(self, other: _Fits) -> None:
        for name, moments in self.of.items():
            moments.merge(other.of[name])


def fit_models(job: Job, shards: Sequence[Shard], jobs: int, advance: Advance) -> dict[str, CrossFittedRidge]:
    """The reward models that the estimators read, in one pass; none where none does."""
    if not job.plan.models:
        return {}
    fits = over_shards(partial(_fit, job), shards, jobs, advance)
    # Thousands of small systems: BLAS threads only wait for each other (beside other work 98 s against 2 s).
    with threadpool_limits(1):
        return {name: moments.fit() for name, moments in fits.of.items()}


def _fit(job: Job, shard: Shard, advance: Advance) -> _Fits:
    size = len(job.frame.actions), len(job.frame.columns), FOLDS
    fits = {name: RidgeMoments(*size) for name in sorted(job.plan.models)}
    for batch in batches(shard, job.rows, job.options, job.frame):
        row = batch.chunk.index + shard.first
        fold = _fold(batch, row)
        for name, moments in fits.items():
            weight = batch.chunk.count if name == "plain" else mrdr_weight(job.rounds(batch, row))
            moments.add(batch.filled_context, batch.action, batch.reward, fold, weight)
        advance(len(batch))
    return _Fits(fits)


def accumulate(job: Job, shards: Sequence[Shard], jobs: int, advance: Advance) -> Accumulator:
    """The pass that estimates. Raises BadLog, UsageError."""
    return over_shards(partial(_accumulate, job), shards, jobs, advance)


def _accumulate(job: Job, shard: Shard, advance: Advance) -> Accumulator:
    whole = job.accumulator()
    for batch in batches(shard, job.rows, job.options, job.frame):
        row = batch.chunk.index + shard.first
        rounds = job.rounds(batch, row)
        segments, place = batch.chunk.segments, batch.chunk.place.of
        group, block = job.group(batch, row), job.block(batch, row)
        whole.add(rounds, segments, group, block, place, job.second(batch, rounds))
        advance(len(batch))
    return whole
