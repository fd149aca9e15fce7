"""Worlds small enough to write down every log: exact expectations, and the biases that docstrings state.

Two contexts, three actions, rewards of 0 and 1; q is fixed beforehand, as a cross-fitted model is for its rows.
"""

from itertools import product

import numpy as np
import pytest

from bandits.moments import Moments
from offline_eval.dataset import BanditLog
from offline_eval.estimators import parse
from offline_eval.rounds import Rounds

P_X = np.array([0.3, 0.7])
LOGGING = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
TARGET = np.array([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])
REWARD = np.array([[0.2, 0.9, 0.4], [0.7, 0.5, 0.1]])
Q = np.array([[0.3, 0.6, 0.5], [0.4, 0.8, 0.0]])
Q_MRDR = np.array([[0.1, 0.9, 0.2], [0.6, 0.3, 0.3]])
EMBEDDING = np.array([[0.0], [1.0], [1.0]])
W = TARGET / LOGGING
TRUTH = float(P_X @ (TARGET * REWARD).sum(axis=1))

UNBIASED = ["ips", "dr", "mrdr", "bipw", "sg-ips:lam=0", "dros:lam=inf", "cips:lam=100", "switch-dr:lam=100"]


def under_logging(of_pair):
    """E over x and a ~ pi0 of an array (2, 3)."""
    return float(P_X @ (LOGGING * of_pair).sum(axis=1))


BIASED = {
    "dm": float(P_X @ (TARGET * (Q - REWARD)).sum(axis=1)),
    "cips:lam=1.2": -under_logging(np.maximum(W - 1.2, 0) * REWARD),
    "sg-ips:lam=0.3": -under_logging(0.3 * W * (W - 1) / (0.7 + 0.3 * W) * REWARD),
    "switch-dr:lam=2": -under_logging(W * (W > 2) * (REWARD - Q)),
    "dros:lam=1.5": -under_logging(W**3 / (W**2 + 1.5) * (REWARD - Q)),
    "drps:lam=1.2": -under_logging(np.maximum(W - 1.2, 0) * (REWARD - Q)),
    "sg-dr:lam=0.3": -under_logging(0.3 * W * (W - 1) / (0.7 + 0.3 * W) * (REWARD - Q)),
}


def logs(n, logging=LOGGING, reward=REWARD):
    """Every log of n rounds: its probability, and x, a and r of each round."""
    outcomes = [
        (P_X[x] * logging[x, a] * (reward[x, a] if r else 1 - reward[x, a]), x, a, r)
        for x, a, r in product(range(2), range(3), range(2))
    ]
    outcomes = [one for one in outcomes if one[0] > 0]
    for rounds in product(outcomes, repeat=n):
        p, x, a, r = zip(*rounds, strict=True)
        yield float(np.prod(p)), np.array(x), np.array(a), np.array(r, float)


def expectation(spec, n, *, logging=LOGGING, target=TARGET, reward=REWARD):
    """(Probability that there is an estimate, expectation of the estimate where there is one.)"""
    estimator = parse(spec)
    defined = total = 0.0
    for p, x, a, r in logs(n, logging, reward):
        log = BanditLog(None, a, r, logging[x, a], 3, logging=logging[x], action_embedding=EMBEDDING)
        rounds = Rounds(log, target[x, a], target[x], {"plain": Q[x], "mrdr": Q_MRDR[x]}, (target / logging)[x, a])
        moments = Moments.zero(3)
        moments.add(estimator.split(rounds).columns())
        value = estimator.value(moments)
        if not np.isnan(value):
            defined += p
            total += p * value
    return defined, total / defined


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("spec", UNBIASED)
def test_an_unbiased_estimator_has_the_truth_as_its_expectation(spec, n):
    defined, value = expectation(spec, n)
    assert defined == pytest.approx(1.0, abs=1e-12)
    assert value == pytest.approx(TRUTH, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("spec", BIASED)
def test_a_biased_estimator_is_off_by_what_its_docstring_says(spec, n):
    value = expectation(spec, n)[1]
    assert abs(BIASED[spec]) > 1e-3
    assert value - TRUTH == pytest.approx(BIASED[spec], abs=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_mips_is_unbiased_where_reward_depends_on_the_embedding_alone(n):
    reward = np.array([[0.2, 0.9, 0.9], [0.7, 0.5, 0.5]])
    truth = float(P_X @ (TARGET * reward).sum(axis=1))
    assert expectation("mips", n, reward=reward)[1] == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_a_direct_effect_biases_mips_by_theorem_3_5(n):
    """Actions 1 and 2 share an embedding but not their rewards."""
    bias = 0.0
    for x in range(2):
        of_embedding = LOGGING[x, 1] + LOGGING[x, 2]
        p1, p2 = LOGGING[x, 1] / of_embedding, LOGGING[x, 2] / of_embedding
        bias += P_X[x] * of_embedding * p1 * p2 * (REWARD[x, 1] - REWARD[x, 2]) * (W[x, 2] - W[x, 1])
    assert abs(bias) > 1e-3
    assert expectation("mips", n)[1] - TRUTH == pytest.approx(bias, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_replay_of_a_uniform_log_is_unbiased_given_that_a_round_matches(n):
    uniform, target = np.full((2, 3), 1 / 3), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    defined, value = expectation("replay", n, logging=uniform, target=target)
    assert defined == pytest.approx(1 - (2 / 3) ** n, abs=1e-12)
    assert value == pytest.approx(float(P_X @ (target * REWARD).sum(axis=1)), abs=1e-10)


@pytest.mark.parametrize("spec", ["snips", "replay"])
def test_self_normalising_is_exact_for_constant_rewards_and_for_the_logging_policy(spec):
    ones = np.ones((2, 3))
    assert expectation(spec, 2, reward=ones)[1] == pytest.approx(1.0, abs=1e-12)
    on_policy = float(P_X @ (LOGGING * REWARD).sum(axis=1))
    assert expectation(spec, 2, target=LOGGING)[1] == pytest.approx(on_policy, abs=1e-12)


@pytest.mark.parametrize("spec", ["snips", "sndr"])
def test_the_bias_of_self_normalising_falls_with_the_length_of_the_log(spec):
    positive = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    truth = float(P_X @ (positive * REWARD).sum(axis=1))
    bias = [abs(expectation(spec, n, target=positive)[1] - truth) for n in (1, 2, 3)]
    assert bias[0] > bias[1] > bias[2] > 1e-6
