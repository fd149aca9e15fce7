"""The sparse bipartite graph cluster -> item that gives requests their slots and their candidates."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from bandits import graph_file
from bandits.arrays import F32, I32, I64, U32
from bandits.graph_file import GraphError
from bandits.kernels.graph import edge_masks, find_edges, first_descent
from bandits.names import arm_key, printable_id

__all__ = ["Graph", "GraphError"]

MAX_TOP_K = 64

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Graph:
    """C clusters of users, N items and E edges between them, validated. Make one with Graph.of or Graph.load.

    centroids  float32 (C, d)   finite
    tau        > 0              temperature of a context's softmax
    top_k      1..min(C, 64)    clusters of a context
    items      N ids            1-128 printable characters, unique
    arm        uint64  (N,)     keys of the items, unique
    row_start  int64   (C+1,)   edges of cluster c are row_start[c] .. row_start[c + 1]
    row_item   int32   (E,)     item of an edge, ascending within a row
    prior      float32 (E,)     prior mean of an edge in reward units, or None
    version    SHA-256 hex of the file's bytes: of the file read by load, of save's bytes otherwise
    """

    centroids: F32
    tau: float
    top_k: int
    items: tuple[str, ...]
    arm: NDArray[np.uint64]
    row_start: I64
    row_item: I32
    prior: F32 | None
    version: str

    @classmethod
    def of(
        cls,
        centroids: F32,
        tau: float,
        top_k: int,
        items: Sequence[str],
        row_start: I64,
        row_item: I32,
        prior: F32 | None = None,
        version: str | None = None,
    ) -> Graph:
        """Validate the parts of a graph, sort its rows and name its version.

        Arrays are taken with the dtypes of the class, not converted. Raises GraphError: member, index, value, rule.
        """
        _check_centroids(centroids, tau, top_k)
        ids = tuple(items)
        arm = _arms(ids)
        row_item, prior = _check_edges(len(centroids), len(ids), row_start, row_item, prior)
        graph = cls(
            _plain(centroids),
            float(tau),
            int(top_k),
            ids,
            arm,
            _plain(row_start),
            _plain(row_item),
            None if prior is None else _plain(prior),
            version or "",
        )
        return graph if version else replace(graph, version=graph_file.digest(graph.members))

    @classmethod
    def load(cls, data: bytes | BinaryIO, max_unpacked: int) -> Graph:
        """Read graph.npz and validate it whole.

        data           the bytes, or a seekable binary file, read from its start
        max_unpacked   bound in bytes on the members' unpacked sizes, checked before anything is unpacked

        No pickle is read. Raises GraphError, one line: member, index, value, rule.
        """
        file = BytesIO(data) if isinstance(data, bytes) else data
        version = graph_file.version(file)
        members = graph_file.read(file, max_unpacked)
        return cls.of(
            members["centroids"],
            float(members["tau"]),
            int(members["top_k"]),
            graph_file.texts(members["items"]),
            members["row_start"],
            members["row_item"],
            members.get("prior"),
            version,
        )

    @property
    def members(self) -> dict[str, NDArray[Any]]:
        """The arrays of graph.npz by name, in the order of the file."""
        members: dict[str, NDArray[Any]] = {
            "centroids": self.centroids,
            "tau": np.asarray(self.tau, np.float64),
            "top_k": np.asarray(self.top_k, np.int64),
            "items": np.array(self.items, np.str_),
            "row_start": self.row_start,
            "row_item": self.row_item,
        }
        return members if self.prior is None else members | {"prior": self.prior}

    def save(self, file: BinaryIO) -> str:
        """Write graph.npz; return the SHA-256 hex of what was written. Equal content gives equal bytes."""
        return graph_file.write(file, self.members)

    def to_bytes(self) -> bytes:
        """The bytes that save writes."""
        file = BytesIO()
        self.save(file)
        return file.getvalue()

    @cached_property
    def slot_key(self) -> str:
        """SHA-256 hex of what gives slots their meaning: centroids, tau, top_k. Equal keys share what was learned."""
        digest = hashlib.sha256(struct.pack("<qqdq", *self.centroids.shape, self.tau, self.top_k))
        digest.update(self.centroids.data.cast("B"))
        return digest.hexdigest()

    @cached_property
    def centroids_transposed(self) -> F32:
        """float32 (d, C), the form that contexts are made from."""
        return np.ascontiguousarray(self.centroids.T)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each id in items."""
        return {item: i for i, item in enumerate(self.items)}

    @property
    def n_clusters(self) -> int:
        return len(self.centroids)

    @property
    def n_edges(self) -> int:
        return len(self.row_item)

    def neighbours(self, cluster: int) -> I32:
        """Items of a cluster: int32, ascending, a view."""
        return self.row_item[self.row_start[cluster] : self.row_start[cluster + 1]]

    def candidates(self, slots: U32) -> I32:
        """Items with an edge to any of the slots (each < C): int32, ascending, unique."""
        return np.unique(np.concatenate([self.row_item[:0], *(self.neighbours(int(slot)) for slot in slots)]))

    def edges_of(self, item: I32, slots: U32) -> I64:
        """The edge of each item and slot.

        item    int32  (A,)   places in items; -1, an unknown item, has no edge
        slots   uint32 (K,)   clusters; one beyond the graph has no edge
        Returns int64 (A, K), -1 where there is no edge. Other dtypes and read-only arrays compile the kernel anew.
        """
        edge = np.empty((len(item), len(slots)), np.int64)
        find_edges(self.row_start, self.row_item, item, slots, edge)
        return edge

    def edge_masks(self, item: I32, slots: U32) -> list[bytes]:
        """Which slots each item has an edge to: bit k, little-endian, for slot k; empty where it has them all."""
        size = (len(slots) + 7) // 8
        mask = np.zeros((len(item), size), np.uint8)
        edge_masks(self.row_start, self.row_item, item, slots, mask)
        data, full = mask.tobytes(), ((1 << len(slots)) - 1).to_bytes(size, "little")
        masks = [data[at : at + size] for at in range(0, len(data), size)] if size else [b""] * len(item)
        return [b"" if one == full else one for one in masks]


def _plain(array: NDArray[_Number]) -> NDArray[_Number]:
    """C-contiguous and writable: numba would compile kernels once more for other arrays."""
    return np.require(array, requirements=["C", "W"])


def _check_centroids(centroids: F32, tau: float, top_k: int) -> None:
    _check_form("centroids", centroids, np.float32, 2)
    if 0 in centroids.shape:
        raise GraphError(f"centroids must have at least one row and one column, got shape {centroids.shape}")
    _check_finite("centroids", centroids)
    if not 0.0 < tau < float("inf"):
        raise GraphError(f"tau must be finite and > 0, got {tau}")
    bound = min(len(centroids), MAX_TOP_K)
    if not 1 <= top_k <= bound:
        raise GraphError(f"top_k must lie in 1..{bound} (at most the number of clusters, and 64), got {top_k}")


def _check_form(member: str, array: NDArray[np.generic], dtype: type[np.generic], ndim: int) -> None:
    if array.dtype != dtype or array.ndim != ndim:
        raise GraphError(
            f"{member} must be {np.dtype(dtype)} with {ndim} dimension{'s' * (ndim > 1)}, "
            f"got {array.dtype} of shape {array.shape}"
        )


def _check_finite(member: str, array: F32) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        at = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise GraphError(f"{member}[{', '.join(map(str, at))}] must be finite, got {array[at]}")


def _arms(ids: tuple[str, ...]) -> NDArray[np.uint64]:
    if not ids:
        raise GraphError("items must have at least one id, got none")
    place: dict[str, int] = {}
    item_of: dict[int, str] = {}
    arm = np.empty(len(ids), np.uint64)
    for i, item in enumerate(ids):
        if not printable_id(item):
            raise GraphError(f"items[{i}] must be 1 to 128 printable characters, got {item[:150]!r}")
        if item in place:
            raise GraphError(f"items[{i}] must be unique, got {item!r} which is items[{place[item]}] too")
        place[item] = i
        key = arm_key(item)
        if key in item_of:
            raise GraphError(
                f"items[{i}] must have an arm key of its own, got {item!r} with the key of {item_of[key]!r}"
            )
        item_of[key] = item
        arm[i] = key
    return arm


def _check_edges(
    n_clusters: int,
    n_items: int,
    row_start: I64,
    row_item: I32,
    prior: F32 | None,
) -> tuple[I32, F32 | None]:
    _check_form("row_start", row_start, np.int64, 1)
    _check_form("row_item", row_item, np.int32, 1)
    n_edges = len(row_item)
    if len(row_start) != n_clusters + 1:
        raise GraphError(f"row_start must have {n_clusters + 1} entries (clusters + 1), got {len(row_start)}")
    if row_start[0] != 0:
        raise GraphError(f"row_start[0] must be 0, got {row_start[0]}")
    falls = np.flatnonzero(row_start[1:] < row_start[:-1])
    if len(falls):
        i = int(falls[0])
        raise GraphError(f"row_start[{i + 1}] must be >= row_start[{i}] = {row_start[i]}, got {row_start[i + 1]}")
    if row_start[-1] != n_edges:
        raise GraphError(f"row_start[{n_clusters}] must be {n_edges}, the length of row_item, got {row_start[-1]}")
    outside = np.flatnonzero((row_item < 0) | (row_item >= n_items))
    if len(outside):
        raise GraphError(f"row_item[{outside[0]}] must lie in 0..{n_items - 1} (items), got {row_item[outside[0]]}")
    if prior is not None:
        _check_form("prior", prior, np.float32, 1)
        if len(prior) != n_edges:
            raise GraphError(f"prior must have {n_edges} entries as row_item has, got {len(prior)}")
        _check_finite("prior", prior)
    if first_descent(row_start, row_item) < 0:
        return row_item, prior
    return _sort_rows(row_start, row_item, prior)


def _sort_rows(row_start: I64, row_item: I32, prior: F32 | None) -> tuple[I32, F32 | None]:
    row = np.repeat(np.arange(len(row_start) - 1), np.diff(row_start))
    order = np.lexsort((row_item, row))
    ascending = row_item[order]
    repeated = first_descent(row_start, ascending)
    if repeated >= 0:
        raise GraphError(
            f"row_item[{order[repeated]}] must be unique within its row, got item {ascending[repeated]} "
            f"a second time in cluster {row[repeated]}"
        )
    return ascending, None if prior is None else prior[order]
