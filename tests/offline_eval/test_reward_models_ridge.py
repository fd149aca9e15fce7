"""Cross-fitted ridge from moments, beside the same regression on the rows themselves."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.dataset import BanditLog
from offline_eval.reward_models.ridge import PENALTIES, RidgeMoments, mrdr_weight
from offline_eval.rounds import Rounds

FOLDS, K, D = 4, 3, 2


def rows(seed, n=120, k=K, d=D):
    """context, action, reward, fold, weight of n rows; action k - 1 is never taken."""
    random = np.random.default_rng(seed)
    context = random.normal(3.0, [0.5, 20.0][:d], (n, d))
    action = random.integers(k - 1, size=n)
    reward = 0.2 * action + 0.1 * context @ np.ones(d) + random.normal(0, 0.3, n)
    return context, action, reward, random.integers(FOLDS, size=n), random.uniform(0.2, 2.0, n)


def moments_of(context, action, reward, fold, weight=None, **options):
    moments = RidgeMoments(K, context.shape[1], FOLDS, **options)
    moments.add(context, action, reward, fold, weight)
    return moments


def standardised(context, weight):
    mean = np.average(context, axis=0, weights=weight)
    scale = np.sqrt(np.average((context - mean) ** 2, axis=0, weights=weight))
    return lambda x: np.concatenate([np.ones((len(x), 1)), (x - mean) / scale], axis=1)


def weighted_ridge(z, reward, weight, penalties, centre):
    """argmin sum s (r - z beta)**2 + sum penalties (beta - centre)**2, as a least-squares problem with pseudo-rows."""
    root = np.sqrt(weight)[:, None]
    left = np.concatenate([z * root, np.diag(np.sqrt(penalties))])
    right = np.concatenate([reward * root[:, 0], np.sqrt(penalties) * centre])
    return np.linalg.lstsq(left, right, rcond=None)[0]


def predicted_by_rows(context, action, reward, fold, weight, penalty):
    """The same model without moments."""
    predicted = np.empty((len(reward), K))
    for one in range(FOLDS):
        training, out = fold != one, fold == one
        s = weight[training] * weight[training].sum() / (weight[training] ** 2).sum()
        features = standardised(context[training], s)
        z = features(context[training])
        slopes = np.r_[0.0, np.full(D, penalty)]
        shared = weighted_ridge(z, reward[training], s, slopes, np.zeros(D + 1))
        for a in range(K):
            its = action[training] == a
            own = np.r_[1.0, np.full(D, penalty)]
            beta = weighted_ridge(z[its], reward[training][its], s[its], own, shared)
            predicted[out, a] = features(context[out]) @ beta
        predicted[out] = predicted[out].clip(reward[training].min(), reward[training].max())
    return predicted


@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([0.1, 3.0, 100.0]), weighted=st.booleans())
def test_the_model_is_the_regression_on_the_rows_of_the_other_folds(seed, penalty, weighted):
    context, action, reward, fold, weight = rows(seed)
    weight = weight if weighted else np.ones(len(reward))
    model = moments_of(context, action, reward, fold, weight).fit(penalty)
    expected = predicted_by_rows(context, action, reward, fold, weight, penalty)
    np.testing.assert_allclose(model.predict(context, fold), expected, atol=1e-7)
    assert model.name == "cross-fitted ridge, one per action, 4 folds"


def test_a_fold_s_own_rewards_have_no_part_in_its_predictions():
    """Penalty and clipping included."""
    context, action, reward, fold, _ = rows(0)
    before = moments_of(context, action, reward, fold).fit()
    after = moments_of(context, action, np.where(fold == 2, 50.0 * reward + 7.0, reward), fold).fit()
    theirs = fold == 2
    np.testing.assert_allclose(
        before.predict(context, fold)[theirs], after.predict(context, fold)[theirs], rtol=1e-9, atol=1e-9
    )
    assert before.penalty[2] == after.penalty[2]
    assert not np.allclose(before.predict(context, fold)[~theirs], after.predict(context, fold)[~theirs])


@given(seed=st.integers(0, 10**6), cut=st.integers(0, 120), largest=st.sampled_from([2**28, 900, 0]))
def test_shards_merge_to_the_same_model(seed, cut, largest):
    context, action, reward, fold, weight = rows(seed)
    halves = [slice(0, cut), slice(cut, None)]
    first, second = (
        pickle.loads(
            pickle.dumps(moments_of(context[at], action[at], reward[at], fold[at], weight[at], largest=largest))
        )
        for at in halves
    )
    first.merge(second)
    whole = moments_of(context, action, reward, fold, weight, largest=largest)
    np.testing.assert_allclose(
        first.fit(5.0).predict(context, fold), whole.fit(5.0).predict(context, fold), rtol=1e-8, atol=1e-8
    )


def test_an_action_that_was_never_taken_gets_what_all_actions_share():
    context, action, reward, fold, _ = rows(1)
    every = moments_of(context, action, reward, fold).fit(1e9).predict(context, fold)
    slope_free = np.array([reward[fold != one].mean() for one in fold])
    np.testing.assert_allclose(every[:, K - 1], slope_free, atol=1e-3)


def test_an_action_seen_once_stands_half_way_between_its_reward_and_all_others():
    """Shared mean 0 over 99 rows (nearly), own reward 1: (1 + 0) / (1 + 1)."""
    action = np.r_[np.zeros(99, int), 1]
    reward, fold = np.r_[np.zeros(99), 1.0], np.r_[np.arange(99) % 2, 1]
    moments = RidgeMoments(2, 0, 2)
    moments.add(None, action, reward, fold)
    shared = 1 / 50
    predicted = moments.fit(1.0).predict(None, np.array([0]))
    assert predicted[0, 1] == pytest.approx((1.0 + shared) / 2)
    assert moments.name == "cross-fitted action means, 2 folds"


def test_of_the_penalties_the_one_is_taken_that_predicts_folds_not_seen():
    random = np.random.default_rng(2)
    context, fold = random.normal(size=(400, 6)), np.arange(400) % FOLDS
    action = random.integers(K, size=400)
    noise = random.normal(size=400)
    slopes = random.normal(size=(K, 6))
    clear = np.einsum("nd,nd->n", context, slopes[action]) + 0.01 * noise

    def chosen(reward):
        moments = RidgeMoments(K, 6, FOLDS)
        moments.add(context, action, reward, fold)
        return moments.fit().penalty

    assert (chosen(clear) == PENALTIES[0]).all()
    assert (chosen(noise) == PENALTIES[-1]).all()


def test_what_takes_too_much_memory_shares_its_slopes_and_then_leaves_the_context_out():
    context, action, reward, fold, _ = rows(3)
    shared = moments_of(context, action, reward, fold, largest=FOLDS * K * 16 * 8 - 1)
    assert shared.name == "cross-fitted ridge, slopes shared by all actions, 4 folds"
    model = shared.fit(1.0)
    assert np.ptp(model.coefficients[:, :, 1:], axis=1).max() == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(model.coefficients[:, :, 0], axis=1).min() > 0.1
    means = moments_of(context, action, reward, fold, largest=FOLDS * 4 * 7 * 8 - 1)
    assert means.name == "cross-fitted action means (context of 2 columns left out, too many), 4 folds"
    assert np.ptp(means.fit(1.0).predict(context, fold)[fold == 0], axis=0).max() == 0.0


@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([0.1, 10.0]))
def test_shared_slopes_are_the_regression_with_an_indicator_per_action(seed, penalty):
    context, action, reward, fold, weight = rows(seed)
    model = moments_of(context, action, reward, fold, weight, largest=900).fit(penalty)
    training = fold != 1
    s = weight[training] * weight[training].sum() / (weight[training] ** 2).sum()
    features = standardised(context[training], s)
    z = np.concatenate([features(context[training]), np.eye(K)[action[training]]], axis=1)
    penalties = np.r_[0.0, np.full(D, penalty), np.ones(K)]
    beta = weighted_ridge(z, reward[training], s, penalties, np.zeros(1 + D + K))
    out = context[fold == 1]
    expected = (features(out) @ beta[: D + 1])[:, None] + beta[D + 1 :]
    expected = expected.clip(reward[training].min(), reward[training].max())
    np.testing.assert_allclose(model.predict(out, fold[fold == 1]), expected, atol=1e-7)


@pytest.mark.parametrize("largest", [2**28, 900])
def test_the_error_of_a_model_is_that_on_the_rows(largest):
    context, action, reward, fold, weight = rows(4)
    moments = moments_of(context, action, reward, fold, weight, largest=largest)
    parts = [part.sum(axis=0) for part in moments.sums.per_fold]
    coefficients = moments.sums.fit(parts, 2.0)
    predicted = coefficients[action, 0] + (coefficients[action, 1:] * context).sum(axis=1)
    assert moments.sums.error(parts, coefficients) == pytest.approx(
        (weight * (reward - predicted) ** 2).sum(), rel=1e-9
    )


@pytest.mark.parametrize("largest", [2**28, 900])
def test_a_constant_column_and_an_empty_log_do_no_harm(largest):
    context, action, reward, fold, _ = rows(5)
    constant = np.stack([context[:, 0], np.full(len(reward), 1e6)], axis=1)
    assert np.isfinite(moments_of(constant, action, reward, fold, largest=largest).fit().predict(constant, fold)).all()
    empty = RidgeMoments(K, D, FOLDS, largest=largest)
    empty.add(context[:0], action[:0], reward[:0], fold[:0])
    assert (empty.fit().predict(context, fold) == 0.0).all()


def test_what_does_not_fit_together_is_not_merged():
    with pytest.raises(ValueError, match="cannot merge"):
        RidgeMoments(3, 2, 4).merge(RidgeMoments(3, 1, 4))
    with pytest.raises(ValueError, match="folds must be >= 2, got 1"):
        RidgeMoments(3, 2, 1)


def test_mrdr_s_weights_make_the_squared_error_the_variance_of_dr():
    """One context, target always action 1, pi0 = (.8, .2): n Var(DR) and E[s (r - q)**2] differ by a constant in q.

    DR's term is q_1 + w (r - q_a), w = 5 on action 1; r = 0 or 1 with mean .3 there. So its variance is
    5 (.3 - .6 q_1 + q_1**2) - (.3 - q_1)**2, and s = .8 / .04 = 20 on the fifth of the rows with action 1.
    """
    log = BanditLog(None, [0, 1], [0.0, 0.0], [0.8, 0.2], 2)
    rounds = Rounds(log, np.array([0.0, 1.0]), np.array([[0.0, 1.0]] * 2))
    s = mrdr_weight(rounds)
    np.testing.assert_allclose(s, [0.0, 20.0])
    q = np.linspace(-1, 1, 9)
    variance = 5 * (0.3 - 0.6 * q + q**2) - (0.3 - q) ** 2
    squared = 0.2 * s[1] * (0.3 - 0.6 * q + q**2)
    assert np.ptp(variance - squared) == pytest.approx(0.0, abs=1e-12)
    twice = Rounds(log.with_columns(count=[1.0, 2.0]), rounds.target_action, rounds.target)
    np.testing.assert_allclose(mrdr_weight(twice), [0.0, 40.0])
