"""What a policy is fitted to: an estimate of its value less a penalty on the estimate's standard error.

Counterfactual risk minimisation (Swaminathan & Joachims 2015a, "Counterfactual Risk Minimization", eq. 6), here of a
reward to raise: J = V - penalty * sd / sqrt(m), with V one of the estimators below. Gradients are re-derived by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandits.arrays import F64
from offline_eval.learning.study import Task

Objective = Callable[[F64], tuple[float, F64]]
"""From probabilities float64 (m, L) to J and its derivatives float64 (m, L)."""
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class DoublyRobust:
    """V = mean of sum_a pi(a|x) g(x, a) with the doubly robust rewards g of the loads (Dudik, Langford & Li 2011).

    Unbiased where the propensities are right; linear in pi, so that nothing is gained by overfitting weights.
    """

    task: Task
    penalty: float

    def __call__(self, pi: F64) -> tuple[float, F64]:
        reward = self.task.pseudo_rewards
        value, slope = _penalised((pi * reward).sum(axis=1), self.penalty)
        return value, slope[:, None] * reward


@dataclass(frozen=True, eq=False)
class ClippedIps:
    """V = mean of min(w, clip) * reward (Ionides 2008; Swaminathan & Joachims 2015a, eq. 4).

    Biased towards loads of which pi is not far from logging: where w exceeds the clip, more of pi earns nothing. The
    reward has mean 0 under logging, which keeps the objective from preferring small or large weights as such.
    """

    task: Task
    penalty: float
    clip: float

    def __call__(self, pi: F64) -> tuple[float, F64]:
        weight = self.task.of_action(pi) / self.task.propensity
        value, slope = _penalised(np.minimum(weight, self.clip) * self.task.reward, self.penalty)
        inner = slope * self.task.reward * (weight < self.clip)
        return value, _at_action(self.task, inner)


@dataclass(frozen=True, eq=False)
class SelfNormalised:
    """V = sum w reward / sum w (Swaminathan & Joachims 2015b, "The Self-Normalized Estimator", eq. 7).

    Biased by O(1/m); indifferent to a constant added to the reward. Its standard error is the delta method's.
    """

    task: Task
    penalty: float

    def __call__(self, pi: F64) -> tuple[float, F64]:
        task, m = self.task, len(self.task.action)
        weight = task.of_action(pi) / task.propensity
        total = max(float(weight.mean()), TINY)
        value = float((weight * task.reward).mean()) / total
        error = task.reward - value
        slope = error / (m * total)
        square = float((weight**2 * error**2).mean())
        sd = max(np.sqrt(square) / total, TINY)
        through = 2 * weight * error**2 / m - 2 * float((weight**2 * error).mean()) * slope
        spread = (through / total**2 - 2 * square / total**3 / m) / (2 * sd)
        share = self.penalty / np.sqrt(m)
        return float(value - share * sd), _at_action(task, slope - share * spread)


def _penalised(terms: F64, penalty: float) -> tuple[float, F64]:
    """mean - penalty * sd / sqrt(m) of m terms, and its derivatives by them."""
    m, mean = len(terms), terms.mean()
    sd = max(float(terms.std()), TINY)
    slope: F64 = (1.0 - penalty / np.sqrt(m) * (terms - mean) / sd) / m
    return float(mean - penalty * sd / np.sqrt(m)), slope


def _at_action(task: Task, by_weight: F64) -> F64:
    slope = np.zeros(task.allowed.shape)
    slope[np.arange(len(slope)), task.action] = by_weight / task.propensity
    return slope
