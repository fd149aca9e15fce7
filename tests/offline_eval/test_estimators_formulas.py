"""Every estimator beside its formula, written again as a loop over rounds in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.estimators import parse
from tests.offline_eval.estimator_cases import EVERY, estimate, moments_of, random_rounds


def by_hand(spec, rounds):
    """The estimate, round by round."""
    kind, _, lam = spec.partition(":lam=")
    lam = float(lam) if lam else None
    base, weights, corrections = [], [], []
    for i in range(len(rounds)):
        action, reward = int(rounds.log.action[i]), float(rounds.log.reward[i])
        w = weight(kind, lam, rounds, i, action)
        q = [0.0] * rounds.log.n_actions
        if kind.startswith("mrdr"):
            q = rounds.models["mrdr"][i].tolist()
        elif kind == "dm" or "dr" in kind:
            q = rounds.models["plain"][i].tolist()
        base.append(sum(p * value for p, value in zip(rounds.target[i].tolist(), q, strict=True)))
        weights.append(w)
        corrections.append(w * (reward - q[action]))
    n = len(base)
    if kind in ("snips", "sndr", "replay"):
        return sum(base) / n + sum(corrections) / sum(weights)
    return (sum(base) + sum(corrections)) / n


def weight(kind, lam, rounds, i, action):
    w = float(rounds.target[i, action]) / float(rounds.log.logging[i, action])
    match kind:
        case "dm":
            return 0.0
        case "cips" | "drps":
            return w if w < lam else lam
        case "switch-dr":
            return w if w <= lam else 0.0
        case "dros":
            return w if lam == float("inf") else lam * w / (w * w + lam) if lam else 0.0
        case "sg-ips" | "sg-dr":
            return w / (1 - lam + lam * w) if w else 0.0
        case "bipw":
            return float(rounds.balanced[i])
        case "mips":
            return marginal(rounds, i, action)
    return w


def marginal(rounds, i, action):
    target, logging, embedding = rounds.target[i], rounds.log.logging[i], rounds.log.action_embedding
    if rounds.log.embeds_rounds:
        fitted = rounds.models["action_of_embedding"][i]
        return float(sum(fitted[b] * target[b] / logging[b] for b in range(len(target))))
    same = [b for b in range(len(target)) if list(embedding[b]) == list(embedding[action])]
    return float(sum(target[b] for b in same) / sum(logging[b] for b in same))


@pytest.mark.parametrize("spec", EVERY)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 12),
    k=st.integers(2, 5),
    embedding=st.sampled_from(["action", "round"]),
    zeros=st.booleans(),
)
def test_an_estimate_is_its_formula(spec, seed, n, k, embedding, zeros):
    rounds = random_rounds(np.random.default_rng(seed), n if n != k else n + 7, k, embedding=embedding, zeros=zeros)
    if spec in ("snips", "sndr", "replay") and not rounds.weight.any():
        assert np.isnan(estimate(spec, rounds))
    else:
        assert estimate(spec, rounds) == pytest.approx(by_hand(spec, rounds), abs=1e-9, rel=1e-9)


@given(seed=st.integers(0, 10**6))
def test_a_variance_is_that_of_the_terms(seed):
    """Of estimates that are plain means; the self-normalised by the delta method, r less the value as the error."""
    rounds = random_rounds(np.random.default_rng(seed), 30, 3)
    for spec in ("ips", "dr", "drps:lam=0.8", "mips"):
        terms = parse(spec).terms(rounds, moments_of(spec, rounds))
        assert parse(spec).variance(moments_of(spec, rounds)) == pytest.approx(terms.var() / 30, rel=1e-7)
    w, r = rounds.weight, rounds.log.reward
    influence = w * (r - estimate("snips", rounds)) / w.mean()
    assert parse("snips").variance(moments_of("snips", rounds)) == pytest.approx((influence**2).mean() / 30, rel=1e-7)
