"""Off-policy evaluation and learning on logged decisions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offline_eval.dataset import BanditLog
    from offline_eval.evaluation import evaluate
    from offline_eval.result import Estimate, Report

__all__ = ["BanditLog", "Estimate", "Report", "evaluate"]

_HOME = {"BanditLog": "dataset", "evaluate": "evaluation", "Estimate": "result", "Report": "result"}


def __getattr__(name: str) -> object:
    """Imported when asked for: commands start without scikit-learn."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
