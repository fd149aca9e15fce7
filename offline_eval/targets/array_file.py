"""A target given as an array of probabilities in an npz file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bandits.arrays import F64
from bandits.errors import UsageError
from offline_eval.actions import Actions
from offline_eval.batches import Batch
from offline_eval.dataset import distribution
from offline_eval.errors import BadLog
from offline_eval.survey import Survey
from offline_eval.targets.base import Dense

MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class ArrayTarget(Dense):
    """Probabilities by row of the file, and by position where there are several.

    dist       float64 (rows, K, L), L = 1 where the positions share one
    positions  int64 (L,) positions in the log that the last axis stands for, ascending; None where L = 1
    """

    name: str
    dist: F64
    positions: NDArray[np.int64] | None

    def probabilities(self, batch: Batch) -> F64:
        rows = batch.chunk.index
        if self.positions is None:
            return self.dist[rows, :, 0]
        assert batch.chunk.position is not None
        return self.dist[rows, :, np.searchsorted(self.positions, batch.chunk.position)]


def load(path: Path, survey: Survey, actions: Actions, n_files: int) -> ArrayTarget:
    """`action_dist` (n, K) or (n, K, L) of the file, its columns in the log's order. Raises UsageError."""
    if n_files != 1:
        raise UsageError(f"--policy {path}: its rows follow the rows of one file, and the log has {n_files} files")
    dist, ids = _read(path)
    if dist.ndim not in (2, 3) or dist.shape[0] != survey.rows:
        shape = f"({survey.rows}, {len(actions)}) or with a last axis of positions"
        raise UsageError(f"--policy {path}: action_dist must have shape {shape}, got {dist.shape}")
    if dist.ndim == 2:
        dist = dist[:, :, None]
    if dist.dtype.kind not in "biuf":
        raise UsageError(f"--policy {path}: action_dist must be numbers, got {dist.dtype}")
    columns = _columns(path, dist.shape[1], ids, actions)
    ordered = np.zeros((dist.shape[0], len(actions), dist.shape[2]))
    ordered[:, columns, :] = dist
    for at in range(dist.shape[2]):
        try:
            distribution("action_dist", ordered[:, :, at], len(ordered), len(actions))
        except BadLog as fault:
            raise UsageError(f"--policy {path}: {fault}") from fault
    return ArrayTarget(str(path), ordered, _positions(path, dist.shape[2], survey))


def _read(path: Path) -> tuple[NDArray[np.generic], list[str] | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise UsageError(f"--policy {path}: unpacks to {size:,} bytes, at most {MAX_BYTES:,} are read")
        with np.load(path, allow_pickle=False) as held:
            if "action_dist" not in held:
                raise UsageError(f"--policy {path}: needs the array action_dist, it has {', '.join(held) or 'nothing'}")
            ids = [str(one) for one in held["actions"].tolist()] if "actions" in held else None
            return held["action_dist"], ids
    except (OSError, ValueError, zipfile.BadZipFile) as fault:
        raise UsageError(f"--policy {path}: cannot be read as npz: {fault}") from fault


def _columns(path: Path, n_columns: int, ids: list[str] | None, actions: Actions) -> NDArray[np.intp]:
    """Of each of the file's columns, its column in the log."""
    if ids is None:
        if not actions.integers:
            raise UsageError(
                f"--policy {path}: the log's actions are text, so it needs an array `actions` of their ids"
            )
        if n_columns == len(actions):
            return np.arange(n_columns)
        ids = [str(one) for one in range(n_columns)]
    if len(ids) != n_columns:
        raise UsageError(f"--policy {path}: `actions` must have {n_columns} ids, as action_dist, got {len(ids)}")
    if len(set(ids)) != len(ids):
        raise UsageError(f"--policy {path}: `actions` must differ from each other")
    columns = [actions.column(one) for one in ids]
    missing = [one for one, column in zip(ids, columns, strict=True) if column is None]
    if missing:
        raise UsageError(
            f"--policy {path}: its action {missing[0]} is not among the log's {len(actions)}; name all with --actions"
        )
    return np.array(columns, np.intp)


def _positions(path: Path, n_positions: int, survey: Survey) -> NDArray[np.int64] | None:
    if n_positions == 1:
        return None
    found = np.array(sorted(int(one) for one in survey.segments.get("position", {})), np.int64)
    if len(found) != n_positions:
        raise UsageError(
            f"--policy {path}: action_dist has {n_positions} positions, the log {len(found) or 'does not tell them'}"
        )
    return found
