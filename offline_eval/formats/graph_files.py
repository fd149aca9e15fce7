"""Graph files that --graph names, by the version that an own log has of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from bandits import graph_file
from bandits.errors import UsageError
from bandits.graph import Graph, GraphError

MAX_UNPACKED_BYTES = 8 << 30
HELD = 4
"""Graphs in memory at a time."""
_VERSION = re.compile(r"[0-9a-f]{64}")


def find_graphs(paths: Sequence[Path]) -> dict[str, Path]:
    """Files by version, of files and of folders such as DATA/graphs; SHA256.npz is taken at its name, load checks it.

    Raises UsageError.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file in _files(path):
            found.setdefault(_version(file), file)
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"--graph {path}: must be a graph.npz, or a folder of them such as DATA/graphs")
    files = sorted(one for one in path.glob("*.npz") if one.is_file() and not one.name.startswith("."))
    if not files:
        raise UsageError(f"--graph {path}: has no .npz file; name a graph.npz, or a folder of them such as DATA/graphs")
    return files


def _version(path: Path) -> str:
    if _VERSION.fullmatch(path.stem):
        return path.stem
    try:
        with path.open("rb") as file:
            return graph_file.version(file)
    except OSError as fault:
        raise _unreadable(path, fault) from fault


def _unreadable(path: Path, fault: OSError) -> UsageError:
    return UsageError(f"--graph {path}: must be a file that can be read: {fault.strerror or fault}")


@lru_cache(maxsize=HELD)
def load(path: Path, version: str) -> Graph:
    """The graph in a file. Raises UsageError, also where its bytes are of another version."""
    try:
        with path.open("rb") as file:
            graph = Graph.load(file, MAX_UNPACKED_BYTES)
    except OSError as fault:
        raise _unreadable(path, fault) from fault
    except GraphError as fault:
        raise UsageError(f"--graph {path}: {fault}") from fault
    if graph.version != version:
        rule = f"its bytes have SHA-256 {graph.version}, not {version}"
        raise UsageError(f"--graph {path}: {rule}; take the file that was uploaded, or the one in DATA/graphs")
    return graph
