"""Marginalised inverse propensity score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from offline_eval.estimators.base import Estimator, Form, Need, Split
from offline_eval.rounds import Rounds

ACTION_OF_EMBEDDING = "action_of_embedding"
"""Name among Rounds.models of p(a|x, e), float64 (n, K); see reward_models.embedding."""


@dataclass(frozen=True)
class MIPS(Estimator):
    """mean(w(x, e) r), w(x, e) = p(e|x, pi) / p(e|x, pi0) with e the action's embedding.

    Saito & Joachims 2022, "Off-policy evaluation for large action spaces via embeddings".
    An embedding per action, (K, e): exact; p(e|x, pi) is the sum of pi over the actions whose embeddings equal e.
    An embedding per round, (n, e): w(x, e) = sum_a p(a|x, e) w(x, a) with p(a|x, e) fitted by
    reward_models.embedding, and as good as that fit.
    Assumes that the action moves the reward through e alone (no direct effect) and that pi0 gives every e of pi
    probability. Unbiased then, where w(x, e) is exact. Bias else, theorem 3.5:
    E[sum_{a<b} p(a|x, e) p(b|x, e) (r(x, a, e) - r(x, b, e)) (w(x, b) - w(x, a))].
    Variance below IPS's by E[Var(w(x, a)|x, e) r^2] / n: much where many actions share an embedding.
    """

    kind: ClassVar[str] = "mips"
    form: ClassVar[Form] = "weighted"
    needs: ClassVar[frozenset[Need]] = frozenset({"target", "logging", "embedding"})

    def split(self, rounds: Rounds) -> Split:
        return Split(np.zeros(len(rounds)), marginal_weight(rounds), rounds.log.reward)


def marginal_weight(rounds: Rounds) -> F64:
    """w(x, e) of each round, float64 (n,)."""
    log, target = rounds.log, rounds.target
    if target is None or log.logging is None or log.action_embedding is None:
        raise ValueError("mips: needs action_embedding, logging and all of the target's probabilities")
    if log.embeds_rounds:
        if ACTION_OF_EMBEDDING not in rounds.models:
            raise ValueError("mips: an embedding per round needs p(a|x, e); see reward_models.embedding")
        ratio = np.divide(target, log.logging, out=np.zeros_like(target), where=log.logging > 0)
        fitted: F64 = np.einsum("nk,nk->n", rounds.models[ACTION_OF_EMBEDDING], ratio)
        return fitted
    group = same_embedding(log.action_embedding)
    same = group[None, :] == group[log.action][:, None]
    weight: F64 = (target * same).sum(axis=1) / (log.logging * same).sum(axis=1)
    return weight


def same_embedding(embedding: NDArray[Any]) -> NDArray[np.intp]:
    """A number per action, equal where the embeddings are; intp (K,)."""
    return np.unique(embedding, axis=0, return_inverse=True)[1].reshape(-1)
