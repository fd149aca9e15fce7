"""Laws of the diagnosis: merge = whole, few false alarms; and known answers of its statistics."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import stats

from bandits.kernels import audit
from offline_eval.diagnostics import Diagnosis, Level, Thresholds, middles
from offline_eval.diagnostics.significance import count_is_expected, mean_is_one
from offline_eval.diagnostics.tail import MAX_KEPT, Tail, pareto_shape
from offline_eval.formats.chunk import Ids
from offline_eval.rounds import Rounds
from tests.offline_eval.diagnosis_logs import diagnose, hours, world

LIMITS = Thresholds()
PROPENSITIES = {"mean weight", "propensities", "propensities, actions", "propensities, reliability", "a/a"}


@pytest.mark.parametrize("known", [True, False])
def test_sound_logs_raise_no_false_alarm(known):
    """300 logs: uniform, skewed, heavy-tailed. No refusal; at most 3 % warned of."""
    warned = 0
    for seed in range(300):
        n_actions = (2, 5, 10)[seed % 3]
        made = diagnose(world(seed, 500 + 5 * seed, n_actions, (0.0, 0.7, 2.5)[seed // 100]).rounds(known))
        levels = [one.level for one in made.findings(LIMITS) if one.name in PROPENSITIES]
        assert max(levels) < Level.REFUSE, f"seed {seed}"
        warned += max(levels) == Level.WARN
    assert warned <= 9


def some(rounds: Rounds, rows: slice) -> Rounds:
    return Rounds(rounds.log.rows(rows), rounds.target_action[rows], rounds.target[rows])


def rounds_of_every_kind() -> Rounds:
    """Counted rows, half of them without their whole distribution, propensities scaled so that findings differ."""
    sound = world(12)
    logging = sound.logging.copy()
    logging[1::2] = np.nan
    rounds = sound.with_(propensity=sound.propensity * 0.9).rounds()
    count = np.random.default_rng(2).uniform(1.0, 3.0, len(rounds))
    columns = {name: getattr(rounds.log, name) for name in rounds.log.__dataclass_fields__}
    log = type(rounds.log).unchecked(**{**columns, "logging": logging, "count": count})
    return Rounds(log, rounds.target_action, rounds.target)


@pytest.mark.parametrize("cuts", [(0, 1000), (1, 2, 3999), (2000, 2000, 2500)])
def test_merging_parts_equals_the_whole(cuts):
    rounds = rounds_of_every_kind()
    middle = middles(rounds.log.context)
    whole = Diagnosis(5, middle=middle)
    whole.add(rounds, hours(4000))
    merged = Diagnosis(5, middle=middle)
    ends = [0, *cuts, 4000]
    for start, stop in zip(ends[:-1], ends[1:], strict=True):
        part = Diagnosis(5, middle=middle)
        part.add(some(rounds, slice(start, stop)), hours(stop - start, start))
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.numbers() == pytest.approx(whole.numbers(), rel=1e-9, abs=1e-12)
    assert merged.findings(LIMITS) == whole.findings(LIMITS)


def test_categories_may_come_in_any_order():
    rounds = world(13).rounds(known=False)
    codes = np.arange(4000) % 3
    one, other = Diagnosis(5), Diagnosis(5)
    one.add(rounds, {"mode": Ids(codes, ("a", "b", "c"))})
    back = Diagnosis(5)
    one_half, other_half = some(rounds, slice(0, 2000)), some(rounds, slice(2000, 4000))
    back.add(one_half, {"mode": Ids(2 - codes[:2000], ("c", "b", "a"))})
    other.add(other_half, {"mode": Ids(codes[2000:], ("a", "b", "c"))})
    other.merge(back)
    assert [f.detail for f in other.findings(LIMITS)] == [f.detail for f in one.findings(LIMITS)]


def test_size_does_not_grow_with_the_log():
    small, large = (len(pickle.dumps(diagnose(world(1, n).rounds()))) for n in (40_000, 80_000))
    assert large <= small + 64


def sums_of(values: np.ndarray) -> np.ndarray:
    n = float(len(values))
    return np.array([n, n, n, values.sum(), values.sum(), values @ values])


def test_a_mean_above_one_by_hand():
    """8 values 1.5, 8 values .9: excess 3.2 - 1 (at 0), variance 16 * .09 + 1 = 2.44: 4.84 / 2.44 on F(1, 16)."""
    values = np.array([1.5] * 8 + [0.9] * 8)
    assert mean_is_one(sums_of(values), 5.0) == pytest.approx(stats.f.sf(4.84 / 2.44, 1, 16))


def test_a_tail_that_was_not_seen_explains_a_mean_below_one():
    """A weight of 1,000 once in 1,000 rounds: seeing none of it in 5,000 has a chance of e^-5."""
    assert np.exp(-5) < mean_is_one(sums_of(np.zeros(5000)), 1000.0) < 5 * np.exp(-5)
    assert mean_is_one(sums_of(np.zeros(5000)), 10.0) < 1e-50


@pytest.mark.parametrize("size", [1.0, 4.0])
def test_a_rare_excess_has_the_tail_of_poisson(size):
    """12 events where 3 were expected, each counting `size`."""
    p = count_is_expected(*(np.array([size * 12.0]), np.array([size * 3.0]), np.array([size**2 * 3.0])), size)
    assert p == pytest.approx(2 * stats.poisson.sf(11, 3.0))


def test_a_rare_lack_has_the_tail_of_poisson():
    p = count_is_expected(np.array([0.0]), np.array([9.0]), np.array([8.9]), 1.0)
    assert p == pytest.approx(2 * np.exp(-9.0))


@pytest.mark.parametrize("probability", [0.001, 0.2, 0.9])
def test_counts_are_called_unlikely_no_more_often_than_they_are(probability):
    """Exact: over every count of 2,000 events, the chance of p <= t is at most t."""
    counts = np.arange(2001.0)
    mean = 2000.0 * probability
    p = count_is_expected(counts, np.full(2001, mean), np.full(2001, mean * (1.0 - probability)), 1.0)
    chance = stats.binom.pmf(counts, 2000, probability)
    for level in (0.01, 1e-4, 1e-6):
        assert chance[p <= level].sum() <= level


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.9])
def test_the_shape_of_a_pareto_tail_is_recovered(k):
    values = stats.genpareto.rvs(k, size=5000, random_state=1)
    assert pareto_shape(values) == pytest.approx(k, abs=0.06)


def test_a_tail_keeps_the_largest_and_has_no_shape_where_all_are_equal():
    weight = np.random.default_rng(0).pareto(2.0, 100_000)
    whole, split = Tail(), Tail()
    whole.add(weight)
    for part in np.array_split(weight, 7):
        split.add(part)
    assert np.array_equal(np.sort(whole.kept), np.sort(weight)[-MAX_KEPT:])
    assert np.array_equal(np.sort(split.kept), np.sort(whole.kept))
    assert whole.k == pytest.approx(0.5, abs=0.1)
    equal = Tail()
    equal.add(np.ones(1000))
    assert equal.k == 0.0


def test_the_compiled_kernel_equals_its_source():
    one = world(14, n=300)
    arguments = (one.logging, one.logging.view(np.int64), one.action, np.full(300, 1.5), one.target)
    compiled, source = ([np.zeros((5, 3)), np.zeros(5), np.zeros((audit.N_BINS, 3))] for _ in range(2))
    audit.add_pairs(*arguments, *compiled)
    audit.add_pairs.py_func(*arguments, *source)
    for left, right in zip(compiled, source, strict=True):
        assert left == pytest.approx(right, rel=1e-12)
    assert compiled[0][:, 1] == pytest.approx(1.5 * one.logging.sum(axis=0))
    assert compiled[0][:, 2] == pytest.approx(2.25 * (one.logging * (1 - one.logging)).sum(axis=0))
    assert compiled[2].sum(axis=0)[:2] == pytest.approx([450.0, 450.0])
