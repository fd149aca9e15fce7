"""Any scikit-learn regressor or classifier as a reward model, cross-fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier

from bandits.arrays import F64
from offline_eval.dataset import BanditLog, refuse_where
from offline_eval.reward_models.folds import assign_folds


def cross_fit(
    estimator: Any,
    log: BanditLog,
    *,
    folds: int = 5,
    seed: int = 0,
    sample_weight: F64 | None = None,
    cluster: NDArray[Any] | None = None,
) -> F64:
    """Reward of every action in every round, float64 (n, K), each row predicted by clones that were fitted without it.

    estimator      with fit and predict; a classifier predicts the probability of reward 1, and takes rewards 0 and 1
    sample_weight  float64 (n,)  None: the log's count
    cluster        (n,)          rows of one cluster share a fold; None: the log's user, where there are users

    One clone per action and fold. An action without rows in the training folds gets their mean reward; without a
    context every action gets its own mean there. Raises ValueError, BadLog.
    """
    if is_classifier(estimator):
        refuse_where((log.reward != 0) & (log.reward != 1), "reward", log.reward, "must be 0 or 1 for a classifier")
    weight = sample_weight if sample_weight is not None else log.count
    fold = assign_folds(len(log), folds, seed, log.user if cluster is None else cluster)
    context = np.zeros((len(log), 1)) if log.context is None else log.context
    predicted = np.empty((len(log), log.n_actions))
    for one in np.unique(fold):
        held_out, training = np.flatnonzero(fold == one), fold != one
        overall = _mean(log.reward[training], None if weight is None else weight[training])
        for action in range(log.n_actions):
            rows = np.flatnonzero(training & (log.action == action))
            s = None if weight is None else weight[rows]
            if len(rows) == 0 or (s is not None and not s.sum()):
                predicted[held_out, action] = overall
            elif log.context is None or (is_classifier(estimator) and np.ptp(log.reward[rows]) == 0):
                predicted[held_out, action] = _mean(log.reward[rows], s)
            else:
                model = _fitted(estimator, context[rows], log.reward[rows], s)
                predicted[held_out, action] = _predict(model, context[held_out])
    return predicted


def _fitted(estimator: Any, context: F64, reward: F64, weight: F64 | None) -> Any:
    if weight is None:
        return clone(estimator).fit(context, reward)
    try:
        return clone(estimator).fit(context, reward, sample_weight=weight)
    except (TypeError, ValueError) as fault:
        if "sample_weight" not in str(fault):
            raise
        raise ValueError(
            f"{type(estimator).__name__} takes no sample_weight, which this log or estimator needs; give another model"
        ) from fault


def _predict(model: Any, context: F64) -> F64:
    if not is_classifier(model):
        return np.asarray(model.predict(context), np.float64).reshape(-1)
    return np.asarray(model.predict_proba(context), np.float64)[:, list(model.classes_).index(1)]


def _mean(reward: F64, weight: F64 | None) -> float:
    if len(reward) == 0 or (weight is not None and not weight.sum()):
        return 0.0
    return float(np.average(reward, weights=weight))
