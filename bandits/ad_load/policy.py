"""The ad-load policy: the distribution over loads that it gives to a context, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise

import numpy as np

from bandits.ad_load import document
from bandits.ad_load.mixing import lifted, over_allowed, softmax
from bandits.ad_load.models import LinearModel, TreeModel
from bandits.ad_load.rules import LARGEST, SHOWN, PolicyError, indices, number, vector
from bandits.arrays import F64, Bool
from bandits.names import MAX_ID_CHARACTERS, printable_id

SMALLEST = 1e-9
SUM_TOLERANCE = 1e-9
MAX_LOADS = 64
MAX_FEATURES = 256
LARGEST_LOAD = 2**31 - 1
MAX_TEXT = 1000
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


@dataclass(frozen=True, slots=True)
class Feature:
    """A named feature; the model reads (value - mean) / scale, and 0 where it is missing. scale >= 1e-9."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the policy was worth on the log it was learned from.

    value     of the objective, with its interval (low, high)
    ess       effective sample size, in rows
    n         rows that it was estimated on
    """

    estimator: str
    value: float
    interval: tuple[float, float]
    ess: float
    n: int


@dataclass(frozen=True, eq=False)
class AdLoadPolicy:
    """A softmax over ad loads, mixed with the logging distribution that it was learned from.

    loads        (L,)         ascending, at most 64
    features     (F,)         names differ, at most 256
    temperature  >= 1e-9      in units of the score
    floor        [0, 1 / L]   least probability of an allowed load
    logging      float64 (L,) sums to 1, each entry >= floor
    window       UTC times of the log's first and last row, as `2026-01-31T00:00:00Z`
    objective    how the policy was chosen, in words, or None
    reward       how the objective's reward was made from the logged ones, or None

    Two policies are the same where their versions are. Raises PolicyError.
    """

    loads: tuple[int, ...]
    features: tuple[Feature, ...]
    model: LinearModel | TreeModel
    temperature: float
    floor: float
    logging: F64
    window: tuple[str, str]
    estimate: Estimate
    objective: str | None = None
    reward: Mapping[str, float | str] | None = None
    _source: bytes | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        n_loads = len(self.loads)
        check_loads(self.loads)
        check_features(self.features)
        self.model.check(n_loads, len(self.features))
        number("temperature", self.temperature, SMALLEST, LARGEST)
        number("floor", self.floor, 0.0, 1.0 / n_loads)
        logging = vector("logging", self.logging, n_loads, 0.0, 1.0)
        _check_logging(logging, self.floor)
        object.__setattr__(self, "logging", logging)
        _check_window(self.window)
        _check_estimate(self.estimate)
        _check_words(self.objective, self.reward)

    @cached_property
    def version(self) -> str:
        """SHA-256 of `to_bytes()`, hex."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file that the policy was read from, else the one that `dump` makes."""
        return self._source if self._source is not None else document.encode(document.of(self))

    def matrix(self, rows: Sequence[Mapping[str, float] | None]) -> F64:
        """Raw feature values, float64 (n, F), NaN where a row lacks a feature; others of its features are not read."""
        names = [feature.name for feature in self.features]
        values = [[np.nan] * len(names) if row is None else [row.get(name, np.nan) for name in names] for row in rows]
        return np.array(values, np.float64).reshape(len(values), len(names))

    def aligned(self, x: F64, names: Sequence[str]) -> F64:
        """Columns of x, float64 (n, d), by their names as the policy's features, float64 (n, F); NaN where missing."""
        at = {name: i for i, name in enumerate(names)}
        values = np.full((len(x), len(self.features)), np.nan)
        for i, feature in enumerate(self.features):
            if feature.name in at:
                values[:, i] = x[:, at[feature.name]]
        return values

    def mask(self, allowed: Sequence[Sequence[int] | None]) -> Bool:
        """Allowed loads of each row, bool (n, L); None: all of them. Raises ValueError for a load that is unknown."""
        column = {load: i for i, load in enumerate(self.loads)}
        made = np.zeros((len(allowed), len(self.loads)), bool)
        for row, loads in enumerate(allowed):
            unknown = sorted(set(loads or ()) - column.keys())
            if unknown:
                raise ValueError(f"allowed must be among the loads {list(self.loads)}, got {unknown[0]} at row {row}")
            made[row, slice(None) if loads is None else [column[load] for load in loads]] = True
        return made

    def scores(self, x: F64) -> F64:
        """Score of every load, float64 (n, L).

        x  float64 (n, F)  raw values, NaN where missing, at most 1e12 in magnitude

        Raises ValueError.
        """
        x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.features):
            raise ValueError(f"features must have shape (n, {len(self.features)}), got {x.shape}")
        if (np.abs(x) > LARGEST).any():
            row, column = np.argwhere(np.abs(x) > LARGEST)[0].tolist()
            name = self.features[column].name
            raise ValueError(
                f"feature {name!r} must be at most {LARGEST:g} in magnitude, got {x[row, column]} at row {row}"
            )
        mean, scale = self._standard
        z = (x - mean) / scale
        return self.model.scores(np.where(np.isnan(z), 0.0, z))

    def probabilities(self, x: F64, allowed: Bool | None = None, floor: float = 0.0) -> F64:
        """Probability of every load, float64 (n, L): rows sum to 1, and are 0 where a load is not allowed.

        x        float64 (n, F)  as for scores
        allowed  bool    (n, L)  None: every load everywhere
        floor    least probability of an allowed load, where the file's own is lower

        The softmax over the allowed loads is mixed with the smallest share of the logging distribution, renormalised
        over the allowed loads, that lifts every allowed load to the floor; where no share does, it is the latter alone.

        Raises ValueError, also for a row that allows no load.
        """
        score = self.scores(x)
        mask = np.ones(score.shape, bool) if allowed is None else np.asarray(allowed, bool)
        if mask.shape != score.shape:
            raise ValueError(f"allowed must have shape {score.shape}, got {mask.shape}")
        if not 0.0 <= floor <= 1.0:
            raise ValueError(f"floor must lie in [0, 1], got {floor}")
        logging = over_allowed(self.logging, mask)
        return lifted(softmax(score / self.temperature, mask), logging, mask, max(floor, self.floor))

    @cached_property
    def _standard(self) -> tuple[F64, F64]:
        mean, scale = ([getattr(feature, name) for feature in self.features] for name in ("mean", "scale"))
        return np.array(mean, np.float64), np.array(scale, np.float64)


def check_loads(loads: tuple[int, ...]) -> None:
    """Raise PolicyError unless there are 1 to 64 loads, ascending."""
    if not 1 <= len(loads) <= MAX_LOADS:
        raise PolicyError("loads", f"must be 1 to {MAX_LOADS} loads, got {len(loads)}")
    indices("loads", loads, len(loads), 0, LARGEST_LOAD + 1)
    for i, (one, following) in enumerate(pairwise(loads)):
        if following <= one:
            raise PolicyError(f"loads[{i + 1}]", f"must be larger than the load before it, {one}, got {following}")


def check_features(features: tuple[Feature, ...]) -> None:
    """Raise PolicyError unless there are at most 256 features with different names and sound scales."""
    if len(features) > MAX_FEATURES:
        raise PolicyError("features", f"must be at most {MAX_FEATURES} features, got {len(features)}")
    seen: set[str] = set()
    for i, feature in enumerate(features):
        if not printable_id(feature.name):
            rule = f"must be 1 to {MAX_ID_CHARACTERS} printable characters, got {feature.name!r:.{SHOWN}}"
            raise PolicyError(f"features[{i}].name", rule)
        if feature.name in seen:
            raise PolicyError(f"features[{i}].name", f"must differ from the names before it, got {feature.name!r}")
        seen.add(feature.name)
        number(f"features[{i}].mean", feature.mean)
        number(f"features[{i}].scale", feature.scale, SMALLEST)


def _check_logging(logging: F64, floor: float) -> None:
    if abs(logging.sum() - 1.0) > SUM_TOLERANCE:
        raise PolicyError("logging", f"must sum to 1, got {logging.sum():.12g}")
    below = np.flatnonzero(logging < floor)
    if below.size:
        raise PolicyError(f"logging[{below[0]}]", f"must be at least the floor {floor:g}, got {logging[below[0]]:g}")


def _check_window(window: tuple[str, str]) -> None:
    if len(window) != 2:
        raise PolicyError("window", f"must be two times, got {len(window)}")
    times = [_time(f"window[{i}]", text) for i, text in enumerate(window)]
    if times[1] < times[0]:
        raise PolicyError("window[1]", f"must not lie before {window[0]}, got {window[1]}")


def _time(path: str, text: str) -> np.datetime64:
    fault = PolicyError(path, f"must be a UTC time such as 2026-01-31T00:00:00Z, got {text!r:.{SHOWN}}")
    if not _TIME.fullmatch(text):
        raise fault
    try:
        return np.datetime64(text[:-1], "us")
    except ValueError:
        raise fault from None


def _check_estimate(estimate: Estimate) -> None:
    if not 1 <= len(estimate.estimator) <= MAX_TEXT:
        raise PolicyError("estimate.estimator", f"must be 1 to {MAX_TEXT} characters, got {len(estimate.estimator)}")
    number("estimate.value", estimate.value)
    low, high = vector("estimate.interval", estimate.interval, 2).tolist()
    if high < low:
        raise PolicyError("estimate.interval[1]", f"must be at least the lower end {low:g}, got {high:g}")
    number("estimate.ess", estimate.ess, 0.0)
    number("estimate.n", estimate.n, 0.0)


def _check_words(objective: str | None, reward: Mapping[str, float | str] | None) -> None:
    texts = {"objective": objective or ""}
    for name, value in (reward or {}).items():
        texts[f"reward.{name:.{SHOWN}}"] = name + (value if isinstance(value, str) else "")
        if not isinstance(value, str):
            number(f"reward.{name:.{SHOWN}}", value)
    if len(texts) > MAX_FEATURES:
        raise PolicyError("reward", f"must have fewer than {MAX_FEATURES} fields, got {len(texts) - 1}")
    for path, text in texts.items():
        if len(text) > MAX_TEXT:
            raise PolicyError(path, f"must be at most {MAX_TEXT} characters, got {len(text)}")
