"""Small ad-load logs for tests of learning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offline_eval.learning import AdLoadLog
from offline_eval.learning.study import Task

START = 1_767_225_600_000_000


def two_contexts(seed=0, n_users=1000, rows_each=3, gain=1.0, noise=0.5, logging=(0.5, 0.5)):
    """A user is +1 or -1; load 1 is better for the former by `gain` in satisfaction, load 0 for the latter.

    Revenue is noise. Loads are 0 and 2.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), rows_each)
    x = rng.choice([-1.0, 1.0], n_users)[user]
    n = len(user)
    action = (rng.random(n) >= logging[0]).astype(np.intp)
    right = (x > 0) == (action == 1)
    return AdLoadLog(
        user=user,
        timestamp=START + np.arange(n),
        features=np.column_stack([x, np.full(n, 7.0)]),
        names=["side", "constant"],
        action=action,
        propensity=np.array(logging)[action],
        allowed=np.ones((n, 2), bool),
        satisfaction=gain * right + rng.normal(0, noise, n),
        revenue=rng.exponential(1.0, n),
        loads=(0, 2),
        logging=np.tile(logging, (n, 1)),
    )


def best_logged(seed=0, n_users=1500):
    """Logging serves the better of loads 0 and 1 with .9, others with .05 each: with that floor nothing beats it."""
    log = two_contexts(seed, n_users)
    rng = np.random.default_rng(seed + 1)
    better = (log.features[:, 0] > 0).astype(np.intp)
    share = np.full((len(log), 3), 0.05)
    share[np.arange(len(log)), better] = 0.9
    action = (rng.random(len(log))[:, None] >= share.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return replace(
        log,
        action=action,
        propensity=share[np.arange(len(log)), action],
        allowed=np.ones((len(log), 3), bool),
        satisfaction=(action == better) + rng.normal(0, 0.5, len(log)),
        loads=(0, 1, 2),
        logging=share,
    )


def part_of(log, keep):
    """Some rows of a log."""
    columns = ("user", "timestamp", "features", "action", "propensity", "allowed", "satisfaction", "revenue")
    rows = {name: getattr(log, name)[keep] for name in columns}
    return replace(log, **rows, logging=None if log.logging is None else log.logging[keep])


def random_task(seed, m=40, n_features=3, n_loads=3):
    """Anything goes, but every row allows its action."""
    rng = np.random.default_rng(seed)
    action = rng.integers(n_loads, size=m)
    allowed = rng.random((m, n_loads)) < 0.7
    allowed[np.arange(m), action] = True
    z, q = rng.normal(size=(m, n_features)), rng.normal(size=(m, n_loads))
    return Task(z, allowed, action, rng.uniform(0.1, 1.0, m), rng.normal(size=m), q)
