"""OpenAPI of the hot routes, generated from the msgspec types that decode and encode them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from service.schemas import (
    Accepted,
    AdLoadDecision,
    AdLoadRequest,
    Decision,
    Decisions,
    FeedbackRequest,
    RecommendBatch,
    RecommendRequest,
)
from service.security import HEADERS, OPEN

_REF = "#/components/schemas/{name}"
_EVERYWHERE = (400, 403, 408, 413, 421, 431)
"""Faults of a connection and of its headers."""
_ROUTES: dict[str, tuple[str, type, str, type, tuple[int, ...]]] = {
    "/v1/recommend": ("Draw a slate", RecommendRequest, "200", Decision, (404, 409, 415, 422, 503)),
    "/v1/recommend/batch": (
        "Draw up to 1,024 slates",
        RecommendBatch,
        "200",
        Decisions,
        (404, 409, 415, 422, 503),
    ),
    "/v1/ad-load": ("Draw an ad load", AdLoadRequest, "200", AdLoadDecision, (404, 409, 415, 422, 503)),
    "/v1/feedback": (
        "Report impressions and rewards",
        FeedbackRequest,
        "202",
        Accepted,
        (404, 415, 422, 503),
    ),
}


def with_hot_routes(openapi: Callable[[], dict[str, Any]], *, keyed: bool) -> Callable[[], dict[str, Any]]:
    """The document with the hot routes added, and with what keys change where they are asked for; made once."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(openapi())
            kinds = [kind for _, request, _, reply, _ in _ROUTES.values() for kind in (request, reply)]
            schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            made["components"]["schemas"]["Problem"] = _problem_schema()
            _refuse_in_our_form(made)
            pairs = zip(schemas[::2], schemas[1::2], strict=True)
            for (path, (summary, _, status, _, faults)), (request, reply) in zip(_ROUTES.items(), pairs, strict=True):
                made["paths"][path] = {"post": _operation(summary, request, status, reply, faults)}
            if keyed:
                _ask_for_keys(made)
        return made

    return document


def _refuse_in_our_form(made: dict[str, Any]) -> None:
    """Give FastAPI's routes the problem documents that they answer with, in place of its own form."""
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)
    for path, operations in made["paths"].items():
        statuses: tuple[int, ...] = (404, 422, 503) if "{surface}" in path else (503,)
        if "put" in operations:
            statuses += (409, 415)
        for operation in operations.values():
            operation["responses"] |= {str(status): _refused("Refused") for status in (*_EVERYWHERE, *statuses)}


def _ask_for_keys(made: dict[str, Any]) -> None:
    """Describe the ways to give a key, and what every route answers without one."""
    schemes: dict[str, Any] = {"Bearer": {"type": "http", "scheme": "bearer"}}
    schemes |= {name: {"type": "apiKey", "in": "header", "name": name} for name in HEADERS}
    made["components"]["securitySchemes"] = schemes
    made["security"] = [{name: []} for name in schemes]
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path in OPEN:
                operation["security"] = []
            else:
                operation["responses"]["401"] = _refused("Key missing or unknown")
                operation["responses"]["403"] = _refused("The key lacks the scope")


def _operation(
    summary: str, request: dict[str, Any], status: str, reply: dict[str, Any], faults: tuple[int, ...]
) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            status: {"description": "Done", "content": {"application/json": {"schema": reply}}},
            **{str(fault): _refused("Refused") for fault in (*_EVERYWHERE, *faults)},
        },
    }


def _refused(description: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {"description": description, "content": problem}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "required": ["path", "message"], "properties": {"path": text, "message": text}}
    return {
        "type": "object",
        "description": "RFC 9457 problem document",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "errors": {"type": "array", "items": error},
        },
    }
