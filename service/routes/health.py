"""Liveness, readiness and metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.node import Node
from service.problems import Problem

router = APIRouter()


def node_of(request: Request) -> Node:
    node: Node = request.app.state.node
    return node


def ready_node(request: Request) -> Node:
    node = node_of(request)
    if not node.ready:
        raise Problem(503, "not ready: state is loading", headers={"Retry-After": "1"})
    return node


AnyNode = Annotated[Node, Depends(node_of)]
TheNode = Annotated[Node, Depends(ready_node)]


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="The process answers")
async def livez() -> dict[str, str]:
    """Always 200."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Kernels are compiled and state is loaded", responses={503: {"description": "Not yet"}})
async def readyz(node: AnyNode, response: Response) -> dict[str, Any]:
    """503 until ready; then 200, with what is halted."""
    response.status_code = 200 if node.ready else 503
    halted = [] if node.fault is None else [str(node.fault)]
    return {"status": "ready" if node.ready else "starting", "degraded": node.degraded, "halted": halted}


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(node: TheNode) -> Response:
    """Text format 0.0.4."""
    node.measure()
    return Response(node.metrics.text(), media_type=CONTENT_TYPE_LATEST)
