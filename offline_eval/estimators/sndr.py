"""Self-normalised doubly robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offline_eval.estimators.dr import DR


@dataclass(frozen=True)
class SNDR(DR):
    """mean(q(x, pi)) + sum(w (r - q(x, a))) / sum(w).

    Thomas & Brunskill 2016, "Data-efficient off-policy policy evaluation for reinforcement learning" (weighted doubly
    robust), for one step; Robins et al. 2007. Assumes what DR does.
    Bias of order 1 / n, none where the model's error is constant. Variance by the delta method, that of
    q(x, pi) + w (r - q(x, a) - D) with D the mean error under the target: below DR's where the errors share a sign.
    """

    kind: ClassVar[str] = "sndr"
    self_normalised: ClassVar[bool] = True
