"""Classification sets turned into logs, small forms of the published tables."""

import numpy as np
import pytest

from load_tests import conversions
from load_tests.conversions import DATA, conversions_table, population, selection_table, worst_ratios


@pytest.mark.parametrize("name", DATA)
def test_a_population_has_policies_and_an_exact_truth(name):
    world = population(name)
    for policy in (world.logging, world.target):
        np.testing.assert_allclose(policy.sum(axis=1), 1.0)
        assert policy.min() > 0.0
    assert world.reward.sum() == len(world.reward)
    by_loop = np.mean([sum(p * r) for p, r in zip(world.target, world.reward, strict=True)])
    assert world.truth == pytest.approx(by_loop)
    logged = (world.logging * world.reward).sum(axis=1).mean()
    assert world.truth > logged + 0.1


def test_a_log_follows_the_logging_policy_and_repeats():
    world = population("wine")
    rounds = world.rounds(20_000, 0)
    observed = np.bincount(rounds.log.action, minlength=3) / 20_000
    np.testing.assert_allclose(observed, world.logging.mean(axis=0), atol=0.015)
    assert abs(rounds.weight.mean() - 1.0) < 0.03
    np.testing.assert_array_equal(rounds.log.action, world.rounds(20_000, 0).log.action)


def test_doubly_robust_is_nearer_to_the_truth_than_ips_on_every_set():
    for row in conversions_table(repetitions=12, n=500):
        assert row["dr"] < row["ips"]
        assert row["repetitions"] == 12


def test_a_chosen_lambda_is_nearly_as_good_as_the_best_fixed_one(monkeypatch):
    """One set and seeds of its own; the whole table is `banditd bench selection`."""
    monkeypatch.setattr(conversions, "DATA", {"wine": DATA["wine"]})
    rows = selection_table(seeds=40, n=500)
    assert [row["family"] for row in rows] == list(conversions.FAMILIES)
    for row in rows:
        for method in ("slope", "mse"):
            assert row[f"{method}_x"] == pytest.approx((row[method] / row["best"]) ** 2)
    assert max(worst_ratios(rows).values()) <= 1.5
