"""Logs whose propensities are known to be right, and ways to spoil them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bandits.arrays import F64
from offline_eval.dataset import BanditLog
from offline_eval.diagnostics import Diagnosis, Finding, Level, Thresholds, middles
from offline_eval.formats.chunk import Ids
from offline_eval.rounds import Rounds


@dataclass(frozen=True)
class World:
    """n rounds of a softmax policy, and a target."""

    context: F64
    action: np.ndarray
    propensity: F64
    logging: F64
    target: F64

    def rounds(self, known: bool = True, **columns) -> Rounds:
        """As a log; known: with its whole logging distribution."""
        n, k = self.logging.shape
        logging = self.logging if known else None
        reward = np.random.default_rng(1).random(n)
        log = BanditLog(self.context, self.action, reward, self.propensity, k, logging=logging, **columns)
        return Rounds(log, self.target[np.arange(n), self.action], self.target)

    def with_(self, **columns) -> World:
        return replace(self, **columns)


def softmax(scores: F64) -> F64:
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    return share / share.sum(axis=1, keepdims=True)


def world(seed: int, n: int = 4000, n_actions: int = 5, sharpness: float = 0.7) -> World:
    """A log of a softmax of linear scores, its target another one."""
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(n, 4))
    logging = softmax(sharpness * context @ rng.normal(size=(4, n_actions)))
    target = softmax(context @ rng.normal(size=(4, n_actions)) * 0.5)
    action = np.minimum((logging.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), n_actions - 1)
    return World(context, action, logging[np.arange(n), action], logging, target)


def diagnose(rounds: Rounds, **options) -> Diagnosis:
    diagnosis = Diagnosis(rounds.log.n_actions, middle=middles(rounds.log.context), **options)
    diagnosis.add(rounds, hours(len(rounds)))
    return diagnosis


def hours(n: int, start: int = 0) -> dict[str, Ids]:
    return {"hour": Ids((np.arange(start, start + n) % 6).astype(np.intp), tuple(range(6)))}


def findings(rounds: Rounds, limits: Thresholds | None = None, **options) -> dict[str, Finding]:
    made = diagnose(rounds, **options).findings(limits or Thresholds())
    return {one.name: one for one in made}


def refused(rounds: Rounds, **options) -> set[str]:
    """Names of the checks that refuse."""
    return {name for name, one in findings(rounds, **options).items() if one.level is Level.REFUSE}
