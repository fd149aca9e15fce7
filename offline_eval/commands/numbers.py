"""Numbers in flags."""

from __future__ import annotations

import math

from bandits.errors import UsageError


def number(flag: str, text: str) -> float:
    """A finite number. Raises UsageError."""
    try:
        value = float(text)
    except ValueError as fault:
        raise UsageError(f"{flag} must be a number, got {text!r}") from fault
    if not math.isfinite(value):
        raise UsageError(f"{flag} must be finite, got {text!r}")
    return value


def reward_range(text: str | None) -> tuple[float, float] | None:
    """--reward-range LO,HI, None where it is not given. Raises UsageError."""
    if text is None:
        return None
    low, comma, high = text.partition(",")
    if not comma:
        raise UsageError(f"--reward-range must be LO,HI, got {text!r}")
    ends = number("--reward-range", low), number("--reward-range", high)
    if not ends[0] < ends[1]:
        raise UsageError(f"--reward-range must rise, got {text!r}")
    return ends
