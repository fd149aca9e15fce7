"""Rows as bandit_feedback of the Open Bandit Pipeline."""

from __future__ import annotations

import zipfile
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bandits.errors import UsageError
from bandits.own_log import Row
from service.export.evaluated import Spool, evaluated

MAX_CONTEXT_BYTES = 16 << 30
_STEP = 4096


class ObpNpz:
    """See writers.Writer; 32 bytes a row are held, and the context waits in a spool.

    Further arrays than obp's: `actions` (n_actions,) ids as text, `context_names` (d,) of the features.
    """

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self.left_out: Counter[str] = Counter()
        self._file, self._spool = file, Spool(file)
        self._actions: dict[str, int] = {}
        self._names: set[str] = set()
        self._action, self._reward = array("q"), array("d")
        self._pscore, self._position = array("d"), array("q")

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for candidate in row.candidates or ():
                self._actions.setdefault(candidate, len(self._actions))
        for row, reward, propensity in evaluated(rows, self.left_out):
            self._action.append(self._actions.setdefault(row.item, len(self._actions)))
            self._reward.append(reward)
            self._pscore.append(propensity)
            self._position.append(row.position)
            features = row.features or {}
            self._names.update(features)
            self._spool.add([features])

    def close(self) -> None:
        try:
            self._write()
        finally:
            self._spool.close()

    def _write(self) -> None:
        n, names, ids = len(self._action), sorted(self._names), sorted(self._actions)
        size = 8 * n * len(names)
        if size > MAX_CONTEXT_BYTES:
            limit = f"at most {MAX_CONTEXT_BYTES:,} are written"
            raise UsageError(f"the context of {n:,} rows and {len(names):,} features takes {size:,} bytes, {limit}")
        code = np.empty(len(ids), np.int64)
        code[[self._actions[name] for name in ids]] = np.arange(len(ids))
        members: dict[str, Any] = {
            "n_rounds": np.int64(n),
            "n_actions": np.int64(max(1, len(ids))),
            "action": code[np.frombuffer(self._action, np.int64)] if n else np.empty(0, np.int64),
            "reward": np.array(self._reward),
            "pscore": np.array(self._pscore),
            "position": np.array(self._position, np.int64),
            "actions": np.array(ids, str),
            "context_names": np.array(names, str),
        }
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, values in members.items():
                with archive.open(f"{member}.npy", "w", force_zip64=True) as out:
                    np.lib.format.write_array(out, np.asarray(values), allow_pickle=False)
            with archive.open("context.npy", "w", force_zip64=True) as out:
                shape = {"descr": "<f8", "fortran_order": False, "shape": (n, len(names))}
                np.lib.format.write_array_header_1_0(out, shape)
                for block in self._contexts(names):
                    out.write(block.tobytes())

    def _contexts(self, names: list[str]) -> Iterator[NDArray[np.float64]]:
        """Rows of the context, 0 where a feature was not given."""
        at = {name: k for k, name in enumerate(names)}
        block, filled = np.zeros((_STEP, len(names))), 0
        for (features,) in self._spool:
            for name, value in features.items():
                block[filled, at[name]] = value
            filled += 1
            if filled == _STEP:
                yield block
                block, filled = np.zeros((_STEP, len(names))), 0
        yield block[:filled]
