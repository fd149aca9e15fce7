"""Folds, scikit-learn models, balanced weights and p(a|x, e): nothing is fitted and predicted on the same row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from offline_eval.dataset import BanditLog
from offline_eval.errors import BadLog
from offline_eval.reward_models import balanced
from offline_eval.reward_models.balanced import balanced_weights, draw
from offline_eval.reward_models.crossfit import cross_fit
from offline_eval.reward_models.embedding import action_of_embedding
from offline_eval.reward_models.folds import assign_folds
from tests.offline_eval.estimator_cases import random_rounds


class Spy(RegressorMixin, BaseEstimator):
    """Refuses to predict a row that it was fitted on; the first column is the row's number."""

    def fit(self, context, reward, sample_weight=None):
        self.seen_, self.mean_ = set(context[:, 0]), np.average(reward, weights=sample_weight)
        return self

    def predict(self, context):
        assert not self.seen_ & set(context[:, 0])
        return np.full(len(context), self.mean_)


class SpyClassifier(ClassifierMixin, Spy):
    def fit(self, context, label, sample_weight=None):
        self.classes_ = np.unique(label)
        return super().fit(context, label)

    def predict_proba(self, context):
        self.predict(context)
        return np.full((len(context), len(self.classes_)), 1 / len(self.classes_))


def numbered(n=60, k=3, seed=0, **columns):
    random = np.random.default_rng(seed)
    context = np.stack([np.arange(n), random.normal(size=n)], axis=1)
    action = random.integers(k, size=n)
    return BanditLog(context, action, random.integers(2, size=n) * 1.0, np.full(n, 1 / k), k, **columns)


@given(n=st.integers(0, 50), folds=st.integers(2, 6), seed=st.integers(0, 100))
def test_folds_are_equally_large_and_repeat(n, folds, seed):
    fold = assign_folds(n, folds, seed)
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    np.testing.assert_array_equal(fold, assign_folds(n, folds, seed))


@pytest.mark.parametrize("kind", [object, str, int])
def test_the_rows_of_a_user_share_a_fold(kind):
    user = np.array([i % 13 for i in range(200)]).astype(kind)
    fold = assign_folds(200, 5, 0, user)
    assert all(len(set(fold[user == one])) == 1 for one in set(user))
    assert set(fold) == set(range(5))


def test_rows_of_unknown_users_do_not_share_a_fold():
    fold = assign_folds(200, 5, 0, np.array([None] * 200, object))
    assert np.ptp(np.bincount(fold)) == 0


@pytest.mark.parametrize("model", [Spy(), SpyClassifier()])
@pytest.mark.parametrize("user", [None, np.array([i % 7 for i in range(60)])])
def test_no_row_is_predicted_by_a_model_that_was_fitted_on_it(model, user):
    assert cross_fit(model, numbered(user=user), folds=4).shape == (60, 3)


def test_nor_is_any_other_row_of_its_user():
    user = np.array([i % 7 for i in range(60)])
    log = numbered()
    log = log.with_columns(context=np.stack([user, user], axis=1).astype(float))
    cross_fit(Spy(), log, folds=4, cluster=user)
    with pytest.raises(AssertionError):
        cross_fit(Spy(), log, folds=4)


def test_predictions_are_those_of_a_clone_per_action_and_fold():
    log = numbered(seed=1)
    fold = assign_folds(60, 3, 5)
    predicted = cross_fit(LinearRegression(), log, folds=3, seed=5)
    for one in range(3):
        for action in range(3):
            its = (fold != one) & (log.action == action)
            model = LinearRegression().fit(log.context[its], log.reward[its])
            np.testing.assert_allclose(predicted[fold == one, action], model.predict(log.context[fold == one]))


def test_an_action_not_seen_in_training_gets_the_training_mean():
    log = numbered(k=3)
    log = BanditLog(log.context, log.action, log.reward, log.propensity, 4)
    fold = assign_folds(60, 3, 0)
    predicted = cross_fit(LinearRegression(), log, folds=3)
    means = np.array([log.reward[fold != one].mean() for one in fold])
    np.testing.assert_allclose(predicted[:, 3], means)


def test_a_classifier_predicts_the_probability_of_reward_1():
    log = numbered(n=300, seed=2)
    predicted = cross_fit(LogisticRegression(), log.with_columns(context=log.context[:, 1:]))
    assert ((predicted > 0) & (predicted < 1)).all()
    assert abs(predicted.mean() - log.reward.mean()) < 0.05
    with pytest.raises(BadLog, match="reward: got 0.5, must be 0 or 1 for a classifier"):
        cross_fit(LogisticRegression(), log.with_columns(reward=np.full(300, 0.5)))


def test_an_action_that_was_always_rewarded_needs_no_classifier():
    log = numbered(seed=3)
    log = log.with_columns(reward=(log.action == 1) * 1.0)
    np.testing.assert_allclose(cross_fit(LogisticRegression(), log), np.tile([0.0, 1.0, 0.0], (60, 1)))


def test_a_model_without_sample_weight_says_so_where_one_is_needed():
    log = numbered(count=np.full(60, 2.0))
    with pytest.raises(ValueError, match="KNeighborsRegressor takes no sample_weight"):
        cross_fit(KNeighborsRegressor(), log)


def test_without_a_context_every_action_gets_its_own_mean_elsewhere():
    log = numbered(seed=4).with_columns(context=None)
    fold = assign_folds(60, 5, 0)
    predicted = cross_fit(LinearRegression(), log)
    assert predicted[0, 1] == pytest.approx(log.reward[(fold != fold[0]) & (log.action == 1)].mean())


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_balanced_weights_come_near_the_ratio_of_the_policies():
    random = np.random.default_rng(0)
    context = random.normal(size=(20_000, 2))
    logging = softmax(context @ random.normal(size=(2, 3)) * 0.5)
    target = softmax(context @ random.normal(size=(2, 3)) * 0.5)
    action = draw(logging, random)
    each = np.arange(20_000)
    log = BanditLog(context, action, np.zeros(20_000), logging[each, action], 3)
    truth = (target / logging)[each, action]
    weight = balanced_weights(log, target)
    assert np.sqrt(np.mean((weight - truth) ** 2)) < 0.3 * np.std(truth)
    assert abs(weight.mean() - 1.0) < 0.02


def test_balanced_weights_are_learned_without_the_row():
    log = numbered()
    target = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    assert (balanced_weights(log, target, SpyClassifier(), folds=4) == 1.0).all()


def test_without_a_context_balanced_weights_are_ratios_of_counts():
    log = BanditLog(None, np.arange(100) % 2, np.zeros(100), np.full(100, 0.5), 2)
    weight = balanced_weights(log, np.tile([1.0, 0.0], (100, 1)))
    assert (weight[1::2] == 0.0).all()
    assert weight[::2].mean() == pytest.approx(2.0, rel=0.05)


def test_balanced_weights_have_a_bound_on_memory(monkeypatch):
    monkeypatch.setattr(balanced, "LARGEST", 1_000)
    with pytest.raises(ValueError, match="bipw: 2,400 bytes of context and target, at most 1,000"):
        balanced_weights(numbered(), np.full((60, 3), 1 / 3))


def test_draws_follow_their_probabilities():
    p = np.tile([0.2, 0.0, 0.5, 0.3], (20_000, 1))
    counts = np.bincount(draw(p, np.random.default_rng(0)), minlength=4)
    np.testing.assert_allclose(counts / 20_000, p[0], atol=0.015)
    assert counts[1] == 0


def test_the_action_of_an_embedding_is_learned_without_the_row():
    log = numbered()
    embedding = np.random.default_rng(0).normal(size=(60, 2))
    probability = action_of_embedding(log.with_columns(action_embedding=embedding), SpyClassifier(), folds=4)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)


def test_an_embedding_that_names_the_action_gives_the_action():
    log = numbered(n=300)
    embedding = np.eye(3)[log.action] + np.random.default_rng(0).normal(0, 0.01, (300, 3))
    probability = action_of_embedding(log.with_columns(context=None, action_embedding=embedding))
    assert probability[np.arange(300), log.action].min() > 0.9


def test_an_embedding_per_action_needs_no_model():
    with pytest.raises(ValueError, match="must have a row per round"):
        action_of_embedding(random_rounds(np.random.default_rng(0), 10, 3).log)
