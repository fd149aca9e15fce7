"""Rows as Vowpal Wabbit's dsjson: a contextual bandit line for each served position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec
import numpy as np

from bandits.own_log import Row
from service.export.own_jsonl import compressed

_encode = msgspec.json.Encoder().encode


class DsJsonLines:
    """See writers.Writer. Rows of mode exploit have `_skipLearn`.

    `_multi` holds what could have been served at the position: all candidates but those at earlier ones. `a` and `p`
    list them where the whole distribution is logged, else the served item alone. Rows of decisions whose candidates
    are not logged are left out. The event's id is the decision's, at positions beyond 0 with `#position`.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.left_out: Counter[str] = Counter()
        self._out, self._file = compressed(file, suffix)
        self._first: Row | None = None
        self._served: set[str] = set()

    def write(self, rows: Sequence[Row]) -> None:
        lines = []
        for row in rows:
            if self._first is None or self._first.decision_id != row.decision_id:
                self._first, self._served = row, set()
            if row.reward is None:
                self.left_out["no_reward_yet"] += 1
            elif row.propensity is None:
                self.left_out["no_propensity"] += 1
            elif self._first.candidates is None:
                self.left_out["candidates_not_logged"] += 1
            else:
                lines.append(_encode(self._line(row, self._first, self._first.candidates)) + b"\n")
            self._served.add(row.item)
        self._out.write(b"".join(lines))

    def close(self) -> None:
        try:
            self._out.close()
        finally:
            self._file.close()

    def _line(self, row: Row, first: Row, candidates: list[str]) -> dict[str, Any]:
        there = [k for k, name in enumerate(candidates) if name not in self._served]
        chosen = next(k for k, at in enumerate(there) if candidates[at] == row.item)
        actions, law = [chosen + 1], [row.propensity]
        if first.distribution is not None and row.position == 0 and not self._served:
            others = [k for k in range(len(there)) if k != chosen]
            actions += [k + 1 for k in others]
            law = [first.distribution[there[k]] for k in (chosen, *others)]
        time = np.datetime_as_string(np.datetime64(row.timestamp, "us"), timezone="UTC")
        return {
            "_label_cost": 0.0 - (row.reward or 0.0),
            "_label_probability": row.propensity,
            "_label_Action": chosen + 1,
            "_labelIndex": chosen,
            "_skipLearn": row.mode == "exploit",
            "Timestamp": str(time),
            "Version": "1",
            "EventId": row.decision_id if row.position == 0 else f"{row.decision_id}#{row.position}",
            "a": actions,
            "c": {"context": row.features or {}, "_multi": [_action(candidates, first, k) for k in there]},
            "p": law,
            "VWState": {"m": first.policy},
        }


def _action(candidates: list[str], first: Row, k: int) -> dict[str, Any]:
    features = first.item_features[k] if first.item_features is not None else None
    return {"_tag": candidates[k], "item": features} if features else {"_tag": candidates[k]}
