"""Evidence made from per-round numbers, for tests of intervals."""

from __future__ import annotations

import numpy as np

from bandits.moments import Moments
from offline_eval.estimators.ips import IPS
from offline_eval.intervals.base import Bounds, Clusters, Evidence


def moments(columns, count=None):
    made = Moments.zero(len(columns))
    made.add(np.asarray(columns, float), count)
    return made


def evidence(
    weight, reward, estimator=None, *, base=None, bounds=None, count=None, user=None, n_blocks=0, ess=float("inf")
):
    """Rounds with base (0), weight and error (the reward); one block per n / n_blocks rounds."""
    weight, reward = np.asarray(weight, float), np.asarray(reward, float)
    base = np.zeros(len(weight)) if base is None else np.asarray(base, float)
    columns = np.stack([base, weight, weight * reward])
    times = np.ones(len(weight)) if count is None else np.asarray(count, float)
    z = np.stack([np.ones(len(weight)), *columns]) * times
    clusters = None if user is None else Clusters.of(np.asarray(user, np.uint64), z.T)
    blocks = [moments(part) for part in np.array_split(columns, n_blocks, axis=1)] if n_blocks else ()
    bounds = Bounds(max(weight.max(initial=1.0), 1.0), (0.0, 1.0)) if bounds is None else bounds
    counts = None if count is None else times
    return Evidence(estimator or IPS(), moments(columns, counts), bounds, clusters, blocks, ess)


def drawn(random, n, actions=5):
    """Weights (n,) of mean 1 and rewards (n,) of 0 and 1 of a target unlike the uniform logging policy."""
    target = np.linspace(1, 3, actions) / np.linspace(1, 3, actions).sum()
    chance = np.linspace(0.6, 0.1, actions)
    action = random.integers(0, actions, n)
    rewards = (random.random(n) < chance[action]).astype(float)
    return actions * target[action], rewards, float(target @ chance), float(actions * target.max())
