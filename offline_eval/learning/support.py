"""Why a log cannot teach a policy."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from offline_eval.learning.log import AdLoadLog

LEAST_ROWS = 1000
LEAST_USERS = 100
REFUSE_BELOW = 1e-4


def reasons(log: AdLoadLog) -> list[str]:
    """One line each; none where the log will do."""
    n, users = len(log), int(log.group.max(initial=-1)) + 1
    if n < LEAST_ROWS:
        return [f"too few rows: {n:,}, at least {LEAST_ROWS:,} are needed"]
    if users < LEAST_USERS:
        return [f"too few users: {users:,}, at least {LEAST_USERS:,} are needed"]
    choice = log.allowed.sum(axis=1) > 1
    if not choice.any():
        return ["no row allows more than one load: there is nothing to choose"]
    if not (log.propensity[choice] < 1.0).any():
        return ["every propensity is 1: the logging policy never chose by chance, so nothing tells what else would do"]
    return [*_never_served(log), *_misfitting(log)]


def _never_served(log: AdLoadLog) -> list[str]:
    served, anywhere = np.bincount(log.action, minlength=len(log.loads)), [bool(one.any()) for one in log.allowed.T]
    return [
        f"load {load} is allowed but never served: nothing tells what it would bring; leave it out of `allowed`"
        for load, count, allowed in zip(log.loads, served, anywhere, strict=True)
        if allowed and not count
    ]


def _misfitting(log: AdLoadLog) -> list[str]:
    """Of each load the mean of 1{served} / propensity over the rows that allow it must be 1, users independent."""
    found = []
    for column, load in enumerate(log.loads):
        rows = log.allowed[:, column]
        weight = (log.action[rows] == column) / log.propensity[rows]
        if not weight.any():
            continue
        sums = np.bincount(log.group[rows], weight - 1.0)
        error = float(np.sqrt((sums**2).sum()))
        z = float(sums.sum()) / error if error else 0.0
        if 2 * float(ndtr(-abs(z))) * len(log.loads) < REFUSE_BELOW:
            found.append(
                f"the propensities of load {load} do not fit: inverse propensities average {weight.mean():.4g} where "
                f"1 is due (z {z:+.1f}); log the probability that the load was drawn with"
            )
    return found
