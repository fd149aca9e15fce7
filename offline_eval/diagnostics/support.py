"""Target mass on actions that the logging policy never takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from bandits.kernels.audit import add_target
from offline_eval.dataset import BanditLog
from offline_eval.diagnostics.finding import Finding, Level, Names
from offline_eval.diagnostics.thresholds import Thresholds

MAX_NAMED = 3
NOTHING = 1e-6
"""Target mass that rounding explains."""


@dataclass
class Support:
    """Where the target would act, in rounds whose logging distribution is unknown.

    count        sum of c over all rounds whose target is known, whatever is known of the logging
    taken        float64 (K,)  sum of c of the rounds that took it, in all rounds
    mass         float64 (K,)  the target's, on actions that were allowed
    unsupported  float64 (K,)  the target's, on actions that were not
    """

    n_actions: int
    count: float
    taken: F64
    mass: F64
    unsupported: F64

    def __init__(self, n_actions: int) -> None:
        self.n_actions, self.count = n_actions, 0.0
        self.taken = self.mass = self.unsupported = np.zeros(0)

    def add(self, log: BanditLog, targeted: bool) -> None:
        """Count what was taken; targeted: whether the target's whole distribution is known."""
        self._grow()
        self.taken += np.bincount(log.action, log.count, self.n_actions)
        if targeted:
            self.count += len(log) if log.count is None else float(log.count.sum())

    def add_unknown(self, log: BanditLog, target: F64) -> None:
        """The target float64 (n, K) of rounds whose logging distribution is unknown."""
        nothing = np.empty((0, self.n_actions), np.bool_)
        allowed = nothing if log.allowed is None else log.allowed
        count = np.empty(0) if log.count is None else log.count
        add_target(target, allowed, count, self.mass, self.unsupported)

    def merge(self, other: Support) -> None:
        """Take in the rounds of another."""
        if not len(other.taken):
            return
        self._grow()
        self.count += other.count
        self.taken += other.taken
        self.mass += other.mass
        self.unsupported += other.unsupported

    def _grow(self) -> None:
        if not len(self.taken):
            self.taken, self.mass, self.unsupported = (np.zeros(self.n_actions) for _ in range(3))

    def by_action(self, known: F64) -> F64:
        """Unsupported mass of each action per round, float64 (K,); NaN where the target's distribution is unknown.

        known  float64 (K,) or empty  mass on actions of probability 0, of rounds whose logging is known

        Where it is unknown, an action that no round of the log took counts as one never taken.
        """
        if not self.count:
            return np.full(self.n_actions, np.nan)
        mass = self.unsupported + np.where(self.taken == 0, self.mass, 0.0)
        share: F64 = (mass + known if len(known) else mass) / self.count
        return share

    def findings(self, share: F64, limits: Thresholds, name: Names) -> list[Finding]:
        """share  as by_action returns it."""
        title = "unsupported actions"
        total = float(share.sum())
        if np.isnan(total):
            return [Finding(title, Level.NOTE, "not measured: the target's whole distribution is not known")]
        if total <= NOTHING:
            return [Finding(title, Level.OK, "none: the log holds every action that the target would take")]
        said = f"the target puts {total:.2%} of its mass on actions that the logging policy never takes: "
        said += _listed(share, name)
        if total > limits.max_unsupported:
            mend = "log with a policy that takes them, or evaluate a target that does not"
            most = f"above {limits.max_unsupported:.2%} (max_unsupported)"
            return [Finding(title, Level.REFUSE, f"{said}, {most}: {mend}")]
        return [Finding(title, Level.WARN, f"{said}: the estimates know nothing of that share; log with a floor")]


def _listed(share: F64, name: Names) -> str:
    """The actions with the most mass."""
    order = np.argsort(-share, kind="stable")
    order = order[share[order] > 0.0]
    named = ", ".join(f"{name(int(action))} ({share[action]:.2%})" for action in order[:MAX_NAMED])
    return named if len(order) <= MAX_NAMED else f"{named} and {len(order) - MAX_NAMED:,} more"
