"""Rounds for the tests of estimators, and every estimator with parameters to test it at."""

from __future__ import annotations

import numpy as np

from bandits.moments import Moments
from offline_eval.dataset import BanditLog
from offline_eval.estimators import ESTIMATORS, parse
from offline_eval.rounds import Rounds

EVERY = [
    "replay", "dm", "ips", "cips:lam=1.5", "cips:lam=0.4", "sg-ips:lam=0.3", "sg-ips:lam=1", "snips", "dr", "sndr",
    "mrdr", "switch-dr:lam=1.5", "switch-dr:lam=0", "dros:lam=2", "dros:lam=0", "dros:lam=inf", "drps:lam=0.8",
    "sg-dr:lam=0.3", "sg-dr:lam=1", "bipw", "mips",
]  # fmt: skip
assert {parse(one).kind for one in EVERY} == set(ESTIMATORS)


def estimate(spec, rounds):
    """An estimator's value, by its moments."""
    return parse(spec).value(moments_of(spec, rounds))


def moments_of(spec, rounds):
    moments = Moments.zero(3)
    moments.add(parse(spec).split(rounds).columns(), rounds.log.count)
    return moments


def random_rounds(random, n, k, *, embedding="action", zeros=False):
    """n rounds over k actions: policies drawn row by row, rewards in [-1, 2], models and learned weights at will."""
    logging = random.dirichlet(np.ones(k), n) * 0.9 + 0.1 / k
    target = random.dirichlet(np.ones(k) * 0.5, n)
    if zeros:
        target = np.eye(k)[random.integers(k, size=n)]
    action = np.array([random.choice(k, p=row / row.sum()) for row in logging], np.intp)
    models = {name: random.uniform(-1, 2, (n, k)) for name in ("plain", "mrdr", "action_of_embedding")}
    models["action_of_embedding"] /= np.abs(models["action_of_embedding"]).sum(axis=1, keepdims=True)
    embeds = random.integers(2, size=(k, 2)) if embedding == "action" else random.normal(size=(n, 2))
    log = BanditLog(
        random.normal(size=(n, 2)), action, random.uniform(-1, 2, n), logging[np.arange(n), action], k,
        logging=logging, action_embedding=embeds,
    )  # fmt: skip
    return Rounds(log, target[np.arange(n), action], target, models, random.uniform(0, 3, n))
