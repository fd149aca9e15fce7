"""Whether enough rounds carry the estimate, and none of them alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from bandits.moments import Moments
from offline_eval.diagnostics.finding import Finding, Level
from offline_eval.diagnostics.thresholds import Thresholds
from offline_eval.rounds import Rounds


@dataclass
class Weights:
    """Importance weights w = pi(a|x) / pi0(a|x) of all rounds, each standing for c.

    moments      of w
    largest      w
    heaviest     c w
    """

    moments: Moments = field(default_factory=lambda: Moments.zero(1))
    largest: float = 0.0
    heaviest: float = 0.0

    def add(self, rounds: Rounds) -> None:
        """Take in a batch."""
        weight, count = rounds.weight, rounds.log.count
        self.moments.add(weight[None, :], count)
        self.largest = max(self.largest, float(weight.max(initial=0.0)))
        self.heaviest = max(self.heaviest, self.largest if count is None else float((weight * count).max(initial=0.0)))

    def merge(self, other: Weights) -> None:
        """Take in the rounds of another."""
        self.moments.merge(other.moments)
        self.largest, self.heaviest = max(self.largest, other.largest), max(self.heaviest, other.heaviest)

    @property
    def ess(self) -> float:
        """(sum c w)^2 / sum (c w)^2 (Kong 1992); 0 where every weight is."""
        total, squares = self.moments.first[0, 1], self.moments.second[1, 1]
        return float(total**2 / squares) if squares > 0 else 0.0

    @property
    def share(self) -> float:
        """Of the heaviest round in the sum of the weights; 0 where every weight is."""
        total = self.moments.first[0, 1]
        return float(self.heaviest / total) if total > 0 else 0.0

    @property
    def mean(self) -> float:
        """NaN without rounds."""
        return float(self.moments.mean[0]) if self.moments.n else float("nan")

    def findings(self, limits: Thresholds) -> list[Finding]:
        """Effective sample size and largest weight."""
        return [self._size(limits), self._largest(limits)]

    def _size(self, limits: Thresholds) -> Finding:
        name, n, ess = "effective sample size", self.moments.n, self.ess
        least = f"{limits.min_ess:g} (min_ess)"
        if n < limits.min_ess:
            return Finding(
                name,
                Level.REFUSE,
                f"the log has only {n:,} rounds (effective {ess:.4g}), fewer than the {least} asked for: log more "
                "rounds, or lower min_ess",
            )
        if ess == 0.0:
            return Finding(
                name,
                Level.REFUSE,
                f"it is 0: the target would have taken the logged action in none of {n:,} rounds: log with a policy "
                "that takes the target's actions too",
            )
        said = f"{f'{ess:,.0f}' if ess >= 1000 else f'{ess:.4g}'} of {n:,} rounds"
        if ess < limits.min_ess:
            return Finding(
                name,
                Level.REFUSE,
                f"{said}, below {least}: log more rounds, evaluate a target closer to the logging policy, or lower "
                "min_ess",
            )
        return Finding(name, Level.OK, said)

    def _largest(self, limits: Thresholds) -> Finding:
        name, said = "largest weight", f"{self.largest:.4g}, {self.share:.2%} of the sum of all weights"
        if self.share > limits.max_weight_share:
            return Finding(
                name,
                Level.REFUSE,
                f"{said}, above {limits.max_weight_share:.0%} (max_weight_share): one round decides the estimate; look "
                "at its propensity, clip the weights (cips), or log with a higher floor",
            )
        return Finding(name, Level.OK, said)
