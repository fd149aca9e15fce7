"""Diag-LinUCB in float64: one ridge regression per (arm, slot) cell, without any service."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandits import checks

Variant = Literal["published", "centred", "weights"]
Floats = NDArray[np.float64]


class DiagLinUCB:
    """LinUCB whose precision matrix is kept diagonal, so that every update is an addition.

    n_arms   number of arms
    n_slots  number of context slots: user clusters or hashed features
    alpha    width of the confidence bound, in standard deviations of the diagonal model; 0 exploits only
    variant  how sums become a score:
             "published"  mean = sum_c w_c b_c / d_c, var = sum_c w_c**2 / d_c, d_c = prior + sum w**2, b_c = sum w r
             "centred"    theta_c = (b_c - m s_c) / d_c with s_c = sum w and m the running mean reward of all
                          impressions at the time of reading; mean = m + sum_c w_c theta_c (ours)
             "weights"    the published mean over W and variance over W**2, W = sum of the active w (ours);
                          where W is 0 they stay as published
    prior    ridge constant lambda > 0, the precision of an unseen cell (ours)
    edges    bool (n_arms, n_slots), the cells that exist; None: all of them

    Sums run over those of the given slots that have an edge to the arm. An arm without any scores as if every given
    slot were unseen: prior mean (0, or m where centred) and full bonus. Upper bounds are scores, not probabilities.

    weight_sq_sum, weight_sum, reward_sum   float64 (n_arms, n_slots): sums of w**2, w and w r
    impressions, total_reward               what the running mean is made of

    Source: Yi et al., "Online Matching: A Real-time Bandit System for Large-scale Recommendations", RecSys 2023,
    arXiv 2307.15893: the sparse context, the update d += w**2, b += w r and the score of "published". Parts marked
    (ours) are not in the paper.

    >>> m = DiagLinUCB(n_arms=2, n_slots=3)
    >>> m.update(arm=0, slots=[0, 2], weights=[0.5, 0.5], reward=1.0)
    >>> m.posterior([0, 2], [0.5, 0.5])
    (array([0.4, 0. ]), array([0.4, 0.5]))
    >>> m.scores([0, 2], [0.5, 0.5]).round(4)
    array([1.0325, 0.7071])
    """

    def __init__(
        self,
        n_arms: int,
        n_slots: int,
        alpha: float = 1.0,
        variant: Variant = "published",
        prior: float = 1.0,
        edges: ArrayLike | None = None,
    ) -> None:
        if variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {variant!r}")
        self.n_arms = checks.count("n_arms", n_arms)
        self.n_slots = checks.count("n_slots", n_slots)
        self.alpha = checks.bounded("alpha", alpha, 0)
        self.prior = checks.bounded("prior", prior, 0, open_low=True)
        self.variant: Variant = variant
        shape = (self.n_arms, self.n_slots)
        self.edges = None if edges is None else _edge_mask(edges, shape)
        # Fortran order: the cells of one slot are contiguous, and a score reads K slots of all arms.
        self.weight_sq_sum: Floats = np.zeros(shape, order="F")
        self.weight_sum: Floats = np.zeros(shape, order="F")
        self.reward_sum: Floats = np.zeros(shape, order="F")
        self.impressions = 0
        self.total_reward = 0.0

    @property
    def mean_reward(self) -> float:
        """Running mean reward over impressions, 0 before the first."""
        return self.total_reward / self.impressions if self.impressions else 0.0

    def update(self, arm: int, slots: ArrayLike, weights: ArrayLike, reward: float) -> None:
        """Learn one impression of arm and its reward, with the context that was used at serving time.

        slots    int (K,), different, in [0, n_slots)
        weights  (K,), finite, at most 16 in magnitude
        reward   finite; 0 for an impression whose reward is not known yet, see add_reward

        Raises ValueError, changing nothing.
        """
        self._add(arm, slots, weights, reward, impressions=1)

    def add_reward(self, arm: int, slots: ArrayLike, weights: ArrayLike, reward: float) -> None:
        """Add a reward that came after its impression was learned with reward 0; arguments as in update."""
        self._add(arm, slots, weights, reward, impressions=0)

    def update_many(self, arms: ArrayLike, slots: ArrayLike, weights: ArrayLike, rewards: ArrayLike) -> None:
        """Learn n impressions: arms (n,), slots and weights (n, K), rewards (n,); the sum of n updates.

        Raises ValueError, changing nothing.
        """
        arm, reward = np.asarray(arms), np.asarray(rewards, dtype=np.float64)
        slot, weight = checks.context(slots, weights, self.n_slots, n_dimensions=2)
        if arm.shape != (len(slot),) or reward.shape != arm.shape:
            raise ValueError(
                f"arms and rewards must be of shape ({len(slot)},) as slots are, got {arm.shape} and {reward.shape}"
            )
        rows = np.array([checks.arm_index(one, self.n_arms) for one in arm], dtype=np.intp)
        if not np.isfinite(reward).all():
            at = int(np.flatnonzero(~np.isfinite(reward))[0])
            raise ValueError(f"reward must be finite, got {reward[at]} at row {at}")
        cells = (np.broadcast_to(rows[:, None], slot.shape), slot)
        kept = np.ones(slot.shape, bool) if self.edges is None else self.edges[cells]
        cells = (cells[0][kept], cells[1][kept])
        np.add.at(self.weight_sq_sum, cells, weight[kept] ** 2)
        np.add.at(self.weight_sum, cells, weight[kept])
        np.add.at(self.reward_sum, cells, (weight * reward[:, None])[kept])
        self.impressions += len(rows)
        self.total_reward += float(reward.sum())

    def posterior(self, slots: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and variance of every arm in this context, float64 (n_arms,) each."""
        slot, weight = checks.context(slots, weights, self.n_slots)
        centre = self.mean_reward if self.variant == "centred" else 0.0
        inverse = 1.0 / (self.prior + self.weight_sq_sum.T[slot])
        theta = (self.reward_sum.T[slot] - centre * self.weight_sum.T[slot]) * inverse
        active = np.ones((slot.size, self.n_arms), bool) if self.edges is None else self.edges.T[slot]
        mean: Floats = centre + weight @ np.where(active, theta, 0.0)
        variance: Floats = weight**2 @ np.where(active, inverse, 0.0)
        unseen = ~active.any(axis=0)
        variance[unseen] = (weight**2).sum() / self.prior
        if self.variant == "weights":
            total = np.where(unseen, weight.sum(), weight @ active)
            total[total == 0.0] = 1.0
            mean, variance = mean / total, variance / total**2
        return mean, variance

    def scores(self, slots: ArrayLike, weights: ArrayLike) -> Floats:
        """Upper confidence bound of every arm in this context: mean + alpha sqrt(variance), float64 (n_arms,)."""
        mean, variance = self.posterior(slots, weights)
        return mean + self.alpha * np.sqrt(variance)

    def merge(self, other: DiagLinUCB) -> None:
        """Add all that other has learned; alpha, variant and prior stay this learner's.

        Raises ValueError unless both have the same arms, slots and edges.
        """
        if (self.n_arms, self.n_slots) != (other.n_arms, other.n_slots):
            raise ValueError(
                f"cannot merge {other.n_arms} arms x {other.n_slots} slots into {self.n_arms} x {self.n_slots}"
            )
        if not _same_edges(self.edges, other.edges):
            raise ValueError("cannot merge learners whose edges differ")
        self.weight_sq_sum += other.weight_sq_sum
        self.weight_sum += other.weight_sum
        self.reward_sum += other.reward_sum
        self.impressions += other.impressions
        self.total_reward += other.total_reward

    def _add(self, arm: int, slots: ArrayLike, weights: ArrayLike, reward: float, *, impressions: int) -> None:
        row = checks.arm_index(arm, self.n_arms)
        slot, weight = checks.context(slots, weights, self.n_slots)
        value = checks.finite("reward", reward)
        if self.edges is not None:
            kept = self.edges[row, slot]
            slot, weight = slot[kept], weight[kept]
        self.reward_sum[row, slot] += weight * value
        self.total_reward += value
        if impressions:
            self.weight_sq_sum[row, slot] += weight**2
            self.weight_sum[row, slot] += weight
            self.impressions += impressions


def _edge_mask(edges: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.asarray(edges)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(f"edges must be bool of shape {shape}, got {mask.dtype} {mask.shape}")
    return np.array(mask, order="F")


def _same_edges(first: NDArray[np.bool_] | None, second: NDArray[np.bool_] | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool((first == second).all())
