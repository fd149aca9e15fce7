"""The built-in reward model: cross-fitted ridge regression from additive moments, for logs of any length."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from offline_eval.reward_models.normal_equations import PerAction, Shared, Sums
from offline_eval.rounds import Rounds

LARGEST = 256 * 2**20
"""Bytes that the sums may take."""
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""Tried where none is given: rows' worth of trust in slopes of 0 (Shared) or in the shared ones (PerAction)."""
PENALTY_OF_TWO_FOLDS = 10.0
"""Where no third fold is left to choose one on."""


@dataclass(frozen=True)
class CrossFittedRidge:
    """Predictions of the reward, a model per fold, fitted without it.

    coefficients  float64 (folds, K, d+1)  intercept first
    low, high     float64 (folds,)         range of the rewards it was fitted on; predictions stay within
    penalty       float64 (folds,)         chosen without the fold
    name          what it is, for the report
    """

    coefficients: F64
    low: F64
    high: F64
    penalty: F64
    name: str

    def predict(self, context: F64 | None, fold: NDArray[np.intp]) -> F64:
        """Reward of every action, float64 (n, K), of rows in these folds; context float64 (n, d)."""
        predicted = np.empty((len(fold), self.coefficients.shape[1]))
        for one in np.unique(fold):
            rows = fold == one
            intercept, slopes = self.coefficients[one, :, 0], self.coefficients[one, :, 1:]
            reward = np.broadcast_to(intercept, (int(rows.sum()), len(intercept)))
            if context is not None and slopes.shape[1]:
                reward = reward + context[rows] @ slopes.T
            predicted[rows] = np.clip(reward, self.low[one], self.high[one])
        return predicted


class RidgeMoments:
    """What the model is fitted from; grows with actions and columns, not with rows.

    A model per action takes folds * K * (d+2)**2 * 8 bytes. Where that is more than `largest`, slopes are shared and
    only intercepts are the action's own (folds * (d+2) * (d+2 + K) * 8 bytes); where that is too much as well, the
    context is left out. `name` says which.
    """

    def __init__(self, n_actions: int, d: int, folds: int = 5, *, largest: int = LARGEST) -> None:
        if folds < 2:
            raise ValueError(f"folds must be >= 2, got {folds}")
        self.n_actions, self.folds = n_actions, folds
        shared = folds * (d + 2) * (d + 2 + n_actions) * 8
        self.d = d if shared <= largest else 0
        per_action = folds * n_actions * (self.d + 2) ** 2 * 8 <= largest
        self.sums: Sums = (PerAction if per_action else Shared).zero(folds, n_actions, self.d)
        self.weight, self.weight_sq = np.zeros(folds), np.zeros(folds)
        self.low, self.high = np.full(folds, np.inf), np.full(folds, -np.inf)
        self.name = _name(self.sums, self.d, d, folds)

    def add(
        self,
        context: F64 | None,
        action: NDArray[np.intp],
        reward: F64,
        fold: NDArray[np.intp],
        sample_weight: F64 | None = None,
    ) -> None:
        """Take in rows: context float64 (m, d), action and fold intp (m,), reward and sample_weight float64 (m,)."""
        if not len(reward):
            return
        s = np.ones(len(reward)) if sample_weight is None else sample_weight
        columns = [np.ones((len(reward), 1)), reward[:, None]]
        if context is not None and self.d:
            columns.insert(1, context)
        self.sums.add(fold * self.n_actions + action, np.concatenate(columns, axis=1), s)
        self.weight += np.bincount(fold, s, self.folds)
        self.weight_sq += np.bincount(fold, s**2, self.folds)
        np.minimum.at(self.low, fold, reward)
        np.maximum.at(self.high, fold, reward)

    def merge(self, other: RidgeMoments) -> None:
        """Take in the rows of another of the same shape."""
        if (self.name, self.n_actions, self.d) != (other.name, other.n_actions, other.d):
            raise ValueError(
                f"cannot merge {other.name} of {other.n_actions} actions into {self.name} of {self.n_actions}"
            )
        for mine, theirs in zip(self.sums.per_fold, other.sums.per_fold, strict=True):
            mine += theirs
        self.weight += other.weight
        self.weight_sq += other.weight_sq
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)

    def fit(self, penalty: float | None = None) -> CrossFittedRidge:
        """A model per fold from the sums of all other folds.

        penalty  None: of PENALTIES the one of the smallest squared error on folds that neither the fitted model nor the
                 predicted fold has seen, so that a row's reward has no part in its own prediction
        """
        every = range(self.folds)
        chosen = np.full(self.folds, penalty) if penalty is not None else self._choose()
        models = [self.sums.fit(self._without(fold), float(chosen[fold])) for fold in every]
        seen = [np.delete(np.stack([self.low, self.high]), fold, axis=1) for fold in every]
        low, high = np.array([one[0].min() for one in seen]), np.array([one[1].max() for one in seen])
        empty = low > high
        return CrossFittedRidge(
            np.stack(models), np.where(empty, 0.0, low), np.where(empty, 0.0, high), chosen, self.name
        )

    def _choose(self) -> F64:
        if self.folds == 2:
            return np.full(2, PENALTY_OF_TWO_FOLDS)
        errors = np.zeros((self.folds, len(PENALTIES)))
        for one, other in combinations(range(self.folds), 2):
            training = self._without(one, other)
            for i, penalty in enumerate(PENALTIES):
                coefficients = self.sums.fit(training, penalty)
                errors[one, i] += self.sums.error(self._of(other), coefficients)
                errors[other, i] += self.sums.error(self._of(one), coefficients)
        chosen: F64 = np.array(PENALTIES)[errors.argmin(axis=1)]
        return chosen

    def _of(self, fold: int) -> list[F64]:
        return [part[fold] for part in self.sums.per_fold]

    def _without(self, *folds: int) -> list[F64]:
        """Sums of the other folds, scaled to the rows that their weights are worth, (sum s)**2 / sum s**2."""
        kept = [fold for fold in range(self.folds) if fold not in folds]
        weight_sq = self.weight_sq[kept].sum()
        scale = self.weight[kept].sum() / weight_sq if weight_sq > 0 else 0.0
        return [part[kept].sum(axis=0) * scale for part in self.sums.per_fold]


def mrdr_weight(rounds: Rounds) -> F64:
    """Weights s with which the same regression fits MRDR's model: pi(a|x)**2 (1 - pi0(a|x)) / pi0(a|x)**2.

    Re-derived from Farajtabar, Chow & Ghavamzadeh 2018. Let m_a = E[r|x, a] - q(x, a). What q adds to n times the
    variance of DR is E[m^T (diag(pi**2 / pi0) - pi pi^T) m]. The diagonal of it is
    E[sum_a pi_a**2 (1 - pi0_a) / pi0_a m_a**2], over logged actions the mean of s m_a**2, and E[s (r - q)**2] differs
    from that by a constant in q. For a deterministic target that is all; for others the terms pi_a pi_b m_a m_b of
    a != b, which tie the models of the actions together, are left out. A row of propensity 1, where there is no noise
    of drawing, gets weight 0; one that stands for several counts as often.
    """
    weight: F64 = rounds.weight**2 * (1.0 - rounds.log.propensity)
    return weight if rounds.log.count is None else weight * rounds.log.count


def _name(sums: Sums, used: int, given: int, folds: int) -> str:
    if not used:
        without = f" (context of {given} columns left out, too many)" if given else ""
        return f"cross-fitted action means{without}, {folds} folds"
    how = "one per action" if isinstance(sums, PerAction) else "slopes shared by all actions"
    return f"cross-fitted ridge, {how}, {folds} folds"
