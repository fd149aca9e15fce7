"""Surfaces: what they serve, their cells, their graph and their policy."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator
from starlette.requests import ClientDisconnect

from bandits.graph import Graph, GraphError
from service.ad_load_decisions import ad_loads_of
from service.ad_loads import describe_policy
from service.cells_view import MAX_LIMIT, CellsPage
from service.graphs import MAX_UPLOAD_BYTES
from service.hot_routes import Receive, check_coding, read_body
from service.node import Node
from service.policies import MAX_UPLOAD_BYTES as MAX_POLICY_BYTES
from service.problems import Problem, invalid
from service.rewards import Generation
from service.routes.health import TheNode
from service.surface import Surface, unknown_surface

router = APIRouter(prefix="/v1/surfaces")
Flag = Annotated[bool, BeforeValidator(lambda given: True if given == "" else given), Query()]
"""A query parameter that is true where it stands without a value."""


def surface_of(node: TheNode, surface: str) -> Surface:
    found = node.surfaces.get(surface)
    if found is None:
        raise unknown_surface(surface)
    return found


@router.get("", summary="All surfaces")
async def list_surfaces(node: TheNode) -> dict[str, Any]:
    """Name, policy and graph of each."""
    return {"surfaces": [node.describe(surface) for surface in node.surfaces.values()]}


@router.get("/{surface}", summary="One surface")
async def get_surface(node: TheNode, surface: str) -> dict[str, Any]:
    """Policy, sampler, rewards, graph, and what has been learned in total."""
    return node.describe(surface_of(node, surface))


@router.get("/{surface}/cells", summary="Learned cells", response_class=JSONResponse)
async def get_cells(
    node: TheNode,
    surface: str,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 10_000,
    cursor: str | None = None,
    all: Flag = False,
) -> Response:
    """Folded sums in reward units, of the current generations or of all; `cursor` is null at the end."""
    served = surface_of(node, surface)
    page = CellsPage(node.replica.cells, surface, node.generations.of(surface, every=all), limit, cursor)
    await asyncio.to_thread(page.choose)
    page.read(node.learned(served))
    return Response(await asyncio.to_thread(page.to_json), media_type="application/json")


@router.put("/{surface}/graph", summary="Serve another graph")
async def put_graph(node: TheNode, surface: str, request: Request) -> dict[str, Any]:
    """Stream graph.npz to disk, validate it, swap it in; where it is wrong the previous one stays."""
    served = surface_of(node, surface)
    if served.ad_load is not None:
        raise Problem(409, f"surface {surface!r} serves ad loads, without a graph")
    content_type = request.headers.get("content-type", "application/octet-stream").split(";")[0]
    if content_type != "application/octet-stream":
        raise Problem(415, f"content type must be application/octet-stream, got {content_type}")
    check_coding(dict(request.headers.raw))
    if int(request.headers.get("content-length", 0)) > MAX_UPLOAD_BYTES:
        raise _too_large()
    try:
        generation, graph = await _take_graph(node, served, request)
    except GraphError as fault:
        raise invalid("$", str(fault)) from fault
    except ClientDisconnect as fault:
        raise Problem(400, "the connection ended before the graph") from fault
    except OSError as fault:
        raise _not_kept("graph", fault) from fault
    return {
        "graph_version": graph.version,
        "generation": generation.key,
        "clusters": graph.n_clusters,
        "items": len(graph.items),
        "edges": graph.n_edges,
    }


@router.put(
    "/{surface}/policy",
    summary="Serve another ad-load policy",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def put_policy(node: TheNode, surface: str, request: Request) -> dict[str, Any]:
    """Validate a policy file, keep it and swap it in; where it is wrong the previous one stays."""
    served = surface_of(node, surface)
    ad_loads_of(served)
    body = await read_body(dict(request.headers.raw), cast(Receive, request.receive), MAX_POLICY_BYTES)
    try:
        policy = await node.policy_files.serve(served, body)
    except OSError as fault:
        raise _not_kept("policy", fault) from fault
    return describe_policy(policy)


def _not_kept(noun: str, fault: OSError) -> Problem:
    detail = f"the {noun} cannot be kept: {fault.strerror}; the previous one stays"
    return Problem(503, detail, headers={"Retry-After": "60"})


async def _take_graph(node: Node, served: Surface, request: Request) -> tuple[Generation, Graph]:
    with node.graph_files.incoming() as file:
        path = file.name
        try:
            size = 0
            async for block in request.stream():
                size += len(block)
                if size > MAX_UPLOAD_BYTES:
                    raise _too_large()
                file.write(block)
            file.flush()
            return await node.use_graph(served, path)
        finally:
            if os.path.exists(path):
                os.unlink(path)


def _too_large() -> Problem:
    return Problem(413, f"a graph may have {MAX_UPLOAD_BYTES} bytes", headers={"Connection": "close"})
