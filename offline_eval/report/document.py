"""A report as a JSON document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from offline_eval.result import Estimate, Report


def to_document(report: Report) -> dict[str, Any]:
    """What `banditd evaluate --json` prints. Numbers that are not finite become null.

    A log that cannot support the question has no estimates here, whatever the report holds.
    """
    return {
        "n": report.n,
        "baseline": _numbers(report.baseline),
        "estimates": [_estimate(one) for one in report.estimates.values()] if report.supported else [],
        "diagnostics": plain_value(report.diagnostics),
        "verdict": report.verdict,
        "reasons": report.reasons,
        "findings": [
            {"name": one.name, "level": one.level.name.lower(), "detail": one.detail} for one in report.findings
        ],
        "about": plain_value(report.about),
        **_comparison(report),
    }


def _comparison(report: Report) -> dict[str, Any]:
    """Only where there is a second policy."""
    if report.comparison is None:
        return {}
    differences = report.comparison.values() if report.supported else []
    return {"comparison": [_difference(one) for one in differences]}


def _difference(estimate: Estimate) -> dict[str, Any]:
    numbers = _numbers(estimate)
    return {
        "estimator": estimate.estimator,
        "difference": numbers.pop("value"),
        **numbers,
        "flags": list(estimate.flags),
    }


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": plain_value(estimate.value),
        "interval": [plain_value(end) for end in estimate.interval],
        "interval_method": estimate.interval_method,
        "standard_error": plain_value(estimate.standard_error),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "estimator": estimate.estimator,
        **_numbers(estimate),
        "flags": list(estimate.flags),
        "parameters": plain_value(estimate.parameters),
    }


def plain_value(value: Any) -> Any:
    """A value in JSON's types: a number that is not finite is None, and what JSON does not know is its text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_value(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain_value(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain_value(one) for one in value]
    return str(value)
