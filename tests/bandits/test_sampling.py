"""Drawn frequencies against logged propensities, and the laws that propensities obey."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import chi2

from bandits.kernels import sample, sample_top
from bandits.sampling import KINDS, Sampler

N_SLATES = 200_000
TIED = (0.3, 0.1, 0.3, 0.2, 0.2, 0.2, 0.0)
# The first score is so far ahead that the others have no weight left beside it and are weighed anew once it is drawn.
AHEAD = (0.01, 0.0, 2.0, 0.02, 0.03, -0.01)
PLAYED = {
    "plackett_luce": (Sampler("plackett_luce", temperature=0.2, epsilon=0.0), TIED),
    "plackett_luce, one far ahead": (Sampler("plackett_luce", temperature=0.02, epsilon=0.05), AHEAD),
    "plackett_luce with epsilon": (Sampler("plackett_luce", temperature=0.05, epsilon=0.2), TIED),
    "top_m_uniform, ties at the border": (Sampler("top_m_uniform", m=4, epsilon=0.0), TIED),
    "top_m_uniform with epsilon": (Sampler("top_m_uniform", m=3, epsilon=0.2), TIED),
    "top_m_uniform, m above the candidates": (Sampler("top_m_uniform", m=50), TIED),
    "greedy": (Sampler("greedy", epsilon=0.5), TIED),
    "uniform": (Sampler("uniform"), TIED),
}

scores = st.lists(
    st.sampled_from([-1e30, -2.0, 0.0, 0.01, 0.02, 0.5, 3.0, 1e30]) | st.floats(-1, 1, width=32), min_size=1
)
samplers = st.builds(
    Sampler,
    st.sampled_from(KINDS),
    temperature=st.sampled_from([1e-9, 0.02, 1.0, 1e6]),
    m=st.sampled_from([1, 2, 5, 1000]),
    epsilon=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
)


@cache
def played(case: str) -> tuple[np.ndarray, np.ndarray]:
    sampler, score = PLAYED[case]
    uniform = np.random.default_rng(11).random((N_SLATES, 3, 2))
    score = np.array(score, np.float32)
    slates = [sampler.draw(score, 3, u) for u in uniform]
    return np.array([index for index, _ in slates]), np.array([propensity for _, propensity in slates])


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("case", PLAYED)
def test_frequencies_match_logged_propensities(case, position):
    """Chi-square within each history of earlier draws; where only one outcome is possible it must be the one drawn."""
    sampler, score = PLAYED[case]
    index, propensity = played(case)
    histories = defaultdict(list)
    for row, earlier in enumerate(map(tuple, index[:, :position].tolist())):
        histories[earlier].append(row)
    statistic, freedom = 0.0, 0
    for earlier, rows in histories.items():
        law = sampler.position(np.array(score, np.float32), earlier)
        np.testing.assert_array_equal(propensity[rows, position], law[index[rows, position]])
        observed, expected = np.bincount(index[rows, position], minlength=len(score)), law * len(rows)
        rare = expected < 5
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        assert observed[expected == 0].sum() == 0
        if expected[-1] < 5:
            observed, expected = observed[:-1], expected[:-1]
        if len(expected) > 1:
            statistic += ((observed - expected) ** 2 / expected).sum()
            freedom += len(expected) - 1
    assert (freedom == 0) == (case == "greedy")
    assert freedom == 0 or chi2.sf(statistic, freedom) > 0.001


@pytest.mark.parametrize("earlier", [0, 1, 40])
@pytest.mark.parametrize("kind", ["plackett_luce", "top_m_uniform", "uniform"])
def test_a_sweep_of_the_picking_number_gives_each_candidate_its_share(kind, earlier):
    """300 candidates, several blocks: of 20,000 evenly spaced numbers each candidate gets its share within 1."""
    score = np.random.default_rng(12).integers(0, 40, 300).astype(np.float32) / 100
    sampler = Sampler(kind, temperature=0.1, m=37, epsilon=0.0)
    n_steps = 20_000
    uniform = np.random.default_rng(13).random((earlier + 1, 2))
    picks = []
    for u in (np.arange(n_steps) + 0.5) / n_steps:
        uniform[-1] = 0.5, u
        picks.append(sampler.draw(score, earlier + 1, uniform)[0])
    law = sampler.position(score, picks[0][:-1])
    share = np.bincount([index[-1] for index in picks], minlength=300)
    assert np.abs(share - law * n_steps).max() <= 1 + 1e-6


@settings(max_examples=300, deadline=None)
@given(samplers, scores, st.integers(0, 12), st.integers(0, 2**32))
def test_every_position_is_a_distribution_and_what_draw_records(sampler, score, n, seed):
    score = np.array(score, np.float32)
    index, propensity = sampler.draw(score, n, np.random.default_rng(seed).random((n, 2)))
    assert len(index) == len(propensity) == min(n, len(score))
    assert len(set(index.tolist())) == len(index)
    for position in range(len(index)):
        law = sampler.position(score, index[:position])
        assert law.sum() == pytest.approx(1.0, abs=1e-12)
        assert law.min() >= 0.0
        assert not law[index[:position]].any()
        assert propensity[position] == law[index[position]] > 0.0
        if sampler.kind in ("plackett_luce", "top_m_uniform"):
            floor = sampler.epsilon / (len(score) - position)
            assert np.delete(law, index[:position]).min() >= floor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("size", [1, 64, 65, 130])
def test_extreme_random_numbers_draw_every_candidate_once(kind, u, size):
    score = np.random.default_rng(14).random(size, np.float32)
    for coin in (0.0, 0.5):
        uniform = np.tile([coin, u], (size, 1))
        index, propensity = Sampler(kind, m=3, temperature=0.001).draw(score, size + 5, uniform)
        assert sorted(index.tolist()) == list(range(size))
        assert (propensity > 0).all()
        assert propensity[-1] == pytest.approx(1.0, abs=1e-15)


def test_plackett_luce_by_hand():
    """Weights 1, 2, 3 and epsilon 0.1: 0.9/6+0.1/3, ..; after the last one 0.9/3+0.1/2 and 0.9*2/3+0.1/2.

    A coin of 0.5 means softmax: 0.4 lies in the second weight's (1/6, 1/2); of weights 1 and 3 left 0.3 falls on the 3.
    A coin of 0.05 means uniform.
    """
    score = np.log(np.array([1, 2, 3], np.float32))
    sampler = Sampler("plackett_luce", temperature=1.0, epsilon=0.1)
    np.testing.assert_allclose(sampler.first_position(score), 0.9 * np.array([1, 2, 3]) / 6 + 0.1 / 3, rtol=1e-6)
    np.testing.assert_allclose(sampler.position(score, [2]), [0.35, 0.65, 0], rtol=1e-6)
    index, propensity = sampler.draw(score, 3, np.array([[0.5, 0.4], [0.5, 0.3], [0.5, 0.9]]))
    assert index.tolist() == [1, 2, 0]
    np.testing.assert_allclose(propensity, [0.3 + 0.1 / 3, 0.9 * 0.75 + 0.05, 1.0], rtol=1e-6)
    index, propensity = sampler.draw(score, 2, np.array([[0.05, 0.0], [0.05, 0.99]]))
    assert index.tolist() == [0, 2]
    np.testing.assert_allclose(propensity, [0.15 + 0.1 / 3, 0.9 * 0.6 + 0.05], rtol=1e-6)


def test_top_m_uniform_by_hand():
    """m=2 of 5, 4, 4, 4, 1: the 5 has 1/2, each 4 has 1/(3*2). With a 4 gone 1/2 and 1/4; with the 5 gone 1/3 each.

    0.7 * 2 passes the seat of the 5 and lies 0.4 into the next: the second of three ties; then 0.6, the second of two.
    """
    score = np.array([4, 5, 4, 1, 4], np.float32)
    sampler = Sampler("top_m_uniform", m=2, epsilon=0.0)
    np.testing.assert_allclose(sampler.first_position(score), [1 / 6, 1 / 2, 1 / 6, 0, 1 / 6])
    np.testing.assert_allclose(sampler.position(score, [2]), [1 / 4, 1 / 2, 0, 0, 1 / 4])
    np.testing.assert_allclose(sampler.position(score, [1]), [1 / 3, 0, 1 / 3, 0, 1 / 3])
    index, propensity = sampler.draw(score, 2, np.array([[0.9, 0.7], [0.9, 0.8]]))
    assert index.tolist() == [2, 4]
    np.testing.assert_allclose(propensity, [1 / 6, 1 / 4])


def test_greedy_takes_the_lowest_index_of_a_tie_with_probability_one():
    index, propensity = Sampler("greedy", epsilon=0.3).draw(np.array([1, 3, 2, 3], np.float32), 3, np.zeros((3, 2)))
    assert index.tolist() == [1, 3, 2]
    assert propensity.tolist() == [1.0, 1.0, 1.0]


def test_what_is_left_behind_a_runaway_score_is_still_drawn_by_softmax():
    """At temperature 0.02 a lead of 99 leaves the others e**-4950 of the weight, which no float holds."""
    score = np.array([0.99, 100.0, 1.0, 0.95], np.float32)
    sampler = Sampler("plackett_luce", temperature=0.02, epsilon=0.0)
    np.testing.assert_allclose(sampler.first_position(score), [0, 1, 0, 0])
    np.testing.assert_allclose(sampler.position(score, [1])[[0, 2, 3]], softmax(score[[0, 2, 3]] / 0.02), rtol=1e-4)


def test_many_candidates_and_the_longest_slate():
    score = np.random.default_rng(15).normal(size=100_000).astype(np.float32)
    sampler = Sampler("plackett_luce", temperature=0.3, epsilon=0.0)
    index, propensity = sampler.draw(score, 100, np.random.default_rng(16).random((100, 2)))
    left = np.exp(score.astype(np.float64) / 0.3)
    for i, p in zip(index, propensity, strict=True):
        assert p == pytest.approx(left[i] / left.sum(), rel=1e-4)
        left[i] = 0.0


def test_no_candidates_give_an_empty_slate():
    for kind in KINDS:
        index, propensity = Sampler(kind).draw(np.empty(0, np.float32), 10, np.empty((10, 2)))
        assert len(index) == len(propensity) == 0
        assert len(Sampler(kind).first_position(np.empty(0, np.float32))) == 0


def test_short_exponential_is_within_one_millionth():
    z = np.linspace(-87, 0, 300_001, dtype=np.float32)[1:]
    short = np.array([sample.exp32(x) for x in z])
    assert np.abs(short / np.exp(z.astype(np.float64)) - 1).max() < 1e-6
    assert sample.exp32(np.float32(0)) == 1.0
    assert sample.exp32(np.float32(-87)) == sample.exp32(np.float32(-np.inf)) == 0.0


def test_compiled_exponential_equals_interpreted():
    for x in np.linspace(-90, 0, 500, dtype=np.float32):
        assert sample.exp32(x) == sample.exp32.py_func(x)


def draw_arguments(kernel):
    """Fresh scratch and results for a draw of 6 from 150 candidates in three blocks."""
    score = np.random.default_rng(17).integers(0, 30, 150).astype(np.float32) / 10
    uniform = np.random.default_rng(18).random((6, 2))
    member, taken = np.empty(150, np.int64), np.empty(6, np.int64)
    result = np.empty(6, np.int64), np.empty(6)
    weight, block = np.empty(150, np.float32), np.empty(3)
    return {
        "draw_plackett_luce": (score, 5.0, 0.3, uniform, weight, block, taken, *result),
        "draw_top_m": (score, 4, 0.3, uniform, member, taken, *result),
        "draw_greedy": (score, member, *result),
        "draw_uniform": (150, uniform, taken, *result),
    }[kernel.py_func.__name__], result


@pytest.mark.parametrize(
    "kernel", [sample.draw_plackett_luce, sample_top.draw_top_m, sample_top.draw_greedy, sample.draw_uniform]
)
def test_compiled_draws_equal_interpreted(kernel):
    arguments, (index, propensity) = draw_arguments(kernel)
    kernel(*arguments)
    arguments, (expected_index, expected_propensity) = draw_arguments(kernel)
    kernel.py_func(*arguments)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_allclose(propensity, expected_propensity, rtol=1e-12)


def test_compiled_parts_equal_interpreted():
    rng = np.random.default_rng(19)
    score = rng.integers(-20, 20, 100).astype(np.float32)
    taken = np.array([3, 40, 99])
    compiled, interpreted = ((np.empty(100, np.float32), np.empty(2)) for _ in range(2))
    sample.weigh(score, 0.5, taken, 3, *compiled)
    sample.weigh.py_func(score, 0.5, taken, 3, *interpreted)
    np.testing.assert_array_equal(compiled[0], interpreted[0])
    np.testing.assert_allclose(compiled[1], interpreted[1], rtol=1e-14)
    total = compiled[1].sum()
    for u in rng.random(50):
        assert sample.pick(u, total, *compiled) == sample.pick.py_func(u, total, *compiled)
    lowest = np.int32(-(2**31))
    assert sample.largest(score, 0, 100, lowest) == sample.largest.py_func(score, 0, 100, lowest)
    for r in (1, 5, 100):
        member, expected = np.empty((2, 100), np.int64)
        n = sample_top.best(score, r, member)
        assert n == sample_top.best.py_func(score, r, expected)
        assert member[:n].tolist() == expected[:n].tolist() == np.argsort(-score, kind="stable")[:n].tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["plackett_luce", "top_m_uniform", "greedy"])
def test_a_score_that_is_not_finite_is_refused(kind, bad):
    score = np.array([0.0, 1.0, bad], np.float32)
    with pytest.raises(ValueError, match="scores must be finite, got -?(nan|inf) at candidate 2"):
        Sampler(kind).draw(score, 1, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="at candidate 2"):
        Sampler(kind).first_position(score)


def test_refusals_name_the_value():
    score = np.zeros(3, np.float32)
    for arguments, message in (
        ({"kind": "softmax"}, "kind must be one of plackett_luce, top_m_uniform, greedy, uniform, got 'softmax'"),
        ({"temperature": 0.0}, "temperature must be a finite number >= 1e-09, got 0.0"),
        ({"temperature": np.nan}, "temperature must be"),
        ({"m": 0}, "m must be >= 1, got 0"),
        ({"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampler(**arguments)
    with pytest.raises(ValueError, match=r"got n = 2 and \(1, 2\)"):
        Sampler().draw(score, 2, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="got n = -1"):
        Sampler().draw(score, -1, np.zeros((1, 2)))
    for taken in ([1, 1], [3], [-1]):
        with pytest.raises(ValueError, match=r"taken must be different indices in \[0, 3\)"):
            Sampler().position(score, taken)
