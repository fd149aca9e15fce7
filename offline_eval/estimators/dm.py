"""Direct method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from offline_eval.estimators.base import Estimator, Form, Need, Split
from offline_eval.rounds import Rounds


@dataclass(frozen=True)
class DM(Estimator):
    """mean(q(x, pi)), q(x, pi) = sum_a pi(a|x) q(x, a).

    Beygelzimer & Langford 2009, "The offset tree"; Dudik, Langford & Li 2011. Needs no propensities.
    Bias E[q(x, pi) - r(x, pi)]: all of the model's error under the target, which no interval made from these terms
    shows. Variance Var(q(x, pi)) / n plus that of the model's fit: the lowest of all as a rule.
    """

    kind: ClassVar[str] = "dm"
    form: ClassVar[Form] = "model"
    model: ClassVar[Literal["plain", "mrdr"] | None] = "plain"
    needs: ClassVar[frozenset[Need]] = frozenset({"target"})

    def split(self, rounds: Rounds) -> Split:
        nothing = np.zeros(len(rounds))
        return Split(rounds.model_of_target("plain"), nothing, nothing)
