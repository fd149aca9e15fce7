"""LinUCB with full matrices, the reference that Diag-LinUCB is compared with in tests and benchmarks only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits import checks

Floats = NDArray[np.float64]


class FullLinUCB:
    """Disjoint LinUCB: one ridge regression per arm over all slots, float64.

    With A = prior I + sum x x' and b = sum r x of an arm: theta = A^-1 b, mean = x' theta, variance = x' A^-1 x,
    score = mean + alpha sqrt(variance).

    n_arms   number of arms
    n_slots  dimension of a context; memory is n_arms * n_slots**2 doubles
    alpha    width of the confidence bound >= 0
    prior    ridge constant lambda > 0; the paper has 1

    inverse  float64 (n_arms, n_slots, n_slots): A^-1, kept by Sherman-Morrison updates
    theta    float64 (n_arms, n_slots)

    Source: Li, Chu, Langford and Schapire, "A Contextual-Bandit Approach to Personalized News Article
    Recommendation", WWW 2010, arXiv 1003.0146, algorithm 1 (disjoint linear models). The recursive form of theta
    is the usual one of recursive least squares.

    >>> m = FullLinUCB(n_arms=1, n_slots=2, prior=2.0)
    >>> m.update(arm=0, slots=[0, 1], weights=[1.0, 1.0], reward=1.0)
    >>> m.posterior([0, 1], [1.0, 1.0])
    (array([0.5]), array([0.5]))
    """

    def __init__(self, n_arms: int, n_slots: int, alpha: float = 1.0, prior: float = 1.0) -> None:
        self.n_arms = checks.count("n_arms", n_arms)
        self.n_slots = checks.count("n_slots", n_slots)
        self.alpha = checks.bounded("alpha", alpha, 0)
        self.prior = checks.bounded("prior", prior, 0, open_low=True)
        self.inverse: Floats = np.tile(np.eye(self.n_slots) / self.prior, (self.n_arms, 1, 1))
        self.theta: Floats = np.zeros((self.n_arms, self.n_slots))

    def update(self, arm: int, slots: ArrayLike, weights: ArrayLike, reward: float) -> None:
        """Learn one impression of arm and its reward; arguments and errors as DiagLinUCB.update."""
        row = checks.arm_index(arm, self.n_arms)
        slot, weight = checks.context(slots, weights, self.n_slots)
        value = checks.finite("reward", reward)
        direction = self.inverse[row][:, slot] @ weight
        gain = direction / (1.0 + weight @ direction[slot])
        self.theta[row] += gain * (value - weight @ self.theta[row, slot])
        self.inverse[row] -= np.outer(gain, direction)

    def posterior(self, slots: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and variance of every arm in this context, float64 (n_arms,) each."""
        slot, weight = checks.context(slots, weights, self.n_slots)
        block = self.inverse[:, slot[:, None], slot[None, :]]
        return self.theta[:, slot] @ weight, (block @ weight) @ weight

    def scores(self, slots: ArrayLike, weights: ArrayLike) -> Floats:
        """Upper confidence bound of every arm in this context, float64 (n_arms,)."""
        mean, variance = self.posterior(slots, weights)
        return mean + self.alpha * np.sqrt(np.maximum(variance, 0.0))
