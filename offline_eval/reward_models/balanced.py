"""Importance weights without propensities, for bipw: a classifier tells the target's choices from the logged ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bandits.arrays import F64
from offline_eval.dataset import BanditLog
from offline_eval.reward_models.folds import assign_folds

LARGEST_WEIGHT = 1e6
"""A classifier that is sure says no more than this."""
LARGEST = 2**30
"""Bytes of context and target that it is fitted from, in memory."""


def balanced_weights(
    log: BanditLog,
    target: F64,
    classifier: Any = None,
    *,
    folds: int = 5,
    seed: int = 0,
    cluster: NDArray[Any] | None = None,
) -> F64:
    """Odds that a logged (x, a) is the target's, float64 (n,), by classifiers fitted without the row.

    target      float64 (n, K)  the target's probabilities
    classifier  with predict_proba; None: logistic regression on the standardised context

    Sondhi, Arbour & Dimmery 2020; Arbour, Dimmery & Sondhi 2021. Class 1 is (x, a') with a' drawn from the target,
    once a round; class 0 the log. One classifier per action, on x; the log odds of two softmax policies linear in x are
    linear too but for their normalisers. An action that a class has no row of in the training folds gets the ratio of
    the counts, no logged row counting as one. These weights are for logs whose propensities are in doubt: where they
    are known, w is better.
    Raises ValueError for more than LARGEST bytes: without the rows in memory there is no classifier.
    """
    d = 0 if log.context is None else log.context.shape[1]
    size = len(log) * (log.n_actions + d) * 8
    if size > LARGEST:
        raise ValueError(
            f"bipw: {size:,} bytes of context and target, at most {LARGEST:,}; evaluate a sample of the log"
        )
    model = classifier if classifier is not None else make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    drawn = draw(target, np.random.default_rng(seed))
    fold = assign_folds(len(log), folds, seed, log.user if cluster is None else cluster)
    weight = np.empty(len(log))
    for one in np.unique(fold):
        for action in np.unique(log.action[fold == one]):
            rows = np.flatnonzero((fold == one) & (log.action == action))
            theirs = np.flatnonzero((fold != one) & (drawn == action))
            logged = np.flatnonzero((fold != one) & (log.action == action))
            weight[rows] = _odds(model, log.context, theirs, logged, rows)
    return weight


def draw(target: F64, random: np.random.Generator) -> NDArray[np.intp]:
    """An action per row, intp (n,), from probabilities float64 (n, K)."""
    reached = target.cumsum(axis=1)
    at = random.random(len(target)) * reached[:, -1]
    return np.asarray((reached <= at[:, None]).sum(axis=1), np.intp)


def _odds(
    model: Any, context: F64 | None, theirs: NDArray[np.intp], logged: NDArray[np.intp], rows: NDArray[np.intp]
) -> F64 | float:
    if context is None or not len(theirs) or not len(logged):
        return len(theirs) / (len(logged) + (0 if len(logged) else 1))
    label = np.concatenate([np.ones(len(theirs)), np.zeros(len(logged))])
    fitted = clone(model).fit(context[np.concatenate([theirs, logged])], label)
    p = np.asarray(fitted.predict_proba(context[rows]), np.float64)[:, 1]
    odds: F64 = np.minimum(p / np.maximum(1.0 - p, 1.0 / LARGEST_WEIGHT), LARGEST_WEIGHT)
    return odds
