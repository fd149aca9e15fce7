"""Ridge regression of the reward from sums of s z z^T, where z = (1, context, reward) and s is a row's weight."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64

ACTION_PENALTY = 1.0
"""Rows' worth of trust in what all actions share, against an action's own intercept."""
CONSTANT = 1e-10
"""A column whose variance is below this share of its mean square is constant, as far as sums can tell."""


class Sums(Protocol):
    """Additive sums of a linear model with a coefficient vector per action; one set of them per fold."""

    per_fold: list[F64]

    def add(self, group: NDArray[np.intp], z: F64, s: F64) -> None:
        """Take in rows: group = fold * K + action, intp (m,); z float64 (m, d+2); s float64 (m,)."""

    def fit(self, parts: list[F64], penalty: float) -> F64:
        """Coefficients float64 (K, d+1), intercept first, from sums of some folds."""

    def error(self, parts: list[F64], coefficients: F64) -> float:
        """Sum of s (r - prediction)**2 over the rows of those sums."""

    @classmethod
    def zero(cls, folds: int, n_actions: int, d: int) -> Self:
        """Of no rows."""


class PerAction:
    """A model per action, drawn towards the one that all actions share; per_fold: [(folds, K, d+2, d+2)]."""

    def __init__(self, per_fold: list[F64]) -> None:
        self.per_fold = per_fold

    @classmethod
    def zero(cls, folds: int, n_actions: int, d: int) -> Self:
        return cls([np.zeros((folds, n_actions, d + 2, d + 2))])

    def add(self, group: NDArray[np.intp], z: F64, s: F64) -> None:
        order = np.argsort(group, kind="stable")
        present, start = np.unique(group[order], return_index=True)
        sums = self.per_fold[0].reshape(-1, *self.per_fold[0].shape[2:])
        for one, rows in zip(present, np.split(order, start[1:]), strict=True):
            sums[one] += (z[rows] * s[rows, None]).T @ z[rows]

    def fit(self, parts: list[F64], penalty: float) -> F64:
        """Minimises sum s (r - z beta_a)**2 + penalty |slopes - shared|**2 + ACTION_PENALTY (intercept - shared)**2.

        Sums are over the action's rows; slopes are penalised on the scale of standardised columns. An action without
        rows gets the shared model.
        """
        (sums,) = parts
        pooled = sums.sum(axis=0)
        scaling = standardising(pooled)
        shared = ridge(pooled, scaling, penalty)
        left = scaling @ sums[:, :-1, :-1] @ scaling.T
        right = sums[:, :-1, -1] @ scaling.T - left @ shared
        own = np.linalg.solve(left + np.diag(_penalties(len(shared), penalty, ACTION_PENALTY)), right[..., None])[
            ..., 0
        ]
        coefficients: F64 = (shared + own) @ scaling
        return coefficients

    def error(self, parts: list[F64], coefficients: F64) -> float:
        residual = np.concatenate([-coefficients, np.ones((len(coefficients), 1))], axis=1)
        return float(np.einsum("ki,kij,kj->", residual, parts[0], residual, optimize=True))


class Shared:
    """Slopes that all actions share and an intercept per action; per_fold: [(folds, d+2, d+2), (folds, K, d+2)].

    The second holds each action's sums of s z.
    """

    def __init__(self, per_fold: list[F64]) -> None:
        self.per_fold = per_fold

    @classmethod
    def zero(cls, folds: int, n_actions: int, d: int) -> Self:
        return cls([np.zeros((folds, d + 2, d + 2)), np.zeros((folds, n_actions, d + 2))])

    def add(self, group: NDArray[np.intp], z: F64, s: F64) -> None:
        products, sums = self.per_fold
        weighted = z * s[:, None]
        fold = group // sums.shape[1]
        for one in np.unique(fold):
            products[one] += weighted[fold == one].T @ z[fold == one]
        np.add.at(sums.reshape(-1, sums.shape[2]), group, weighted)

    def fit(self, parts: list[F64], penalty: float) -> F64:
        """Minimises sum s (r - u_a - z beta)**2 + penalty |slopes|**2 + ACTION_PENALTY sum_a u_a**2; u eliminated."""
        products, sums = parts
        scaling = standardising(products)
        trust = sums[:, 0] + ACTION_PENALTY
        of_action, reward = sums[:, :-1] @ scaling.T, sums[:, -1]
        left = scaling @ products[:-1, :-1] @ scaling.T - (of_action.T / trust) @ of_action
        right = scaling @ products[:-1, -1] - of_action.T @ (reward / trust)
        if products[0, 0] <= 0:
            return np.zeros((len(sums), len(left)))
        beta = np.linalg.solve(left + np.diag(_penalties(len(left), penalty, 0.0)), right)
        coefficients = np.tile(scaling.T @ beta, (len(sums), 1))
        coefficients[:, 0] += (reward - of_action @ beta) / trust
        return coefficients

    def error(self, parts: list[F64], coefficients: F64) -> float:
        products, sums = parts
        residual = np.append(-coefficients[0], 1.0)
        moved = coefficients[:, 0] - coefficients[0, 0]
        return float(residual @ products @ residual - 2 * moved @ (sums @ residual) + moved**2 @ sums[:, 0])


def standardising(sums: F64) -> F64:
    """T such that T (1, x) has mean 0 and variance 1 in every column but the first; a constant column becomes 0."""
    n, d = sums[0, 0], len(sums) - 2
    scaling = np.eye(d + 1)
    if n <= 0 or d == 0:
        return scaling
    mean = sums[0, 1:-1] / n
    square = np.diagonal(sums)[1:-1] / n
    variance = square - mean**2
    varies = variance > CONSTANT * square
    inverse = np.where(varies, 1.0 / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
    scaling[1:, 1:] = np.diag(inverse)
    scaling[1:, 0] = -mean * inverse
    return scaling


def ridge(sums: F64, scaling: F64, penalty: float) -> F64:
    """Coefficients of T (1, x), float64 (d+1,); the intercept is free. 0 without rows."""
    if sums[0, 0] <= 0:
        return np.zeros(len(scaling))
    left: F64 = scaling @ sums[:-1, :-1] @ scaling.T + np.diag(_penalties(len(scaling), penalty, 0.0))
    return np.asarray(np.linalg.solve(left, scaling @ sums[:-1, -1]), np.float64)


def _penalties(width: int, slopes: float, intercept: float) -> F64:
    penalties = np.full(width, slopes)
    penalties[0] = intercept
    return penalties
