import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.confidence_sequence import LARGEST_RATE, LowerEnd


def test_the_first_stretch_by_hand():
    """Prior mean .5 and variance .5; the rate is at its cap, as 2 ln 20 / (.5 * 4 ln 5) > 1/4."""
    end = LowerEnd(alpha=0.05)
    assert end.prediction == 0.5
    assert end.rate(4) == LARGEST_RATE
    low = end.add(4, 3.0, 3.0)
    deviation = 3.0 - 3.0 + 4 * 0.25
    psi = math.log(2.0) - 0.5
    assert low == pytest.approx((0.5 * 3.0 - math.log(20.0) - psi * deviation) / 2.0)


def test_prediction_and_rate_of_a_stretch_follow_from_earlier_ones_by_hand():
    """After 100 rounds, sum 30, deviation 30 - 30 + 100 / 4 = 25: mean 30.5 / 101, variance 25.5 / 101."""
    end = LowerEnd(alpha=0.05)
    end.add(100, 30.0, 30.0)
    assert end.prediction == pytest.approx(30.5 / 101)
    expected = math.sqrt(2 * math.log(20) / (25.5 / 101 * 200 * math.log(201)))
    assert end.rate(100) == pytest.approx(expected)


def test_the_prediction_never_exceeds_1_and_the_end_never_falls():
    random, end, before = np.random.default_rng(0), LowerEnd(alpha=0.05), -math.inf
    for scale in (5.0, 0.0, 1.0, 0.1, 3.0):
        x = scale * random.random(50)
        low = end.add(50, x.sum(), (x**2).sum())
        assert end.prediction <= 1.0
        assert low >= before
        before = low


@given(st.lists(st.lists(st.floats(0, 9), min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_recurrence_equals_the_sum_over_single_rounds(stretches):
    """Rates and predictions of a stretch, used round by round in the formula of the paper."""
    end, top, rates, spent = LowerEnd(alpha=0.1, largest=9.0), 0.0, 0.0, 0.0
    best = -math.inf
    for stretch in stretches:
        rate, mean = end.rate(len(stretch)), end.prediction
        for x in stretch:
            top += rate * x
            spent += (-math.log(1 - rate) - rate) * (x - mean) ** 2
            rates += rate
        best = max(best, (top - math.log(10) - spent) / rates)
        low = end.add(len(stretch), sum(stretch), sum(x * x for x in stretch))
        assert low == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("largest", [1.0, 50.0, 1000.0])
def test_heavy_numbers_exceed_the_end_with_probability_alpha_at_most_whatever_tunes_it(largest):
    """x = 50 with probability .01, mean .5, 300 runs looked at 60 times each, alpha .2."""
    random, missed = np.random.default_rng(1), 0
    for _ in range(300):
        end = LowerEnd(alpha=0.2, largest=largest)
        for _ in range(60):
            hits = float(random.binomial(50, 0.01))
            end.add(50, 50.0 * hits, 2500.0 * hits)
        missed += end.low > 0.5
    assert missed / 300 <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 300)


def test_it_closes_in_on_the_mean():
    random, end = np.random.default_rng(2), LowerEnd(alpha=0.05, largest=2.0)
    for _ in range(400):
        x = 2.0 * (random.random(500) < 0.2)
        end.add(500, x.sum(), (x**2).sum())
    assert 0.385 < end.low < 0.4
