"""How far the terms of an estimate can reach, and how many independent rounds they amount to."""

from __future__ import annotations

from dataclasses import dataclass

from bandits.arrays import F64
from offline_eval.estimators.base import Form
from offline_eval.estimators.shrunk import Shrunk
from offline_eval.intervals.base import Evidence, Interval

OF_EXPECTATION = "covers the expectation of the estimate, not its bias"
OF_MODEL = "covers the reward model's own value, not its error"


@dataclass(frozen=True, slots=True)
class Reach:
    """A-priori limits of one estimator's terms.

    weight  largest weight of a correction
    reward  (low, high)
    flags   bounds that were assumed, or that the log contradicts
    """

    weight: float
    reward: tuple[float, float]
    flags: tuple[str, ...]

    @classmethod
    def of(cls, evidence: Evidence) -> Reach:
        """From the bounds given; where the log holds a larger weight, that one, flagged."""
        given, flags = evidence.bounds.largest_weight, evidence.bounds.assumed
        importance = max(given, evidence.seen)
        weight = evidence.estimator.largest_weight(importance)
        found = max(weight, _least_maximum(evidence))
        if importance > given or found > weight * (1 + 1e-9):
            largest = max(evidence.seen, found)
            flags = (
                *flags,
                f"w_max {given:g} is below a weight in the log: {largest:g} is used, coverage is not assured",
            )
        return cls(found, evidence.bounds.reward, flags)

    @property
    def width(self) -> float:
        """Of the range of rewards."""
        return self.reward[1] - self.reward[0]


def _least_maximum(evidence: Evidence) -> float:
    """sum w^2 / sum w, which no sample of non-negative weights exceeds with its maximum."""
    first = evidence.moments.first
    return float(first[2, 2] / first[0, 2]) if first[0, 2] > 0 else 0.0


def term_range(form: Form, weight: float, reward: tuple[float, float]) -> tuple[float, float]:
    """Where base + weight * error of any round lies, a model's predictions taken to lie in the range of rewards."""
    low, high = reward
    if form == "model":
        return low, high
    if form == "residual":
        return low - weight * (high - low), high + weight * (high - low)
    return min(0.0, weight * low), max(0.0, weight * high)


def value_range(evidence: Evidence) -> tuple[float, float]:
    """Where the quantity that the interval is for can lie: clipped weights may shrink it to 0."""
    low, high = evidence.bounds.reward
    return (min(low, 0.0), max(high, 0.0)) if evidence.estimator.form == "clipped" else (low, high)


def is_model_alone(evidence: Evidence) -> bool:
    """Whether nothing corrects the reward model: it is a model's own value, or no round's correction has any weight."""
    form = evidence.estimator.form
    return form == "model" or (form == "residual" and evidence.moments.first[0, 2] == 0.0)


def leaves_out(evidence: Evidence) -> tuple[str, ...]:
    """What an interval made from the spread of terms cannot know of: the model's error, or the bias of shrinking."""
    if is_model_alone(evidence):
        return (OF_MODEL,)
    shrinks = isinstance(evidence.estimator, Shrunk) and evidence.estimator.form == "residual" and _shrinks(evidence)
    return (OF_EXPECTATION,) if evidence.estimator.form == "clipped" or shrinks else ()


def _shrinks(evidence: Evidence) -> bool:
    """Whether the largest weight is made smaller."""
    largest = evidence.seen or evidence.bounds.largest_weight
    return evidence.estimator.largest_weight(largest) < largest * (1 - 1e-9)


def clipped(low: float, high: float, limits: tuple[float, float]) -> tuple[float, float]:
    """Both ends moved into the limits."""
    return float(min(max(low, limits[0]), limits[1])), float(min(max(high, limits[0]), limits[1]))


def unknown(evidence: Evidence, method: str, why: str) -> Interval:
    """All that can be, where the log says nothing."""
    low, high = value_range(evidence)
    return Interval(low, high, method, (why, *evidence.bounds.assumed))


@dataclass(frozen=True, slots=True)
class Independent:
    """The number of independent rounds that a log amounts to for one statistic.

    n        number of rounds; never above that without clusters
    degrees  of freedom of a variance estimated from them
    note     "design effect 1.8" where there are clusters, else ""
    """

    n: float
    degrees: float
    note: str

    @classmethod
    def of(cls, evidence: Evidence, influence: F64) -> Independent:
        """Ours: the log's n divided by the statistic's design effect (Kish 1965), which is at least 1.

        influence  float64 (4,) on z = (1, base, weight, weight * error), of mean 0. Rounds that count for several
        enter as (sum c)^2 / sum c^2; with fewer than two clusters there is one independent round.
        """
        n, clusters = evidence.moments.effective_n, evidence.clusters
        if clusters is None:
            return cls(n, max(n - 1.0, 1.0), "")
        users = len(clusters.key)
        if users < 2:
            return cls(1.0, 1.0, f"design effect {n:.3g}")
        single = max(float(influence @ evidence.moments.first @ influence), 0.0) / evidence.moments.count
        total = float(((clusters.sums @ influence) ** 2).sum()) * users / (users - 1)
        variance = total / evidence.moments.count**2
        amount = min(n, single / variance) if variance > 0 else min(n, float(users))
        amount = max(amount, 1.0)
        return cls(amount, users - 1.0, f"design effect {n / amount:.3g}")


def named(method: str, *notes: str) -> str:
    """A method's name with whatever distinguishes this use of it."""
    return ", ".join([method, *(note for note in notes if note)])
