"""A target given as module:function."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.batches import Batch
from offline_eval.dataset import distribution
from offline_eval.errors import BadLog
from offline_eval.targets.base import Dense


@dataclass(frozen=True)
class FunctionTarget(Dense):
    """A function from context float64 (n, d), named features as columns sorted by name, to probabilities (n, K)."""

    name: str

    @cached_property
    def _function(self) -> Callable[[F64], Any]:
        return resolve(self.name)

    def probabilities(self, batch: Batch) -> F64:
        try:
            # Standard output is the report's.
            with redirect_stdout(sys.stderr):
                given = self._function(batch.filled_context)
        except (Exception, SystemExit) as fault:
            raise UsageError(f"--policy {self.name}: raised {type(fault).__name__}: {fault}") from fault
        try:
            return distribution("probability", np.asarray(given), len(batch), batch.n_actions)
        except BadLog as fault:
            number = fault.place.removeprefix("row ")
            where = fault.at(batch.chunk.place.of(int(number))) if number else fault
            raise UsageError(f"--policy {self.name}: {where}") from fault

    def __getstate__(self) -> dict[str, str]:
        return {"name": self.name}


def resolve(name: str) -> Callable[[F64], Any]:
    """Import module:function from the working folder, then from where Python looks. Raises UsageError."""
    module_name, _, function_name = name.partition(":")
    folder = str(Path.cwd())
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as fault:
        raise UsageError(f"--policy {name}: cannot import {module_name}: {type(fault).__name__}: {fault}") from fault
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(f"--policy {name}: {module_name} has no function {function_name}")
    found: Callable[[F64], Any] = function
    return found
