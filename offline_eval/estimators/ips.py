"""Inverse propensity score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offline_eval.estimators.base import Estimator, Form, Split
from offline_eval.rounds import Rounds


@dataclass(frozen=True)
class IPS(Estimator):
    """mean(w r), w = pi(a|x) / pi0(a|x).

    Horvitz & Thompson 1952; for bandits Dudik, Langford & Li 2011.
    Assumes that pi0 is known and positive wherever pi is. Unbiased then.
    Variance (E[w^2 r^2] - V^2) / n: grows with the largest weight and with how far r lies from 0.
    """

    kind: ClassVar[str] = "ips"
    form: ClassVar[Form] = "weighted"

    def split(self, rounds: Rounds) -> Split:
        return Split(np.zeros(len(rounds)), rounds.weight, rounds.log.reward)
