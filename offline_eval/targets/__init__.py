"""POLICY on the command line: a target policy that does not learn."""

from __future__ import annotations

import re
from pathlib import Path

from bandits.errors import UsageError
from offline_eval.actions import Actions
from offline_eval.survey import Survey
from offline_eval.targets import array_file, policy_file
from offline_eval.targets.base import Target
from offline_eval.targets.fixed import Constant, Logged, Uniform
from offline_eval.targets.function import FunctionTarget, resolve

__all__ = ["GRAMMAR", "Target", "constant_action", "parse"]

GRAMMAR = "uniform | logged | constant:ID | FILE.json | FILE.npz | module:function"
LEARNING = ("diag_linucb", "full_linucb")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def constant_action(text: str) -> str | None:
    """The ID of constant:ID, which is an action even where the log never names it; None for other policies."""
    return text.removeprefix("constant:") if text.startswith("constant:") else None


def parse(text: str, survey: Survey, actions: Actions, n_files: int) -> Target:
    """The policy that text names, for a log of that survey. Raises UsageError."""
    action = constant_action(text)
    if action is not None:
        if not action:
            raise UsageError("--policy constant:ID: the id is missing")
        return Constant(action)
    if text in ("uniform", "logged"):
        return Uniform() if text == "uniform" else Logged()
    if text.partition(":")[0] in LEARNING:
        raise UsageError(f"--policy {text}: this policy learns; use banditd replay, or a policy of {GRAMMAR}")
    if text.endswith(".json"):
        return policy_file.load(Path(text), actions)
    if text.endswith(".npz"):
        return array_file.load(Path(text), survey, actions, n_files)
    if _FUNCTION.fullmatch(text):
        resolve(text)
        return FunctionTarget(text)
    raise UsageError(f"--policy must be {GRAMMAR}, got {text!r}")
