"""Which action an embedding came from, for mips where each round has an embedding of its own."""

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


def action_of_embedding(
    log: BanditLog,
    classifier: Any = None,
    *,
    folds: int = 5,
    seed: int = 0,
    cluster: NDArray[Any] | None = None,
) -> F64:
    """p(a|x, e) of each round, float64 (n, K), by classifiers of the action that were fitted without the row.

    classifier  with predict_proba on (context, embedding); None: logistic regression on standardised columns

    Saito & Joachims 2022. Raises ValueError where the log has no embedding per round.
    """
    if log.action_embedding is None or not log.embeds_rounds:
        raise ValueError("mips: action_embedding must have a row per round to fit p(a|x, e)")
    columns = np.asarray(log.action_embedding, np.float64)
    if log.context is not None:
        columns = np.concatenate([log.context, columns], axis=1)
    model = classifier if classifier is not None else make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fold = assign_folds(len(log), folds, seed, log.user if cluster is None else cluster)
    probability = np.zeros((len(log), log.n_actions))
    for one in np.unique(fold):
        training, held_out = fold != one, np.flatnonzero(fold == one)
        seen = np.unique(log.action[training])
        if len(seen) == 1:
            probability[held_out, seen[0]] = 1.0
        else:
            fitted = clone(model).fit(columns[training], log.action[training])
            probability[np.ix_(held_out, fitted.classes_)] = fitted.predict_proba(columns[held_out])
    return probability
