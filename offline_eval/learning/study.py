"""A log split by users into a part to learn from and one to judge on, with a reward model for both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, Bool
from offline_eval.learning.log import AdLoadLog
from offline_eval.learning.reward import Scale, mixed
from offline_eval.reward_models.folds import assign_folds
from offline_eval.reward_models.ridge import RidgeMoments

HELD_OUT = 3
"""One part in so many."""
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Part:
    """m rows of a log.

    row    intp (m,)           in the log
    q      float64 (m, L, 2)   z-scores of satisfaction and revenue that a model expects of every load, fitted without
                               the row's user and never on the part to judge on
    fit    float64 (m, 2)      z-scores with the revenue winsorised
    exact  float64 (m, 2)      z-scores
    """

    log: AdLoadLog
    row: NDArray[np.intp]
    q: F64
    fit: F64
    exact: F64

    def __len__(self) -> int:
        return len(self.row)

    @property
    def z(self) -> F64:
        return self.log.z[self.row]

    @property
    def raw(self) -> F64:
        return self.log.raw[self.row]

    @property
    def allowed(self) -> Bool:
        return self.log.allowed[self.row]

    @property
    def action(self) -> NDArray[np.intp]:
        return self.log.action[self.row]

    @property
    def propensity(self) -> F64:
        return self.log.propensity[self.row]

    @property
    def user(self) -> NDArray[np.intp]:
        return self.log.group[self.row]

    def task(self, beta: float) -> Task:
        """What a policy is fitted on."""
        reward, q = mixed(self.fit, beta), mixed(self.q, beta)
        return Task(self.z, self.allowed, self.action, self.propensity, reward, q)


@dataclass(frozen=True, eq=False)
class Task:
    """m rows to fit a policy on, with the one reward that it is to raise.

    z           float64 (m, F)  standardised features
    allowed     bool    (m, L)
    action      intp    (m,)
    propensity  float64 (m,)
    reward      float64 (m,)
    q           float64 (m, L)  expected reward of every load, cross-fitted
    """

    z: F64
    allowed: Bool
    action: NDArray[np.intp]
    propensity: F64
    reward: F64
    q: F64

    def of_action(self, values: F64) -> F64:
        """Of (m, L) values those of the logged loads, float64 (m,)."""
        chosen: F64 = values[np.arange(len(self.action)), self.action]
        return chosen

    @cached_property
    def pseudo_rewards(self) -> F64:
        """Doubly robust reward of every load, float64 (m, L): q, and for the logged one q + (reward - q) / propensity.

        Unbiased given x for each load of positive propensity (Dudik, Langford & Li 2011, eq. 2, per load).
        """
        made = self.q.copy()
        residual = (self.reward - self.of_action(self.q)) / self.propensity
        made[np.arange(len(made)), self.action] += residual
        return made


@dataclass(frozen=True, eq=False)
class Study:
    """learning: two thirds of the users; judging: the others."""

    log: AdLoadLog
    scale: Scale
    learning: Part
    judging: Part


def split(log: AdLoadLog, seed: int) -> Study:
    """Users drawn with the seed; a ridge regression per load and reward is fitted on the learning part alone.

    Rows of that part are predicted by models of their users' folds' complement, the others by the model of all of it.
    """
    scale = Scale.of(log)
    part = assign_folds(len(log), HELD_OUT, seed, log.group)
    held = part == 0
    fold = np.where(held, 0, 1 + assign_folds(len(log), FOLDS, seed + 1, log.group))
    fit, exact = scale.z(log, fitting=True), scale.z(log)
    q = np.empty((len(log), len(log.loads), 2))
    for component in range(2):
        moments = RidgeMoments(len(log.loads), log.z.shape[1], 1 + FOLDS)
        moments.add(log.z[~held], log.action[~held], fit[~held, component], fold[~held])
        q[:, :, component] = moments.fit().predict(log.z, fold)
    parts = [Part(log, row, q[row], fit[row], exact[row]) for row in map(np.flatnonzero, (~held, held))]
    return Study(log, scale, *parts)
