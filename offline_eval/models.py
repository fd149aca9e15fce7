"""All that estimators read beside log and target, fitted on a log in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bandits.arrays import F64
from offline_eval.dataset import BanditLog, refuse_where
from offline_eval.errors import BadLog
from offline_eval.estimators import Estimator
from offline_eval.estimators.mips import ACTION_OF_EMBEDDING
from offline_eval.plan import Plan
from offline_eval.reward_models.balanced import balanced_weights
from offline_eval.reward_models.crossfit import cross_fit
from offline_eval.reward_models.embedding import action_of_embedding
from offline_eval.reward_models.folds import assign_folds
from offline_eval.reward_models.ridge import RidgeMoments, mrdr_weight
from offline_eval.rounds import Rounds

FOLDS = 5


@dataclass(frozen=True)
class Models:
    """Fitted on a log of n rounds.

    by_name   float64 (n, K) each, see Rounds.models
    balanced  float64 (n,), see Rounds.balanced
    name      of the reward model, for the report; None where no estimator reads one
    """

    by_name: Mapping[str, F64] = field(default_factory=dict)
    balanced: F64 | None = None
    name: str | None = None


def check_needs(estimator: Estimator, log: BanditLog) -> None:
    """Raise ValueError where the log lacks what the estimator needs."""
    for need, member in (("logging", "logging"), ("embedding", "action_embedding")):
        if need in estimator.needs and getattr(log, member) is None:
            raise ValueError(f"{estimator.key} needs {member} in the log")


def fit(plan: Plan, given: Any, log: BanditLog, target: F64, cluster: NDArray[Any] | None) -> Models:
    """What the plan's estimators read.

    given  float64 (n, K), a scikit-learn estimator, or None for a cross-fitted ridge regression

    Raises BadLog, ValueError.
    """
    for estimator in plan.estimators:
        check_needs(estimator, log)
    by_name: dict[str, F64] = {}
    name = None
    if plan.models:
        by_name, name = _reward_models(plan, given, log, target, cluster)
    if plan.needs("embedding") and log.embeds_rounds:
        by_name[ACTION_OF_EMBEDDING] = action_of_embedding(log, seed=plan.seed, cluster=cluster)
    balanced = None
    if plan.needs("balanced"):
        balanced = balanced_weights(log, target, seed=plan.seed, cluster=cluster)
    return Models(by_name, balanced, name)


def refit(plan: Plan, fitted: Models, log: BanditLog, target: F64, cluster: NDArray[Any] | None) -> Models:
    """The same for another target: reward models stay."""
    if not plan.needs("balanced"):
        return fitted
    return replace(fitted, balanced=balanced_weights(log, target, seed=plan.seed, cluster=cluster))


def _reward_models(
    plan: Plan, given: Any, log: BanditLog, target: F64, cluster: NDArray[Any] | None
) -> tuple[dict[str, F64], str]:
    names = sorted(plan.models)
    weight = mrdr_weight(Rounds(log, target[np.arange(len(log)), log.action])) if "mrdr" in names else None
    if given is None:
        return _ridge(plan, names, log, weight, cluster)
    if hasattr(given, "fit") and not isinstance(given, type):
        weights = {"plain": None, "mrdr": weight}
        fitted = {
            one: cross_fit(given, log, folds=FOLDS, seed=plan.seed, sample_weight=weights[one], cluster=cluster)
            for one in names
        }
        return fitted, f"cross-fitted {type(given).__name__}, one per action, {FOLDS} folds"
    if "mrdr" in names:
        raise ValueError("mrdr fits its own reward model: give a scikit-learn estimator, or none, not an array")
    return {"plain": _array(given, log)}, "given"


def _array(given: Any, log: BanditLog) -> F64:
    array = np.asarray(given)
    if array.dtype.kind not in "biuf" or array.shape != (len(log), log.n_actions):
        shape = f"must be a scikit-learn estimator or numbers of shape ({len(log)}, {log.n_actions})"
        raise BadLog("reward_model", array.shape if array.ndim else type(given).__name__, shape)
    refuse_where(~np.isfinite(array), "reward_model", array, "must be finite")
    return np.ascontiguousarray(array, np.float64)


def _ridge(
    plan: Plan, names: list[str], log: BanditLog, weight: F64 | None, cluster: NDArray[Any] | None
) -> tuple[dict[str, F64], str]:
    fold = assign_folds(len(log), FOLDS, plan.seed, log.user if cluster is None else cluster)
    d = 0 if log.context is None else log.context.shape[1]
    fitted = {}
    for one in names:
        moments = RidgeMoments(log.n_actions, d, FOLDS)
        moments.add(log.context, log.action, log.reward, fold, weight if one == "mrdr" else log.count)
        with threadpool_limits(1):
            fitted[one] = moments.fit().predict(log.context, fold)
    return fitted, moments.name
