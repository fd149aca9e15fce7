"""bandit_feedback of the Open Bandit Pipeline, as npz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64, Bool
from offline_eval.dataset import SUM_TOLERANCE
from offline_eval.errors import BadLog
from offline_eval.formats import columns, npz, text
from offline_eval.formats.chunk import Chunk, Ids, Place, Ragged, ReadOptions, Shard
from offline_eval.formats.columns import Faults
from offline_eval.formats.lists import MAX_CONTEXT
from offline_eval.formats.npz import Member

REQUIRED = ("action", "reward", "pscore")
_BATCH = 65_536


class BanditFeedback:
    """A row per round; actions are integers below n_actions, all of which are candidates; no users, no times.

    context  (n_rounds, d), named context[0], context[1], .. by column
    pi_b     (n_rounds, n_actions) or (n_rounds, n_actions, 1), optional: the whole logging distribution
    """

    NAME = "obp"
    SUFFIXES: tuple[str, ...] = (".npz",)
    FIXED_ACTIONS = True

    def recognises(self, path: Path) -> bool:
        return text.suffix(path) == ".npz"

    def shards(self, path: Path, first: int) -> list[Shard]:
        return [Shard(self.NAME, path, first)]

    def read(self, shard: Shard, rows: int, options: ReadOptions) -> Iterator[Chunk]:
        with npz.members(shard.path) as members:
            feedback = _Feedback(shard.path, members)
            size = feedback.size(min(rows, _BATCH))
            for first in range(0, feedback.n, size):
                yield feedback.chunk(first, min(size, feedback.n - first), options)


class _Feedback:
    """The members of a file, their shapes checked."""

    def __init__(self, path: Path, members: dict[str, Member]) -> None:
        self._path, self._members = path, members
        for name in (*REQUIRED, "n_rounds", "n_actions"):
            if name not in members:
                has = ", ".join(members) or "none"
                raise BadLog(name, None, f"the file needs this array; it has {has}", place=str(path))
        self.n, self._k = self._whole("n_rounds", 0), self._whole("n_actions", 1)
        for name in REQUIRED:
            self._shape(name, (self.n,))
        position = members.get("position")
        self._position = None if position is None or _is_none(position) else position
        if self._position is not None:
            self._shape("position", (self.n,))
        self._context = self._optional("context", (self.n, None))
        self._law = self._optional("pi_b", (self.n, self._k))

    def size(self, rows: int) -> int:
        """Rows of a chunk, fewer where they are wide."""
        width = max(self._k if self._law else 1, self._context.shape[1] if self._context else 1)
        return max(1, min(rows, MAX_CONTEXT // width))

    def _whole(self, name: str, low: int) -> int:
        member = self._members[name]
        self._shape(name, ())
        value = member.rows(1)
        if value.dtype.kind not in "iu" or value < low:
            raise BadLog(name, value.item(), f"must be an integer of at least {low}", place=str(self._path))
        return int(value)

    def _shape(self, name: str, wanted: tuple[int | None, ...]) -> None:
        got = self._members[name].shape
        if len(got) == len(wanted) + 1 and name == "pi_b" and got[-1] == 1:
            got = got[:-1]
        if len(got) != len(wanted) or any(w not in (None, g) for w, g in zip(wanted, got, strict=True)):
            shape = tuple("any" if w is None else w for w in wanted)
            rule = f"must have shape {shape}".replace("'", "")
            raise BadLog(name, self._members[name].shape, rule, place=str(self._path))

    def _optional(self, name: str, wanted: tuple[int | None, ...]) -> Member | None:
        member = self._members.get(name)
        if member is None:
            return None
        self._shape(name, wanted)
        return member

    def chunk(self, first: int, m: int, options: ReadOptions) -> Chunk:
        """The next m rows."""
        number = np.arange(first, first + m)
        faults = Faults(Place(str(self._path), "row", number))
        action = self._integers("action", m, faults)
        faults.refuse(action >= self._k, "action", action, f"must lie in [0, {self._k})")
        reward = self._numbers("reward", m, faults)
        propensity = self._numbers("pscore", m, faults)
        faults.refuse((propensity <= 0) | (propensity > 1), "pscore", propensity, "must lie in (0, 1]")
        position = None if self._position is None else self._integers("position", m, faults)
        context = self._matrix("context", m, faults) if self._context else np.empty((m, 0))
        candidates = self._candidates(m, action, faults) if self._law else None
        faults.settle()
        names = [f"context[{k}]" for k in range(context.shape[1])]
        return Chunk(
            place=Place(str(self._path), "row", number),
            action=Ids(action.astype(np.intp), range(self._k)),
            reward=reward,
            propensity=propensity,
            position=position,
            candidates=candidates,
            context=context if options.context else np.empty((m, 0)),
            names=names if options.context else [],
            segments={} if position is None else {"position": columns.number_ids(position)},
            index=number,
            declared=range(self._k),
        )

    def _read(self, name: str, m: int, kinds: str, what: str) -> NDArray[np.generic]:
        values: NDArray[np.generic] = self._members[name].rows(m)
        if values.dtype.kind not in kinds:
            raise BadLog(name, str(values.dtype), f"must be {what}", place=str(self._path))
        return values

    def _numbers(self, name: str, m: int, faults: Faults) -> F64:
        values = self._read(name, m, "biuf", "numbers").astype(np.float64)
        faults.refuse(~np.isfinite(values), name, values, columns.FINITE)
        return values

    def _integers(self, name: str, m: int, faults: Faults) -> NDArray[np.int64]:
        values = self._read(name, m, "iu", "integers").astype(np.int64)
        faults.refuse(values < 0, name, values, "must be at least 0")
        return values

    def _matrix(self, name: str, m: int, faults: Faults) -> F64:
        values = self._read(name, m, "biuf", "numbers").astype(np.float64).reshape(m, -1)
        bad = ~np.isfinite(values)
        _refuse_cell(bad, name, values, columns.FINITE, faults)
        return values

    def _candidates(self, m: int, action: NDArray[np.int64], faults: Faults) -> Ragged:
        law = self._matrix("pi_b", m, faults)
        _refuse_cell((law < 0) | (law > 1 + SUM_TOLERANCE), "pi_b", law, "must be a probability", faults)
        total = law.sum(axis=1)
        faults.refuse(np.abs(total - 1.0) > SUM_TOLERANCE, "sum of pi_b", total, "must be 1")
        chosen = law[np.arange(m), np.clip(action, 0, self._k - 1)]
        faults.refuse(chosen == 0, "action", action, "has probability 0 in pi_b")
        start = np.arange(m + 1, dtype=np.int64) * self._k
        code = np.tile(np.arange(self._k), m).astype(np.intp)
        return Ragged(start, code, range(self._k), np.ones(m, bool), law.reshape(-1))


def _is_none(member: Member) -> bool:
    """Whether it may be None, which numpy pickles as an object without dimensions; what it holds is not looked at."""
    return member.dtype.hasobject and member.shape == ()


def _refuse_cell(bad: NDArray[np.bool_], name: str, values: F64, rule: str, faults: Faults) -> None:
    rows: Bool = np.asarray(bad.any(axis=1))
    if rows.any():
        row = int(np.argmax(rows))
        column = int(np.argmax(bad[row]))
        faults.refuse(rows, f"{name}[{column}]", values[:, column], rule)
