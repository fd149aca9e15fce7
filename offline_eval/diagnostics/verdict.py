"""The verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offline_eval.result import Report


def verdict(report: Report) -> str:
    """One sentence: whether the log supports the question, and what stands first in the way."""
    reasons = report.reasons
    if not reasons:
        return "supported: every check that could be made of the log passed"
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    if not report.supported:
        return f"refused: the log cannot support the question; {reasons[0]}{more}"
    return f"supported, with reservations: {reasons[0]}{more}"
