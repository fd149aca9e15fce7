"""Whether it is known whose rounds they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline_eval.diagnostics.finding import Finding, Level


def without_user(user: NDArray[Any]) -> int:
    """Rows whose user is missing: None, NaN or "" in a column of objects, text or floats, 0 in one of uint64 hashes."""
    if user.dtype.kind == "O":
        return sum(one is None or one != one or one == "" for one in user.tolist())
    if user.dtype.kind == "f":
        return int(np.isnan(user).sum())
    if user.dtype.kind == "U":
        return int((user == "").sum())
    return int((user == 0).sum()) if user.dtype == np.uint64 else 0


def users(without: int, n: int, clustered: bool) -> Finding:
    """Of n rows, `without` of them no one's; clustered: intervals by user were asked for."""
    if without == n:
        if clustered:
            mend = "log a keyed hash of the user, or evaluate without clusters"
            return Finding(
                "users", Level.REFUSE, f"missing users: no row has one, and intervals by user need them: {mend}"
            )
        return Finding("users", Level.OK, "no users in the log; rows count as independent")
    if without:
        said = f"missing users: {without:,} of {n:,} rows ({without / n:.2%}) have none"
        if clustered:
            mend = "intervals by user need them: log a keyed hash of the user, or evaluate without clusters"
            return Finding("users", Level.REFUSE, f"{said}, and {mend}")
        return Finding("users", Level.WARN, f"{said}: intervals by user are not possible; log them for every row")
    return Finding("users", Level.OK, f"every one of {n:,} rows has one")
