"""Graphs on disk: graphs/SHA256.npz."""

from __future__ import annotations

from bandits.graph import Graph
from service.content_files import ContentFiles

MAX_UPLOAD_BYTES = 2 << 30
MAX_UNPACKED_BYTES = 8 << 30


class GraphFiles(ContentFiles[Graph]):
    """The graphs of all surfaces."""

    suffix, noun, nouns = ".npz", "graph", "graphs"

    def load(self, path: str) -> Graph:
        """Read and validate a graph file; GraphError says what is wrong with it."""
        with open(path, "rb") as file:
            return Graph.load(file, MAX_UNPACKED_BYTES)
