"""What an evaluation says: never a number without its diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bandits.arrays import F64
from offline_eval.diagnostics.finding import Finding, Level


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's answer.

    estimator       key, such as "ips" or "switch-dr(lam=5.3)"
    value           estimated mean reward of a round under the target
    interval        (low, high) of coverage 1 - alpha
    interval_method what made it
    standard_error  by the delta method
    flags           what to know before trusting it
    parameters      chosen ones, such as {"lam": 5.3, "chosen_by": "slope"}
    terms           float64 (n,) per-round terms whose mean is the value; None where the log was streamed
    narrow          whether the interval may be far too narrow, see intervals.Interval
    """

    estimator: str
    value: float
    interval: tuple[float, float]
    interval_method: str
    standard_error: float
    flags: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    terms: F64 | None = None
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation of one target policy on one log.

    n            rounds evaluated
    baseline     mean logged reward, with its interval
    estimates    by the estimator's key, in the order asked for
    diagnostics  numbers: ess, max_weight, max_weight_share, mean_weight, unsupported_mass, pareto_k, ..
    findings     every check made, the sound ones too
    pictures     what plots are drawn from, see report.pictures; None unless asked for
    about        what was evaluated: log, policy, reward model, rows left out and why, alpha
    comparison   where a second target was given: by the estimator's key, the first's value less the second's
    """

    n: int
    baseline: Estimate
    estimates: Mapping[str, Estimate]
    diagnostics: Mapping[str, float]
    findings: Sequence[Finding]
    pictures: Any = None
    about: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Estimate] | None = None

    @property
    def supported(self) -> bool:
        """Whether the log can support the question."""
        return all(finding.level < Level.REFUSE for finding in self.findings)

    @property
    def reasons(self) -> list[str]:
        """What speaks against the numbers, the worst first: "name: detail"."""
        bad = [finding for finding in self.findings if finding.level >= Level.WARN]
        return [f"{one.name}: {one.detail}" for one in sorted(bad, key=lambda one: -one.level)]

    @property
    def verdict(self) -> str:
        """One sentence."""
        from offline_eval.diagnostics.verdict import verdict

        return verdict(self)
