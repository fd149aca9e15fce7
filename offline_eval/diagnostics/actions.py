"""Whether each action was taken as often as its propensities say."""

from __future__ import annotations

import numpy as np

from offline_eval.diagnostics.finding import Finding
from offline_eval.diagnostics.significance import Tests
from offline_eval.diagnostics.thresholds import Thresholds


def both(first: Tests, second: Tests) -> Tests:
    """The tests of both."""
    n = len(first)
    return Tests(
        np.concatenate([first.p, second.p]),
        lambda i: first.tell(i) if i < n else second.tell(i - n),
        np.concatenate([first.vague, second.vague]),
    )


def action_findings(tests: Tests, limits: Thresholds, n_tests: int) -> list[Finding]:
    """The action that is furthest off."""
    return [
        tests.finding(
            "propensities, actions",
            limits,
            n_tests,
            "not tested: needs the candidates of each round, or the logging policy's whole distribution",
            "the logged propensities are not those the actions were drawn with; look for scaled, shuffled or "
            "score-made propensities, and log the actions that could not be drawn",
        )
    ]
