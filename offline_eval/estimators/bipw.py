"""Balanced inverse propensity weighting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offline_eval.estimators.base import Estimator, Form, Need, Split
from offline_eval.rounds import Rounds


@dataclass(frozen=True)
class BIPW(Estimator):
    """mean(v r), v = p / (1 - p): the odds that a classifier gives (x, a) of the target against (x, a) of the log.

    Sondhi, Arbour & Dimmery 2020, "Balanced off-policy evaluation in general action spaces", B-OPE; Arbour, Dimmery
    & Sondhi 2021, "Permutation weighting". How v is learned stands at reward_models.balanced.
    Needs no propensities; assumes that the log took every action of the target given x.
    Unbiased where v = pi / pi0, bias E[(v - w) r] else: at most the error in weights times the largest |r|.
    Variance (E[v^2 r^2] - E[v r]^2) / n plus that of the classifier.
    """

    kind: ClassVar[str] = "bipw"
    form: ClassVar[Form] = "clipped"
    needs: ClassVar[frozenset[Need]] = frozenset({"target", "balanced"})

    def split(self, rounds: Rounds) -> Split:
        if rounds.balanced is None:
            raise ValueError("bipw: needs the weights of reward_models.balanced")
        return Split(np.zeros(len(rounds)), rounds.balanced, rounds.log.reward)
