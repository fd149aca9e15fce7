"""banditd graph build: makes graph.npz from Parquet files of embeddings."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

from bandits.errors import UsageError
from bandits.graph import Graph, GraphError
from service.embeddings import Embeddings, read_embeddings

HELP = "build the graph of a surface: clusters of users and the best items of each"

EXAMPLE = """example:
  banditd graph build --items items.parquet --users users.parquet --clusters 4096 --per-cluster 512 -o graph.npz

Both files have the columns `id` (text) and `embedding` (list of float32), all of one dimension. Users are clustered by
k-means (mini-batch k-means where users x clusters x dimension exceeds 2e9); each centroid keeps its best items by inner
product. With --keep-centroids only items and edges change, and what was learned stays."""

_LARGEST_KEPT = 1 << 36


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `graph build` and its options."""
    actions = parser.add_subparsers(dest="action", metavar="build", required=True)
    options = actions.add_parser(
        "build",
        help=HELP,
        description=HELP,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("--items", type=Path, required=True, metavar="FILE", help="Parquet file of items")
    options.add_argument("--users", type=Path, metavar="FILE", help="Parquet file of users (not with --keep-centroids)")
    options.add_argument("--clusters", type=int, metavar="C", help="clusters of users")
    options.add_argument("--per-cluster", type=int, required=True, metavar="W", help="items of each cluster")
    options.add_argument("--top-k", type=int, metavar="K", help="clusters of a request's context (default 8)")
    options.add_argument("--tau", type=float, metavar="T", help="temperature of the softmax over them (default .05)")
    options.add_argument("--seed", type=int, default=0, metavar="S", help="seed of k-means (default 0)")
    options.add_argument("--keep-centroids", type=Path, metavar="OLD", help="graph.npz whose clusters are kept")
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="graph.npz to write")
    options.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Build the graph and write it whole or not at all. Raises UsageError."""
    from bandits.graph_build import build

    if args.keep_centroids is None and (args.users is None or args.clusters is None):
        raise UsageError("graph build needs --users and --clusters, or --keep-centroids OLD")
    if not 0 <= args.seed < 2**32:
        raise UsageError(f"--seed must lie in 0..{2**32 - 1}, got {args.seed}")
    kept = None if args.keep_centroids is None else _load(args.keep_centroids)
    items = read_embeddings(args.items, unique=True)
    users = read_embeddings(args.users, unique=False) if args.users is not None else None
    _same_dimension(args, items, users, kept)
    clustering = _clustering(users, args.clusters, kept)
    print(f"{clustering}; then the {args.per_cluster} best of {len(items.ids)} items", file=sys.stderr)
    try:
        graph = build(
            None if users is None else users.vectors,
            items.vectors,
            items.ids,
            args.clusters,
            args.per_cluster,
            args.top_k,
            args.tau,
            args.seed,
            kept,
        )
    except ValueError as error:
        raise UsageError(f"graph build: {error}") from None
    _write(graph, args.output)
    report = {
        "output": str(args.output),
        "graph_version": graph.version,
        "slot_key": graph.slot_key,
        "clusters": graph.n_clusters,
        "items": len(graph.items),
        "edges": graph.n_edges,
        "items_without_edge": len(graph.items) - len(np.unique(graph.row_item)),
        "dimension": graph.centroids.shape[1],
        "top_k": graph.top_k,
        "tau": graph.tau,
        "clustering": clustering,
    }
    print(json.dumps(report) if args.json else _sentence(report))
    return 0


def _load(path: Path) -> Graph:
    try:
        with path.open("rb") as file:
            return Graph.load(file, _LARGEST_KEPT)
    except (GraphError, OSError) as error:
        raise UsageError(f"{path}: {error}") from None


def _same_dimension(args: argparse.Namespace, items: Embeddings, users: Embeddings | None, kept: Graph | None) -> None:
    dimension = items.vectors.shape[1]
    others = []
    if users is not None:
        others.append((args.users, users.vectors))
    if kept is not None:
        others.append((args.keep_centroids, kept.centroids))
    for path, vectors in others:
        if vectors.shape[1] != dimension:
            raise UsageError(
                f"{path}: embeddings must have {dimension} components as in {args.items}, got {vectors.shape[1]}"
            )


def _clustering(users: Embeddings | None, clusters: int, kept: Graph | None) -> str:
    from bandits.graph_build import uses_minibatch

    if kept is not None or users is None:
        return "kept centroids"
    n_users, dimension = users.vectors.shape
    name = "mini-batch k-means" if uses_minibatch(n_users, clusters, dimension) else "k-means"
    return f"{name} of {n_users} users"


def _sentence(report: dict[str, object]) -> str:
    return (
        "{output}: {clusters} clusters, {items} items ({items_without_edge} without edge), {edges} edges, "
        "dimension {dimension}, top_k {top_k}, tau {tau}; version {graph_version}"
    ).format(**report)


def _write(graph: Graph, path: Path) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            try:
                graph.save(file)
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written, {error.strerror or error}") from None
