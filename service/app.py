"""The HTTP application: FastAPI for everything, its hot routes taken before routing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bandits import __version__
from service.hot_routes import HotRoutes, Receive, Scope, Send
from service.node import Node
from service.openapi import with_hot_routes
from service.problems import FieldError, Problem, problem_response
from service.routes import health, surfaces
from service.security import Keys

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def create_app(node: Node) -> Asgi:
    """The application around a node, which it starts and stops with its own life."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with node.run():
            yield

    app = FastAPI(
        title="banditd",
        version=__version__,
        summary="A contextual bandit recommendation service",
        lifespan=lifespan,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.node = node
    app.include_router(health.router)
    app.include_router(surfaces.router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _fault)
    keys = node.settings.keys
    app.openapi = with_hot_routes(app.openapi, keyed=bool(keys))  # type: ignore[method-assign]
    return HotRoutes(cast(Asgi, app), node, Keys(keys, app.router.routes) if keys else None)


def respond(request: Request, problem: Problem) -> Response:
    """The answer that a problem is, counted."""
    node: Node = request.app.state.node
    node.metrics.refused.labels(str(problem.status)).inc()
    status, content, headers = problem_response(problem)
    return Response(content, status, {name.decode(): value.decode() for name, value in headers})


async def _problem(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, Problem):
        raise problem
    return respond(request, problem)


async def _http_exception(request: Request, fault: Exception) -> Response:
    if not isinstance(fault, HTTPException):
        raise fault
    detail = f"no route {request.url.path}" if fault.status_code == 404 else f"{request.method}: {fault.detail}"
    return respond(request, Problem(fault.status_code, detail, headers=fault.headers))


async def _validation_error(request: Request, fault: Exception) -> Response:
    if not isinstance(fault, RequestValidationError):
        raise fault
    errors = [FieldError(_path(error), error["msg"]) for error in fault.errors()]
    return respond(request, Problem(422, f"{errors[0].path}: {errors[0].message}", errors))


async def _fault(request: Request, fault: Exception) -> Response:
    """Starlette raises the fault again once this is sent, so that it is logged."""
    return respond(request, Problem(500, "a fault of the server; its log has more"))


def _path(error: dict[str, Any]) -> str:
    """`limit` for a query parameter, body paths as elsewhere."""
    where = [str(step) for step in error["loc"] if step not in ("query", "path", "body", "header")]
    return ".".join(where) or "$"
