"""Where a diagnosis turns into a warning or a refusal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """All of them visible, all of them a caller's to change.

    min_ess              refuse below this effective sample size
    max_weight_share     refuse where one weight has more than this share of the sum
    max_unsupported      refuse where more than this mass of the target lies on actions the logging policy never takes
    refuse_below         p-value, after Bonferroni over the tests made, below which propensities are refused
    warn_below           p-value, after Bonferroni, below which they are doubted
    pareto_warn          shape k of the weights' tail beyond which they are doubted
    """

    min_ess: float = 100.0
    max_weight_share: float = 0.25
    max_unsupported: float = 0.01
    refuse_below: float = 1e-4
    warn_below: float = 0.01
    pareto_warn: float = 0.7
