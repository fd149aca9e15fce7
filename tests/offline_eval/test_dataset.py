"""BanditLog: every structural fault is named by column, row, value and rule."""

from __future__ import annotations

import numpy as np
import pytest

from offline_eval.errors import BadLog
from tests.offline_eval.engine import columns, log

HELD = columns()
N, K = HELD["logging"].shape


def at(name, row, value):
    """A column with one value changed."""
    changed = np.array(HELD[name], float)
    changed[row] = value
    return changed


FAULTS = {
    "reward NaN": ({"reward": at("reward", 7, np.nan)}, "row 7: reward: got nan, must be finite"),
    "reward infinite": ({"reward": at("reward", 7, np.inf)}, "row 7: reward: got inf, must be finite"),
    "reward huge": ({"reward": at("reward", 7, 1e200)}, "row 7: reward: got 1e+200, must lie within 1e+50 of 0"),
    "reward text": ({"reward": ["1"] * N}, "reward: got '<U1', must be numbers"),
    "reward complex": ({"reward": np.ones(N) * 1j}, "reward: got 'complex128', must be numbers"),
    "reward shape": ({"reward": np.ones((N, 1))}, f"reward: got ({N}, 1), shape must be (any,)"),
    "reward absent": ({"reward": None}, "reward: got (), shape must be (any,)"),
    "action float": ({"action": HELD["action"] * 1.0}, "action: got 'float64', must be integers"),
    "action bool": ({"action": HELD["action"] > 1}, "action: got 'bool', must be integers"),
    "action too large": (
        {"action": np.where(np.arange(N) == 5, K, HELD["action"])},
        "row 5: action: got 4, must lie in [0, 4)",
    ),
    "action negative": (
        {"action": np.where(np.arange(N) == 5, -1, HELD["action"])},
        "row 5: action: got -1, must lie in [0, 4)",
    ),
    "propensity 0": ({"propensity": at("propensity", 3, 0)}, "row 3: propensity: got 0.0, must lie in (0, 1]"),
    "propensity above 1": (
        {"propensity": at("propensity", 3, 1.0000001)},
        "row 3: propensity: got 1.0000001, must lie in (0, 1]",
    ),
    "propensity NaN": ({"propensity": at("propensity", 3, np.nan)}, "row 3: propensity: got nan, must lie in (0, 1]"),
    "propensity tiny": (
        {"propensity": at("propensity", 3, 1e-300)},
        "row 3: propensity: got 1e-300, must be at least 1e-50",
    ),
    "propensity short": (
        {"propensity": HELD["propensity"][1:]},
        f"propensity: got ({N - 1},), shape must be ({N},)",
    ),
    "context flat": ({"context": np.ones(N)}, f"context: got ({N},), shape must be ({N}, any)"),
    "context ragged": ({"context": [[1], [1, 2]]}, "context: got 'list', rows must have the same length"),
    "context NaN": ({"context": at("context", (4, 2), np.nan)}, "row 4: context[2]: got nan, must be finite"),
    "logging sum": ({"logging": HELD["logging"] * 1.01}, "row 0: sum of logging: got 1.01"),
    "logging NaN": ({"logging": at("logging", (2, 1), np.nan)}, "row 2: logging[1]: got nan, must be a probability"),
    "logging negative": ({"logging": at("logging", (2, 1), -0.1)}, "row 2: logging[1]: got -0.1"),
    "logging shape": ({"logging": HELD["logging"][:, 1:]}, f"logging: got ({N}, 3), shape must be ({N}, 4)"),
    "logging never": (
        {"logging": np.tile([0.0, 0.0, 0.0, 1.0], (N, 1)), "action": np.zeros(N, int)},
        "row 0: action: got 0, has probability 0 in logging",
    ),
    "user shape": ({"user": ["a"]}, f"user: got (1,), shape must be ({N},)"),
    "timestamp float": ({"timestamp": np.ones(N)}, "timestamp: got 'float64', must be integers (microseconds)"),
    "timestamp missing": ({"timestamp": np.full(N, "NaT", "M8[s]")}, "row 0: timestamp: got None, must be a time"),
    "allowed integers": ({"allowed": np.ones((N, K), int)}, "allowed: got 'int64', must be booleans"),
    "allowed none": ({"allowed": np.zeros((N, K), bool)}, f"row 0: action: got {HELD['action'][0]}, was not allowed"),
    "embedding": ({"action_embedding": np.ones((9, 2))}, "must have a row per action (4) or per round (3000)"),
    "count 0": ({"count": np.zeros(N)}, "row 0: count: got 0.0, must be > 0"),
    "n_actions 0": ({"n_actions": 0}, "n_actions: got 0, must be an integer >= 1"),
    "n_actions float": ({"n_actions": 4.0}, "n_actions: got 4.0, must be an integer >= 1"),
    "n_actions bool": ({"n_actions": True}, "n_actions: got True, must be an integer >= 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name):
    changes, text = FAULTS[name]
    with pytest.raises(BadLog) as raised:
        log(**changes)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_logging_that_is_positive_where_nothing_is_allowed_is_named():
    allowed = np.ones((N, K), bool)
    allowed[1] = np.arange(K) == HELD["action"][1]
    with pytest.raises(BadLog, match=r"row 1: logging\[.\]: .*must be 0 where the action is not allowed"):
        log(allowed=allowed)


def test_columns_are_what_they_say():
    found = log(timestamp=np.arange(N).astype("M8[s]"), user=[str(i) for i in range(N)], reward=HELD["reward"] > 0)
    assert (found.reward.dtype, found.action.dtype, found.timestamp.dtype) == (np.float64, np.intp, np.int64)
    assert found.timestamp[1] == 1_000_000
    assert len(found.rows(slice(5, 8))) == 3
    assert found.rows(slice(5, 8)).logging.shape == (3, K)
