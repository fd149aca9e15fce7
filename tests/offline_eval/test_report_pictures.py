"""What plots are drawn from: known answers, and merge = union."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_eval.dataset import BanditLog
from offline_eval.formats.chunk import Ids
from offline_eval.report.bins import Bins, WideningBins
from offline_eval.report.pictures import MISSING, MOST_CATEGORIES, MOST_SHOWN, Pictures, Segment
from offline_eval.rounds import Rounds

N, K = 600, 4
NUMBERS = st.floats(-1e12, 1e12).map(lambda x: 0.0 if abs(x) < 1e-50 else x)


def rounds_of(seed: int, n: int = N) -> tuple[Rounds, dict[str, Ids]]:
    generator = np.random.default_rng(seed)
    logging = generator.dirichlet(np.ones(K), n)
    target = generator.dirichlet(np.ones(K), n)
    action = generator.integers(0, K, n)
    reward = generator.normal(size=n)
    row = np.arange(n)
    log = BanditLog(None, action, reward, logging[row, action], K, logging=logging, count=generator.integers(1, 4, n))
    chosen = target[row, action] * (generator.random(n) > 0.2)
    rounds = Rounds(log, chosen, target, {"plain": 3 * generator.normal(size=(n, K))})
    return rounds, {"country": Ids(generator.integers(-1, 3, n), ["IN", "US", "DE"])}


def part(rounds: Rounds, segments: dict[str, Ids], rows: slice) -> tuple[Rounds, dict[str, Ids]]:
    models = {name: model[rows] for name, model in rounds.models.items()}
    some = Rounds(rounds.log.rows(rows), rounds.target_action[rows], rounds.target[rows], models)
    return some, {name: Ids(ids.code[rows], ids.names) for name, ids in segments.items()}


def same(first: Pictures, second: Pictures) -> None:
    assert (first.rounds, first.unknown, first.largest) == (second.rounds, second.unknown, second.largest)
    np.testing.assert_allclose(first.weights.sums, second.weights.sums, rtol=1e-12)
    np.testing.assert_allclose(first.propensities.sums, second.propensities.sums, rtol=1e-12)
    one, other = first.calibration, second.calibration
    assert (one.exponent, one.first) == (other.exponent, other.first)
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-9, atol=1e-9)
    assert set(first.segments) == set(second.segments)
    for name, segment in first.segments.items():
        assert segment.overlap() == [pytest.approx(row) for row in second.segments[name].overlap()]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(0, N), st.integers(0, N), st.booleans())
def test_pictures_of_parts_in_any_order_merge_to_those_of_the_whole(seed, first, second, backwards):
    rounds, segments = rounds_of(seed)
    whole, merged = Pictures(), Pictures()
    whole.add(rounds, segments)
    start, stop = sorted((first, second))
    cuts = [slice(0, start), slice(start, stop), slice(stop, N)]
    for rows in reversed(cuts) if backwards else cuts:
        shard = Pictures()
        shard.add(*part(rounds, segments, rows))
        merged.merge(pickle.loads(pickle.dumps(shard)))
    same(merged, whole)


def test_weights_fall_into_their_bins_and_zero_has_its_own():
    """Edges 0.1, 1, 10: 0 -> bin 0, 0.05 -> 1, 0.1 and 0.5 -> 2, 1 -> 3, 10 and 70 -> 4."""
    bins = Bins.empty(-1, 1, 1, 1)
    values = np.array([0.0, 0.05, 0.1, 0.5, 1.0, 10.0, 70.0])
    bins.add(values, (np.ones(7),))
    assert bins.sums[:, 0].tolist() == [1, 1, 2, 1, 2]


def test_the_overlap_of_a_category_by_hand():
    """Weights 1, 3 of "a": ess 16/10, mean 2, s.e. sqrt(1/2); a weight 0 without category."""
    log = BanditLog(None, [0, 0, 0], [0.0, 1.0, 1.0], [0.25, 0.25, 0.5], 2)
    pictures = Pictures()
    pictures.add(Rounds(log, np.array([0.25, 0.75, 0.0])), {"s": Ids(np.array([0, 0, -1]), ["a"])})
    first, second = pictures.segments["s"].overlap()
    assert first == ("a", 2, pytest.approx(1.6), 2.0, pytest.approx(np.sqrt(0.5)), 3.0)
    assert second == (MISSING, 1, 0.0, 0.0, 0.0, 0.0)


def test_beyond_fifty_categories_the_smallest_are_told_together():
    segment = Segment()
    code = np.concatenate([np.arange(60), np.arange(50)])
    segment.add(Ids(code, list(range(60))), np.ones(110), np.ones(110))
    rows = segment.overlap()
    assert len(rows) == MOST_SHOWN + 1
    assert {row.name for row in rows[:-1]} == {str(i) for i in range(50)}
    assert (rows[-1].name, rows[-1].n, rows[-1].ess) == ("other (10)", 10, pytest.approx(10.0))


def test_a_segment_of_too_many_categories_is_dropped_and_says_so():
    halves = [Segment(), Segment()]
    for i, half in enumerate(halves):
        names = [f"{i}-{j}" for j in range(MOST_CATEGORIES // 2 + 1)]
        half.add(Ids(np.arange(len(names)), names), np.ones(len(names)), np.ones(len(names)))
        assert not half.overflowed
    halves[0].merge(halves[1])
    assert halves[0].overflowed
    assert halves[0].overlap() == []
    halves[0].add(Ids(np.zeros(1, np.intp), ["x"]), np.ones(1), np.ones(1))
    assert halves[0].categories == {}


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(0, 40))
def test_widening_bins_hold_everything_in_few_bins_whatever_the_order(values, cut):
    values = np.array(values)
    bins, other = WideningBins(columns=2), WideningBins(columns=2)
    for some in (values[:cut], values[cut:]):
        bins.add(some, (np.ones(len(some)), some))
    other.add(values[::-1], (np.ones(len(values)), values[::-1]))
    assert (bins.exponent, bins.first) == (other.exponent, other.first)
    assert bins.sums[:, 0].tolist() == other.sums[:, 0].tolist()
    assert bins.sums[:, 0].sum() == len(values)
    assert len(bins.sums) <= bins.most
    counts, _ = np.histogram(values, (np.arange(len(bins.sums) + 1) + bins.first) * bins.width)
    # numpy counts what lies on the very last edge; nothing can here.
    assert counts.tolist() == bins.sums[:, 0].tolist()


def test_numbers_too_small_to_halve_count_as_zero():
    bins = WideningBins(columns=1)
    bins.add(np.array([-5e-324]), (np.ones(1),))
    bins.add(np.array([20.0]), (np.ones(1),))
    assert bins.first == 0


def test_rounds_without_the_whole_distribution_count_as_unknown():
    rounds, _ = rounds_of(1, 10)
    columns = {name: getattr(rounds.log, name) for name in ("context", "action", "reward", "propensity", "n_actions")}
    logging = rounds.log.logging.copy()
    logging[:4] = np.nan
    pictures, none = Pictures(), Pictures()
    pictures.add(Rounds(BanditLog.unchecked(**columns, logging=logging), rounds.target_action))
    none.add(Rounds(BanditLog(**columns), rounds.target_action))
    assert (pictures.unknown, none.unknown) == (4, 10)
    assert pictures.propensities.sums[:, 0].sum() == 6 * K
    assert pictures.propensities.sums[:, 1].sum() == pytest.approx(6)
    assert pictures.propensities.sums[:, 2].sum() == 6
    assert not none.propensities.sums.any()
