"""Anytime-valid lower end for the mean of non-negative numbers that arrive in stretches."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGEST_RATE = 0.5
PRIOR_MEAN = 0.5


@dataclass(slots=True)
class LowerEnd:
    """A lower confidence sequence for E[x_t | past] = mu, where x_t >= 0 and mu <= 1; x_t has no upper bound.

    Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro 2022, "Anytime-valid off-policy inference for contextual
    bandits", the predictable plug-in empirical Bernstein sequence. With a predicted mean m_t <= 1 and a rate l_t in
    [0, 1), both chosen before x_t is seen, and psi(l) = -log(1 - l) - l,

        exp(sum l_t (x_t - mu) - psi(l_t) (x_t - m_t)^2)

    is a supermartingale: exp(l y - psi(l) y^2) <= 1 + l y for y >= -1 (Fan, Grama & Liu 2015), with y = x_t - m_t, and
    (1 + l d) exp(-l d) <= 1 for d = mu - m_t. By Ville's inequality, at all times at once with probability 1 - alpha,

        mu >= (sum l_t x_t - log(1 / alpha) - sum psi(l_t) (x_t - m_t)^2) / sum l_t.

    Ours: m and l stay what they are for a stretch of rounds, so that its sums of x and x^2 are all that is needed, and
    both follow from earlier stretches only. A stretch's length must not depend on its own values.
    `largest` tunes the rate alone, the end is valid whatever it is: before anything is seen, the variance of x is taken
    to be that of a number which is `largest` half as often as mean 1 allows, with the weight of `largest` rounds.
    Otherwise rates would be chosen far too great until the first large x.

    alpha    probability that the end ever exceeds the mean
    largest  largest x to be expected
    low      running maximum of the end; -inf before the first round
    """

    alpha: float
    largest: float = 1.0
    low: float = -math.inf
    rounds: float = 0.0
    total: float = 0.0
    deviation: float = 0.0
    _rates: float = 0.0
    _weighted: float = 0.0
    _penalty: float = 0.0

    @property
    def prediction(self) -> float:
        """Predicted mean of the next stretch, at most 1."""
        return min((PRIOR_MEAN + self.total) / (1.0 + self.rounds), 1.0)

    def rate(self, n: float) -> float:
        """Of the next stretch, which has n rounds."""
        prior = max(self.largest, 1.0)
        variance = (PRIOR_MEAN * prior**2 + self.deviation) / (prior + self.rounds)
        end = self.rounds + n
        return min(math.sqrt(2.0 * math.log(1.0 / self.alpha) / (variance * end * math.log1p(end))), LARGEST_RATE)

    def add(self, n: float, total: float, squares: float) -> float:
        """Take in a stretch of n > 0 rounds with sum of x and of x^2; returns the running maximum of the end."""
        mean, rate = self.prediction, self.rate(n)
        deviation = max(squares - 2.0 * mean * total + n * mean**2, 0.0)
        self._rates += rate * n
        self._weighted += rate * total
        self._penalty += (-math.log1p(-rate) - rate) * deviation
        self.rounds += n
        self.total += total
        self.deviation += deviation
        end = (self._weighted - math.log(1.0 / self.alpha) - self._penalty) / self._rates
        self.low = max(self.low, end)
        return self.low
