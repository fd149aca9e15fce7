"""Tree policies: exported as scikit-learn has them, and good for interactions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bandits.ad_load import dump, load
from offline_eval.learning import Options, learn
from offline_eval.learning.learn import n_fits
from offline_eval.learning.tree import _as_float64, fit_trees
from tests.offline_eval.learning_logs import random_task, two_contexts


def test_the_exported_trees_score_exactly_as_scikit_learn():
    """Also at float64 values around every threshold, which scikit-learn rounds to float32 before it compares."""
    task = random_task(0, m=3000)
    fitted = fit_trees(task, seed=1)
    exported = fitted.export()
    z = np.random.default_rng(2).normal(size=(5000, 3))
    np.testing.assert_allclose(exported.scores(z), fitted.predict(z), rtol=0, atol=1e-12)
    near = []
    for tree in fitted.trees:
        for feature, threshold in zip(tree.tree_.feature, tree.tree_.threshold, strict=True):
            for value in (threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)):
                for moved in (value, *np.float64(np.float32(value)) * (1 + np.array([-6e-8, -3e-8, 3e-8, 6e-8]))):
                    near.append(np.where(np.arange(3) == feature, moved, 0.1))
    np.testing.assert_allclose(exported.scores(np.array(near)), fitted.predict(np.array(near)), rtol=0, atol=1e-12)


def test_a_threshold_is_the_largest_number_that_rounds_below_it():
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(size=(2000, 2)).astype(np.float32).astype(np.float64), axis=1)
    threshold = ends.mean(axis=1)
    exact = _as_float64(threshold)
    assert (exact.astype(np.float32) <= threshold).all()
    assert (np.nextafter(exact, np.inf).astype(np.float32) > threshold).all()


def crossed(seed):
    """The better load hangs on whether two features have the same sign, which no linear score can say."""
    log = two_contexts(seed, n_users=3000)
    rng = np.random.default_rng(seed + 9)
    x = rng.choice([-1.0, 1.0], (len(log), 2))
    right = (x[:, 0] * x[:, 1] > 0) == (log.action == 1)
    return replace(log, features=x, names=["a", "b"], satisfaction=right + rng.normal(0, 0.5, len(log)))


def test_trees_find_an_interaction_that_linear_policies_cannot():
    """A linear score is right in three of the four corners at most."""
    linear, tree = (learn(crossed(0), Options(model=model, floor=0.0)) for model in ("linear", "tree"))
    assert tree.policy is not None
    x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    pi = tree.policy.probabilities(x)
    assert (pi[[0, 3], 1] > 0.9).all()
    assert (pi[[1, 2], 0] > 0.9).all()
    right = linear.policy.probabilities(x)[np.arange(4), [1, 0, 0, 1]]
    assert right.mean() < 0.76
    assert learn(crossed(0), Options(floor=0.0)).policy.model.trees
    np.testing.assert_array_equal(load(dump(tree.policy)).probabilities(x), pi)


def test_without_a_feature_that_varies_one_distribution_is_learned():
    """Load 0 is better on average: .8 of the users are those who like it."""
    log = two_contexts(1)
    rng = np.random.default_rng(4)
    flat = replace(
        log,
        features=np.full((len(log), 1), 3.0),
        names=["constant"],
        satisfaction=1.0 * (log.action == 0) + rng.normal(0, 0.5, len(log)),
    )
    for model in ("linear", "tree"):
        learned = learn(flat, Options(model=model, floor=0.0))
        assert learned.policy is not None
        assert learned.policy.features == ()
        assert load(dump(learned.policy)).probabilities(np.empty((1, 0)))[0, 0] > 0.9
    assert n_fits(Options()) == 1
