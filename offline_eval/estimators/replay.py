"""Replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from offline_eval.estimators.base import Need
from offline_eval.estimators.snips import SNIPS


@dataclass(frozen=True)
class Replay(SNIPS):
    """Mean reward of the rounds in which the target would have done what was done.

    Li, Chu, Langford & Wang 2011, "Unbiased offline evaluation of contextual-bandit-based news article recommendation
    algorithms", algorithm 2, for a fixed target. On uniform logs w is K or 0 for a deterministic target, so that
    sum(w r) / sum(w) is that mean. A target that draws accepts a round with probability pi(a|x), and a log that is not
    uniform takes rejection sampling (probability proportional to w); here each round counts by that probability instead
    of by a coin, which has the same expectation and no noise of its own (ours). Off uniform logs this is SNIPS, and
    whoever runs it has to say so.
    Assumes uniform logging. Unbiased given that a round matches; NaN where none does.
    Variance Var(r | match) / matches.
    """

    kind: ClassVar[str] = "replay"
    needs: ClassVar[frozenset[Need]] = frozenset({"uniform"})
