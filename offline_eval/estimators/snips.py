"""Self-normalised inverse propensity score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offline_eval.estimators.ips import IPS


@dataclass(frozen=True)
class SNIPS(IPS):
    """sum(w r) / sum(w).

    Hajek 1971; Swaminathan & Joachims 2015, "The self-normalized estimator for counterfactual learning".
    Assumes what IPS does. Bias of order 1 / n, none where pi = pi0 or r is constant; shifting all rewards shifts the
    value as much, and it stays within the range of the rewards. Variance by the delta method,
    mean(w^2 (r - V)^2) / n / mean(w)^2: as a rule below that of IPS.
    """

    kind: ClassVar[str] = "snips"
    self_normalised: ClassVar[bool] = True
