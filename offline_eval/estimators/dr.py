"""Doubly robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from offline_eval.estimators.base import Estimator, Form, Need, Split
from offline_eval.rounds import Rounds


@dataclass(frozen=True)
class DR(Estimator):
    """mean(q(x, pi) + w (r - q(x, a))), q(x, pi) = sum_a pi(a|x) q(x, a).

    Dudik, Langford & Li 2011, "Doubly robust policy evaluation and learning"; q cross-fitted as in
    Chernozhukov et al. 2018. Unbiased where either pi0 or q is right; with known pi0 always, whatever q.
    Variance: that of IPS with the model's error in place of the reward, plus the spread of q(x, pi); below IPS where
    the model explains the reward, above where it is worse than 0.
    """

    kind: ClassVar[str] = "dr"
    form: ClassVar[Form] = "residual"
    model: ClassVar[Literal["plain", "mrdr"] | None] = "plain"
    needs: ClassVar[frozenset[Need]] = frozenset({"target"})

    def split(self, rounds: Rounds) -> Split:
        assert self.model is not None
        error = rounds.log.reward - rounds.model_of_action(self.model)
        return Split(rounds.model_of_target(self.model), rounds.weight, error)
