"""A feed with ads: users differ in how many ads they bear, and the expected rewards of every load are known exactly.

The model is ours; it has what M. Sagtani, M. Jhawar, R. Mehrotra and O. Jeunen, "Ad-load Balancing via Off-policy
Learning in a Content Marketplace", WSDM 2024, arXiv 2309.11518, name: users who differ, position in the session, two
rewards that pull against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from scipy.special import ndtr

from bandits.arrays import F64, Bool
from bandits.simulation.ad_load_sessions import Act, AdLoadLog, Sessions, play
from bandits.simulation.ad_load_traits import (
    COLUMN,
    FEATURES,
    FEW_ADS,
    FLOOR,
    LOADS,
    RANGES,
    SIGNAL,
    SIGNAL_MEAN,
    SIGNAL_SCALE,
    Traits,
)

_LOAD = np.array(LOADS, np.float64)


@dataclass(frozen=True, slots=True)
class AdLoadWorld:
    """A world of users who fetch a feed; every fetch takes one of LOADS.

    satisfaction  of a fetch, in [0, 1]: Phi(calm - crowding * load**2 + ease * load * tolerance + noise)
    revenue       of a fetch, >= 0: each ad is clicked or not, each click brings a lognormal amount

    The features show the history of a user only through noise. A user's tolerance and appetite act on the rewards and
    never on when a fetch comes or a session ends (those read the features), so that given the features they are normal
    at every fetch, whatever loads were served before: `expected` is exact.
    """

    traits: Traits
    loads: ClassVar[tuple[int, ...]] = LOADS
    feature_names: ClassVar[tuple[str, ...]] = FEATURES

    @classmethod
    def make(cls, seed: int) -> AdLoadWorld:
        """One of many worlds."""
        rng = np.random.default_rng(seed)
        drawn = {one.name: float(rng.uniform(*RANGES[one.name])) for one in fields(Traits)}
        return cls(Traits(**drawn))

    def start(self, rng: np.random.Generator, n_users: int) -> Sessions:
        """One session of each user, to be stepped through from outside. Raises ValueError for a count below 1."""
        return Sessions(self, rng, n_users)

    def sessions(self, rng: np.random.Generator, n_users: int, act: Act | None = None) -> AdLoadLog:
        """The log that `act` (None: the logging policy) leaves of one session of each user.

        Raises ValueError for a count below 1, or where what `act` gives is no distribution over the allowed loads.
        """
        return play(self, rng, n_users, self.logging if act is None else act)

    def expected(self, x: F64) -> tuple[F64, F64]:
        """The truth: expected satisfaction and revenue of every load given the features, float64 (n, L) each.

        x  float64 (n, F)  raw values of FEATURES
        """
        traits = self.traits
        mean, spread = self.belief(x)
        probit = traits.calm - self.burden(self.tolerance(x)[:, None], _LOAD)
        satisfaction = ndtr(probit / np.sqrt(1.0 + traits.spread**2 + (traits.ease * _LOAD * spread[0]) ** 2))
        clicks = ndtr(self.click_probit(x, mean[:, 1]) / np.sqrt(1.0 + (traits.slope * spread[1]) ** 2))
        price = np.exp(self.log_price(x) + traits.tail**2 / 2)
        return satisfaction, np.hstack([np.zeros((len(x), 1)), price[:, None] * clicks.cumsum(axis=1)])

    def belief(self, x: F64) -> tuple[F64, F64]:
        """Mean float64 (n, 2) and s.d. (2,) of a user's tolerance and appetite given the features."""
        prior = np.array([[1.0, self.traits.correlation], [self.traits.correlation, 1.0]])
        gain = prior @ SIGNAL.T @ np.linalg.inv(SIGNAL @ prior @ SIGNAL.T + self.traits.noise**2 * np.eye(3))
        mean: F64 = (x[:, :3] - SIGNAL_MEAN) / SIGNAL_SCALE @ gain.T
        return mean, np.sqrt(np.diag(prior - gain @ SIGNAL @ prior))

    def tolerance(self, x: F64, own: F64 | None = None) -> F64:
        """Tolerance at a fetch, float64 (n,): the user's own (None: its mean given the features) plus the moment's."""
        traits = self.traits
        own = self.belief(x)[0][:, 0] if own is None else own
        moment: F64 = (
            own
            - traits.fatigue * (1.0 - np.exp(-x[:, COLUMN["fetch_index"]] / 4)) * (1.0 + x[:, COLUMN["mobile"]])
            - traits.pressure * np.exp(-x[:, COLUMN["minutes_since_ad"]] / traits.rest)
            - traits.exposure * (np.log1p(x[:, COLUMN["ads_seen_7d"]]) - FEW_ADS)
            + traits.evening * self._evening(x)
            - traits.mobile * x[:, COLUMN["mobile"]]
            - traits.newness * x[:, COLUMN["new_user"]]
        )
        return moment

    def burden(self, tolerance: F64, load: F64) -> F64:
        """What a load takes from the probit of the satisfaction; below 0 where ads are welcome."""
        burden: F64 = self.traits.crowding * load**2 - self.traits.ease * load * tolerance
        return burden

    def click_probit(self, x: F64, appetite: F64) -> F64:
        """Probit of a click on a fetch's first, second and third ad, float64 (n, 3)."""
        base = self.traits.click + self.traits.slope * appetite + self.traits.touch * x[:, COLUMN["mobile"]]
        probit: F64 = base[:, None] - self.traits.dilution * _LOAD[:-1]
        return probit

    def log_price(self, x: F64) -> F64:
        """Mean of the logarithm of what a click brings, float64 (n,)."""
        price: F64 = self.traits.price + self.traits.premium * self._evening(x)
        return price

    def quit_probability(self, x: F64, load: F64) -> F64:
        """Probability that the session ends after a fetch with this many ads, float64 (n,); from the features only."""
        burden = np.maximum(self.burden(self.tolerance(x), load), 0.0)
        ends: F64 = ndtr(self.traits.quit + self.traits.overload * burden)
        return ends

    def logging(self, x: F64, allowed: Bool) -> F64:
        """Distribution of the logging policy, float64 (n, L): a rule of thumb, never below FLOOR for an allowed load.

        More ads for users who click them, do not hide them, or stay long; fewer right after an ad. It knows some of
        what matters, and takes a long session for patience.
        """
        aim = (
            1.3
            + 0.3 * (x[:, COLUMN["ad_affinity_7d"]] - 3.0)
            - 0.3 * (x[:, COLUMN["ad_hides_7d"]] - 2.0)
            + 0.05 * (x[:, COLUMN["fetch_index"]] - 3.0)
            - 0.4 * (x[:, COLUMN["minutes_since_ad"]] < 3.0)
        )
        near = np.where(allowed, np.exp(-0.8 * (_LOAD - aim[:, None]) ** 2), 0.0)
        floor = np.where(allowed, FLOOR, 0.0)
        share: F64 = floor + (1.0 - floor.sum(axis=1, keepdims=True)) * (near / near.sum(axis=1, keepdims=True))
        return share

    def _evening(self, x: F64) -> F64:
        """1 at `peak` o'clock, -1 twelve hours later."""
        angle = 2 * np.pi * self.traits.peak / 24
        at: F64 = np.sin(angle) * x[:, COLUMN["hour_sin"]] + np.cos(angle) * x[:, COLUMN["hour_cos"]]
        return at
