"""The policies that a log is asked about: they differ in model, objective, penalty and temperature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bandits.ad_load import LinearModel, TreeModel
from offline_eval.learning.linear import fit_linear
from offline_eval.learning.objective import ClippedIps, DoublyRobust, Objective, SelfNormalised
from offline_eval.learning.study import Task
from offline_eval.learning.tree import fit_trees

Kind = Literal["linear", "tree", "auto"]
KINDS: tuple[Kind, ...] = ("linear", "tree", "auto")
PENALTY = 1.0
CLIP = 20.0
LINEAR_TEMPERATURES = (1.0, 0.3)
TREE_TEMPERATURES = (0.1, 0.03)
"""In standard deviations of the reward, in which trees score."""


@dataclass(frozen=True)
class Candidate:
    """A fitted policy before it is mixed with logging.

    name  says how it was made
    beta  of the reward that it was fitted to
    """

    name: str
    beta: float
    model: LinearModel | TreeModel
    temperature: float


def candidates(task: Task, beta: float, kind: Kind, seed: int, *, few: bool = False) -> Iterator[Candidate]:
    """Fit them.

    few  only those that are most often the best: of a sweep, whose comparisons multiply
    """
    if kind in ("linear", "auto"):
        for name, objective in _objectives(task, few):
            model = fit_linear(task, objective)
            for temperature in LINEAR_TEMPERATURES[-1:] if few else LINEAR_TEMPERATURES:
                yield Candidate(f"linear, {name}, temperature {temperature:g}", beta, model, temperature)
    if kind in ("tree", "auto"):
        trees = fit_trees(task, seed).export()
        for temperature in TREE_TEMPERATURES[-1:] if few else TREE_TEMPERATURES:
            yield Candidate(f"tree, dr, temperature {temperature:g}", beta, trees, temperature)


def _objectives(task: Task, few: bool) -> Sequence[tuple[str, Objective]]:
    first = (f"dr, penalty {PENALTY:g}", DoublyRobust(task, PENALTY))
    if few:
        return [first]
    return [
        first,
        ("dr, penalty 0", DoublyRobust(task, 0.0)),
        (f"snips, penalty {PENALTY:g}", SelfNormalised(task, PENALTY)),
        (f"ips clipped at {CLIP:g}, penalty {PENALTY:g}", ClippedIps(task, PENALTY, CLIP)),
    ]
