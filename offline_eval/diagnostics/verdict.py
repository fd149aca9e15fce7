"""The verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offline_eval.result import Report


def verdict(report: Report) -> str:
    """One sentence: whether the log supports the question, and what stands first in the way."""
    reasons = report.reasons
    if not report.supported:
        return f"refused: the log cannot support the question; {reasons[0]}"
    if reasons:
        return f"supported, with reservations: {reasons[0]}"
    return "supported: every check of the log passed"
