"""Graphs on disk: content-addressed files, and for each surface the name of the one it serves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from bandits.graph import Graph
from service.files import replace_file

MAX_UPLOAD_BYTES = 2 << 30
MAX_UNPACKED_BYTES = 8 << 30
_INCOMING = ".incoming-"


class GraphFiles:
    """Files graphs/SHA256.npz and the pointers graphs/current.json, both replaced atomically.

    changing   held while a graph is put in place of another, on disk and in what is served
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pointers = folder / "current.json"
        self.changing = asyncio.Lock()
        self._moving = threading.Lock()
        for cut_short in folder.glob(f"{_INCOMING}*"):
            cut_short.unlink()

    def incoming(self) -> BinaryIO:
        """A temporary file in the folder, to be given to `keep` or deleted."""
        return NamedTemporaryFile(dir=self._folder, prefix=_INCOMING, delete=False)  # type: ignore[return-value]

    def load(self, path: str) -> Graph:
        """Read and validate a graph file; GraphError says what is wrong with it."""
        with open(path, "rb") as file:
            return Graph.load(file, MAX_UNPACKED_BYTES)

    def keep(self, path: str, graph: Graph, surface: str) -> None:
        """Give a validated file its name and let the surface point to it."""
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        with self._moving:
            os.replace(path, self._path(graph.version))
            pointers = self.pointers()
            if surface in pointers and self._path(pointers[surface]).exists():
                # From now on `sweep` counts how long the old one has not been served.
                os.utime(self._path(pointers[surface]))
            replace_file(self._pointers, json.dumps(pointers | {surface: graph.version}, indent=1).encode())

    def sweep(self, retention_s: float) -> list[str]:
        """Delete the graphs that no surface has served for so long; their versions. Any thread may call it."""
        swept = []
        with self._moving:
            served = set(self.pointers().values())
            for path in sorted(self._folder.glob("*.npz")):
                if path.stem not in served and time.time() - path.stat().st_mtime > retention_s:
                    path.unlink()
                    swept.append(path.stem)
        return swept

    def pointers(self) -> dict[str, str]:
        """Version of the graph each surface serves; ValueError where the file cannot be read."""
        if not self._pointers.exists():
            return {}
        rule = "must name the graph of each surface; restore it, or remove it and upload the graphs anew"
        try:
            pointers = json.loads(self._pointers.read_text())
        except ValueError as fault:
            raise ValueError(f"{self._pointers}: {rule} ({fault})") from fault
        if not isinstance(pointers, dict) or not all(isinstance(version, str) for version in pointers.values()):
            raise ValueError(f"{self._pointers}: {rule}, got {json.dumps(pointers)[:80]}")
        return pointers

    def current(self, surface: str) -> Graph | None:
        """The surface's graph; ValueError where its file is gone or was changed."""
        version = self.pointers().get(surface)
        if version is None:
            return None
        path = self._path(version)
        if not path.exists():
            raise ValueError(f"{path}: the graph that surface {surface} serves is gone; restore it, or upload one anew")
        with open(path, "rb") as file:
            digest = sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != version:
            raise ValueError(f"{path}: the graph file was changed; restore it, or upload it anew")
        return self.load(str(path))

    def _path(self, version: str) -> Path:
        return self._folder / f"{version}.npz"
