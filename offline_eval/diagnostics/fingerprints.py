"""64-bit fingerprints of any number of rows, counted for duplicates in bounded memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_IN_MEMORY = 1 << 22
"""Fingerprints, 32 MiB; more are spilled to files in the folder for temporary files."""
N_BUCKETS = 256


class Fingerprints:
    """A multiset of uint64, at most MAX_IN_MEMORY of them in memory, 8 bytes each on disk beyond.

    Counting reads one of 256 files at a time: 10**9 rows take 8 GB of disk and about 64 MB of memory. Equal
    fingerprints count as duplicates: among n different rows two agree by chance with probability n^2 / 2**65 (1e-3 at
    2 * 10**8).
    Pickling hands it to another process, what was spilled as a path; merging takes the other's files over. They are
    removed by close(), at the end of a `with`, or with the last object that holds them.
    """

    def __init__(self, in_memory: int = MAX_IN_MEMORY) -> None:
        self.n = 0
        self._limit = in_memory
        self._kept: list[NDArray[np.uint64]] = []
        self._n_kept = 0
        self._folders: list[Path] = []
        self._own: Path | None = None
        self._guard = weakref.finalize(self, _remove, self._folders)

    def __getstate__(self) -> dict[str, Any]:
        self._guard.detach()
        return {name: value for name, value in self.__dict__.items() if name != "_guard"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._guard = weakref.finalize(self, _remove, self._folders)

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, fingerprint: NDArray[np.uint64]) -> None:
        """Take in some rows'."""
        self.n += len(fingerprint)
        self._keep(np.array(fingerprint, np.uint64))

    def merge(self, other: Fingerprints) -> None:
        """Take in another's, and its files, which it gives up."""
        self.n += other.n
        self._folders += other._folders
        for part in other._kept:
            self._keep(part)
        other._forget()

    def close(self) -> None:
        """Remove the files; nothing is left to count."""
        _remove(self._folders)
        self._forget()

    def repeats(self) -> int:
        """Rows that share the fingerprint of an earlier one."""
        return sum(len(part) - 1 - int(np.count_nonzero(np.diff(part))) for part in self._sorted() if len(part))

    def repeated(self, most: int = 1) -> NDArray[np.uint64]:
        """At most so many of the fingerprints that occur more than once, ascending."""
        found: list[int] = []
        for part in self._sorted():
            found += np.unique(part[1:][np.diff(part) == 0]).tolist()
            if len(found) >= most:
                break
        return np.array(found[:most], np.uint64)

    def _keep(self, part: NDArray[np.uint64]) -> None:
        self._kept.append(part)
        self._n_kept += len(part)
        if self._n_kept > self._limit:
            self._spill()

    def _spill(self) -> None:
        """Append what is in memory to the files of its buckets, by the highest eight bits."""
        if self._own is None:
            self._own = Path(tempfile.mkdtemp(prefix="banditd-fingerprints-"))
            self._folders.append(self._own)
        whole = np.sort(np.concatenate(self._kept))
        self._kept, self._n_kept = [], 0
        ends = np.searchsorted(whole >> np.uint64(56), np.arange(N_BUCKETS + 1, dtype=np.uint64))
        for bucket in range(N_BUCKETS):
            part = whole[ends[bucket] : ends[bucket + 1]]
            if len(part):
                with (self._own / f"{bucket:02x}").open("ab") as file:
                    file.write(part.tobytes())

    def _sorted(self) -> Iterator[NDArray[np.uint64]]:
        """All of them, in parts that share nothing, ascending."""
        if not self._folders:
            yield np.sort(np.concatenate(self._kept)) if self._kept else np.empty(0, np.uint64)
            return
        if self._kept:
            self._spill()
        for bucket in range(N_BUCKETS):
            paths = [folder / f"{bucket:02x}" for folder in self._folders]
            parts = [np.fromfile(path, np.uint64) for path in paths if path.exists()]
            if parts:
                yield np.sort(np.concatenate(parts))

    def _forget(self) -> None:
        self.n, self._n_kept = 0, 0
        self._kept, self._own = [], None
        self._folders.clear()


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)
