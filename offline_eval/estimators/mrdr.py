"""More robust doubly robust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from offline_eval.estimators.dr import DR


@dataclass(frozen=True)
class MRDR(DR):
    """DR with the reward model that minimises DR's variance, not the model's squared error.

    Farajtabar, Chow & Ghavamzadeh 2018, "More robust doubly robust off-policy evaluation"; how the model is
    fitted stands at reward_models.ridge.mrdr_weight. Assumes known pi0 and a cross-fitted model; unbiased then, as DR.
    Variance as DR's: never above it for the best model of a class, above it where few rows carry the fit.
    """

    kind: ClassVar[str] = "mrdr"
    model: ClassVar[Literal["plain", "mrdr"] | None] = "mrdr"
