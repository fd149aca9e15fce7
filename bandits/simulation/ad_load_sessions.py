"""Sessions of an ad-load world, all users fetching step by step, and the log that a policy leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from bandits import checks
from bandits.arrays import F64, I64, Bool
from bandits.simulation.ad_load_traits import (
    LOADS,
    MAX_FETCHES,
    MAX_MINUTES,
    SIGNAL,
    SIGNAL_MEAN,
    SIGNAL_SCALE,
)

if TYPE_CHECKING:
    from bandits.simulation.ad_load import AdLoadWorld

Act = Callable[[F64, Bool], F64]
"""From raw features (m, F) and allowed loads (m, L) to the probability of each load (m, L)."""

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
DAYS = 28
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
MOBILE_SHARE, NEW_SHARE, TRIAL_SHARE = 0.65, 0.1, 0.03
COOL_MINUTES = 1.0
SUM_TOLERANCE = 1e-9
_LOADS = np.array(LOADS)
_SLOT = np.arange(LOADS[-1])


@dataclass(frozen=True, slots=True)
class Fetches:
    """m fetches that wait for a load, one of each user whose session goes on.

    user       int64   (m,)    ascending
    timestamp  int64   (m,)    microseconds since 1970, UTC
    features   float64 (m, F)  raw values of FEATURES
    allowed    bool    (m, L)  loads that business rules leave, at least one: no ads for users on trial, at most one
                               for a new user's first fetch, at most two within a minute of the last ad
    """

    user: I64
    timestamp: I64
    features: F64
    allowed: Bool


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What m fetches brought.

    satisfaction  float64 (m,)  in [0, 1]
    revenue       float64 (m,)  >= 0
    ended         bool    (m,)  the session's last fetch
    """

    satisfaction: F64
    revenue: F64
    ended: Bool


@dataclass(frozen=True, slots=True)
class AdLoadLog:
    """n fetches in order of time.

    user                   int64   (n,)
    timestamp              int64   (n,)    microseconds since 1970, UTC
    features               float64 (n, F)  raw values of FEATURES
    action                 int64   (n,)    load served
    propensity             float64 (n,)    its probability
    distribution           float64 (n, L)  probability of every load
    allowed                bool    (n, L)
    satisfaction           float64 (n,)
    revenue                float64 (n,)
    expected_satisfaction  float64 (n, L)  the truth given the features, of every load
    expected_revenue       float64 (n, L)
    """

    user: I64
    timestamp: I64
    features: F64
    action: I64
    propensity: F64
    distribution: F64
    allowed: Bool
    satisfaction: F64
    revenue: F64
    expected_satisfaction: F64
    expected_revenue: F64


class Sessions:
    """One session of each of n users: look at `fetches`, choose a load for each, `step`, until none is left.

    Everything random comes from `rng` and is drawn for all users at every step, so that policies of one seed meet the
    same users, and these the same chances, whatever loads were served.

    own      float64 (n_users, 2)  tolerance and appetite of each user, which no feature shows without noise
    fetches  what waits for a load
    """

    def __init__(self, world: AdLoadWorld, rng: np.random.Generator, n_users: int) -> None:
        """Raises ValueError for a count below 1."""
        n = checks.count("n_users", n_users)
        self._world, self._n = world, n
        self._rng = rng.spawn(1)[0]
        draws = self._rng
        rho = world.traits.correlation
        own = draws.normal(size=(n, 2))
        self.own = np.column_stack([own[:, 0], rho * own[:, 0] + np.sqrt(1 - rho**2) * own[:, 1]])
        signal = self.own @ SIGNAL.T + draws.normal(0.0, world.traits.noise, (n, 3))
        self._history = np.column_stack([SIGNAL_MEAN + SIGNAL_SCALE * signal, np.exp(draws.normal(3.0, 0.6, n))])
        self._device = np.column_stack([draws.random(n) < MOBILE_SHARE, draws.random(n) < NEW_SHARE])
        self._trial = draws.random(n) < TRIAL_SHARE
        hour = np.clip(draws.normal(15.0, 5.0, n), 0.0, 23.9)
        self._time = START_US + ((draws.integers(DAYS, size=n) * 24 + hour) * HOUR_US).astype(np.int64)
        self._since = np.minimum(draws.lognormal(4.0, 1.0, n), MAX_MINUTES)
        self._active = np.arange(n)
        self._fetch = 0
        self.fetches = self._show()

    def step(self, action: I64) -> Outcomes:
        """Serve a load to each of `fetches`, which then holds the next ones.

        action  int64 (m,)  loads, not their columns

        Raises ValueError, changing nothing, for a load that is not allowed.
        """
        shown, who = self.fetches, self._active
        action = np.asarray(action)
        if action.shape != who.shape or not ((action[:, None] == _LOADS) & shown.allowed).any(axis=1).all():
            raise ValueError(f"action must hold one allowed load for each of {len(who)} fetches, got {action!r:.80}")
        noise, click, price = (self._rng.normal(size=shape) for shape in (self._n, (self._n, 3), (self._n, 3)))
        leave, gap = self._rng.random(self._n), self._rng.exponential(1.5, self._n)
        satisfaction = self._satisfaction(shown.features, action, noise[who])
        revenue = self._revenue(shown.features, action, click[who], price[who])
        ended = leave[who] < self._world.quit_probability(shown.features, action.astype(np.float64))
        ended |= self._fetch + 1 == MAX_FETCHES
        self._pass(action, 0.5 + gap)
        self._active = who[~ended]
        self._fetch += 1
        self.fetches = self._show()
        return Outcomes(satisfaction, revenue, ended)

    def _show(self) -> Fetches:
        who = self._active
        angle = 2 * np.pi * ((self._time[who] - START_US) % (24 * HOUR_US)) / (24 * HOUR_US)
        index = np.full(len(who), float(self._fetch))
        features = np.column_stack(
            [self._history[who], index, self._since[who], np.sin(angle), np.cos(angle), self._device[who]]
        )
        most = np.full(len(who), LOADS[-1])
        most[self._since[who] < COOL_MINUTES] = 2
        most[self._device[who, 1] & (self._fetch == 0)] = 1
        most[self._trial[who]] = 0
        return Fetches(who, self._time[who], features, most[:, None] >= _LOADS)

    def _satisfaction(self, x: F64, action: I64, noise: F64) -> F64:
        traits = self._world.traits
        tolerance = self._world.tolerance(x, self.own[self._active, 0])
        burden = self._world.burden(tolerance, action.astype(np.float64))
        satisfaction: F64 = ndtr(traits.calm - burden + traits.spread * noise)
        return satisfaction

    def _revenue(self, x: F64, action: I64, click: F64, price: F64) -> F64:
        world = self._world
        clicked = (click < world.click_probit(x, self.own[self._active, 1])) & (action[:, None] > _SLOT)
        paid = np.exp(world.log_price(x)[:, None] + world.traits.tail * price)
        revenue: F64 = np.where(clicked, paid, 0.0).sum(axis=1)
        return revenue

    def _pass(self, action: I64, minutes: F64) -> None:
        """Let time go by until the next fetch."""
        self._since[self._active[action > 0]] = 0.0
        self._since = np.minimum(self._since + minutes, MAX_MINUTES)
        self._time = self._time + (minutes * MINUTE_US).astype(np.int64)


def play(world: AdLoadWorld, rng: np.random.Generator, n_users: int, act: Act) -> AdLoadLog:
    """One session of each user under a policy; see AdLoadWorld.sessions."""
    sessions, draws = Sessions(world, rng, n_users), rng.spawn(1)[0]
    steps: list[AdLoadLog] = []
    while len(sessions.fetches.user):
        shown = sessions.fetches
        distribution = _checked(act(shown.features, shown.allowed), shown.allowed)
        uniform = draws.random(n_users)[shown.user]
        column = _drawn(distribution, uniform)
        outcomes = sessions.step(_LOADS[column])
        steps.append(
            AdLoadLog(
                shown.user,
                shown.timestamp,
                shown.features,
                _LOADS[column],
                distribution[np.arange(len(column)), column],
                distribution,
                shown.allowed,
                outcomes.satisfaction,
                outcomes.revenue,
                *world.expected(shown.features),
            )
        )
    joined = {one.name: np.concatenate([getattr(step, one.name) for step in steps]) for one in fields(AdLoadLog)}
    order = np.lexsort((joined["user"], joined["timestamp"]))
    return AdLoadLog(**{name: column[order] for name, column in joined.items()})


def _checked(distribution: F64, allowed: Bool) -> F64:
    given = np.asarray(distribution, np.float64)
    sound = given.shape == allowed.shape and (given >= 0).all() and not given[~allowed].any()
    if not sound or np.abs(given.sum(axis=1) - 1.0).max() > SUM_TOLERANCE:
        raise ValueError(
            f"act must give distributions over the allowed loads, shape {allowed.shape}, got {given!r:.80}"
        )
    return given


def _drawn(distribution: F64, uniform: F64) -> I64:
    """Column drawn in each row; one of probability 0 is never drawn."""
    below = distribution.cumsum(axis=1)
    column: I64 = (below <= uniform[:, None] * below[:, -1:]).sum(axis=1)
    return column
