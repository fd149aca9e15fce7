"""Every fault is caught by its name, and its sound twin passes."""

from __future__ import annotations

import numpy as np
import pytest

from offline_eval.dataset import BanditLog
from offline_eval.diagnostics import Level, Thresholds, verdict
from offline_eval.diagnostics.finding import Finding
from offline_eval.result import Estimate, Report
from offline_eval.rounds import Rounds
from tests.offline_eval.diagnosis_logs import diagnose, findings, refused, world


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_sound_log_passes_every_check(seed, known):
    assert all(one.level < Level.WARN for one in findings(world(seed).rounds(known)).values())


def test_a_count_that_cannot_be_off_is_told_as_z_0():
    """Of a uniform log every row takes one of the same size of probability."""
    n, k = 120, 60
    logging = np.full((n, k), 1 / k)
    log = BanditLog(None, np.arange(n) % k, np.ones(n), np.full(n, 1 / k), k, logging=logging)
    told = findings(Rounds(log, np.full(n, 1 / k), logging))["propensities, reliability"].detail
    assert "were taken 120 times where 120 were expected, z 0 " in told


@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_scaled_propensities_are_refused(factor):
    sound = world(3, n=20_000, sharpness=0.4)
    scaled = sound.with_(propensity=np.minimum(sound.propensity * factor, 1.0))
    assert refused(scaled.rounds()) >= {"mean weight", "propensities", "a/a"}
    assert refused(scaled.rounds(known=False)) >= {"mean weight", "propensities, actions"}
    assert refused(sound.rounds()) | refused(sound.rounds(known=False)) == set()


def test_shuffled_propensities_are_refused():
    sound = world(4)
    shuffled = sound.with_(propensity=np.random.default_rng(0).permutation(sound.propensity))
    assert "propensities" in refused(shuffled.rounds())
    assert "propensities, actions" in refused(shuffled.rounds(known=False))


def test_shuffled_propensities_are_refused_where_actions_are_alike_on_average():
    """Counts per action are right: only the halves of the context tell."""
    rng = np.random.default_rng(7)
    context = rng.normal(size=(8000, 1))
    up = 1.0 / (1.0 + np.exp(-2.0 * context[:, 0]))
    action = (rng.random(8000) < up).astype(int)
    right = np.where(action == 1, up, 1.0 - up)

    def rounds(propensity):
        log = BanditLog(context, action, np.zeros(8000), propensity, 2)
        return Rounds(log, np.full(8000, 0.5), np.full((8000, 2), 0.5))

    assert refused(rounds(right)) == set()
    made = findings(rounds(rng.permutation(right)))["propensities, actions"]
    assert made.level is Level.REFUSE
    assert "context[0]" in made.detail


def test_rows_of_the_distribution_out_of_step_are_refused():
    sound = world(5)
    rows = np.random.default_rng(0).permutation(len(sound.action))
    logging = sound.logging[rows]
    moved = sound.with_(logging=logging, propensity=logging[np.arange(len(rows)), sound.action])
    assert "propensities, reliability" in refused(moved.rounds())


@pytest.mark.parametrize("seed", range(3))
def test_a_softmax_of_the_scores_of_an_argmax_is_refused(seed):
    sound = world(seed)
    action = sound.logging.argmax(axis=1)
    faulty = sound.with_(action=action, propensity=sound.logging[np.arange(len(action)), action])
    assert refused(faulty.rounds()) >= {"propensities, reliability", "mean weight"}
    assert refused(faulty.rounds(known=False)) >= {"propensities, actions"}


def test_one_weight_carrying_half_of_the_sum_is_refused():
    sound = world(6)
    target = np.zeros(len(sound.action))
    target[:500] = sound.propensity[:500]
    one = sound.rounds(known=False)
    assert findings(Rounds(one.log, target))["largest weight"].level is Level.OK
    target[0] *= 499
    made = findings(Rounds(one.log, target))["largest weight"]
    assert made.level is Level.REFUSE
    assert "50.00% of the sum" in made.detail
    assert refused(Rounds(one.log, target)) >= {"largest weight", "effective sample size"}


@pytest.mark.parametrize("known", [True, False])
def test_actions_that_the_logging_policy_never_takes_are_named(known):
    rng = np.random.default_rng(8)
    action = rng.integers(0, 3, 2000)
    logging = np.tile([1 / 3, 1 / 3, 1 / 3, 0.0, 0.0], (2000, 1))
    target = np.tile([0.3, 0.3, 0.2, 0.05, 0.15], (2000, 1))
    log = BanditLog(None, action, rng.random(2000), np.full(2000, 1 / 3), 5, logging=logging if known else None)
    diagnosis = diagnose(Rounds(log, target[np.arange(2000), action], target))
    made = {one.name: one for one in diagnosis.findings(Thresholds(), name="item {}".format)}["unsupported actions"]
    assert made.level is Level.REFUSE
    assert "20.00% of its mass" in made.detail
    assert "item 4 (15.00%), item 3 (5.00%)," in made.detail
    assert diagnosis.numbers()["unsupported_mass"] == pytest.approx(0.2)
    supported = np.tile([0.3, 0.3, 0.4, 0.0, 0.0], (2000, 1))
    assert refused(Rounds(log, supported[np.arange(2000), action], supported)) == set()


def test_target_mass_on_actions_that_were_not_allowed_is_unsupported():
    """Action 0 is barred in half of the rounds, in which the target takes it with probability 1/2: mass 1/4."""
    action = np.concatenate([np.random.default_rng(0).integers(0, 2, 1000), np.ones(1000, int)])
    allowed = np.ones((2000, 2), bool)
    allowed[1000:, 0] = False
    log = BanditLog(None, action, np.ones(2000), np.repeat([0.5, 1.0], 1000), 2, allowed=allowed)
    rounds = Rounds(log, np.full(2000, 0.5), np.full((2000, 2), 0.5))
    assert diagnose(rounds).numbers()["unsupported_mass"] == pytest.approx(0.25)
    assert "unsupported actions" in refused(rounds)
    assert {"mean weight", "propensities, actions"}.isdisjoint(refused(rounds))
    assert findings(rounds)["mean weight"].detail == "0.7500, with 25.00% of the target unsupported"


def test_a_little_unsupported_mass_is_a_reservation():
    log = BanditLog(None, np.zeros(500, int), np.ones(500), np.ones(500), 2)
    made = findings(Rounds(log, np.full(500, 0.995), np.tile([0.995, 0.005], (500, 1))))
    assert made["unsupported actions"].level is Level.WARN


def test_a_target_that_takes_no_logged_action_is_refused():
    log = BanditLog(None, np.zeros(500, int), np.ones(500), np.full(500, 0.5), 2)
    made = findings(Rounds(log, np.zeros(500)))["effective sample size"]
    assert made.level is Level.REFUSE
    assert "it is 0" in made.detail


def test_a_short_log_is_refused_as_such():
    made = findings(world(0, n=99).rounds())["effective sample size"]
    assert made.level is Level.REFUSE
    assert "only 99 rounds" in made.detail
    assert findings(world(0, n=99).rounds(), Thresholds(min_ess=10.0))["effective sample size"].level is Level.OK


def test_the_first_row_whose_propensity_contradicts_its_distribution_is_named():
    sound = world(9)
    propensity = sound.propensity.copy()
    propensity[[17, 40]] *= 0.9
    made = findings(sound.with_(propensity=propensity).rounds())["propensities"]
    assert made.level is Level.REFUSE
    assert "2 of 4,000 rows (first: round 17)" in made.detail


def test_per_action_tests_need_the_candidates():
    made = findings(world(1).rounds(known=False), known_candidates=False)["propensities, actions"]
    assert made.level is Level.NOTE


def test_few_rewards_are_a_reservation():
    sound = world(2)
    reward = np.zeros(len(sound.action))
    reward[:9] = 1.0
    rounds = sound.rounds()
    few = Rounds(rounds.log.with_columns(reward=reward), rounds.target_action, rounds.target)
    assert findings(few)["few rewards"].level is Level.WARN


def test_a_heavy_tail_is_a_reservation():
    """Propensities like those of a uniform variable make weights whose Pareto k is 1."""
    propensity = np.random.default_rng(3).uniform(1e-9, 1.0, 20_000)
    log = BanditLog(None, np.zeros(20_000, int), np.ones(20_000), propensity, 1)
    made = findings(Rounds(log, np.full(20_000, 0.5)), known_candidates=False)["tail of the weights"]
    assert made.level is Level.WARN


def test_rows_that_stand_for_several_count_as_several():
    """Every other row of action 0 was dropped; 1 / (1 - .5) rounds each make up for it."""
    rng = np.random.default_rng(11)
    action = rng.integers(0, 2, 8000)
    keep = (action == 1) | (rng.random(8000) < 0.5)
    count = np.where(action[keep] == 0, 2.0, 1.0)
    logging = np.full((keep.sum(), 2), 0.5)

    def rounds(counts):
        log = BanditLog(None, action[keep], np.ones(keep.sum()), logging[:, 0], 2, logging=logging, count=counts)
        return Rounds(log, np.full(keep.sum(), 0.5), logging)

    assert refused(rounds(count)) == set()
    assert refused(rounds(None)) == {"propensities, actions"}


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([Level.OK, Level.NOTE], "supported: every check that could be made of the log passed"),
        ([Level.WARN, Level.WARN], "supported, with reservations: check 0: detail (and 1 more)"),
        ([Level.WARN, Level.REFUSE], "refused: the log cannot support the question; check 1: detail (and 1 more)"),
    ],
)
def test_the_verdict_names_what_stands_first_in_the_way(levels, words):
    made = [Finding(f"check {i}", level, "detail") for i, level in enumerate(levels)]
    report = Report(1, Estimate("logged", 0.0, (0.0, 0.0), "normal", 0.0), {}, {}, made)
    assert verdict(report) == words
