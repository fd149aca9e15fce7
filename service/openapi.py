"""OpenAPI of the hot routes, generated from the msgspec types that decode and encode them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from service.schemas import Accepted, Decision, Decisions, FeedbackRequest, RecommendBatch, RecommendRequest

_REF = "#/components/schemas/{name}"
_ROUTES: dict[str, tuple[str, type, str, type, tuple[int, ...]]] = {
    "/v1/recommend": ("Draw a slate", RecommendRequest, "200", Decision, (403, 404, 413, 415, 421, 422, 503)),
    "/v1/recommend/batch": (
        "Draw up to 1,024 slates",
        RecommendBatch,
        "200",
        Decisions,
        (403, 404, 413, 415, 421, 422, 503),
    ),
    "/v1/feedback": (
        "Report impressions and rewards",
        FeedbackRequest,
        "202",
        Accepted,
        (400, 403, 404, 413, 415, 421, 422, 503),
    ),
}


def with_hot_routes(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The document with the hot routes added, made once."""
    made: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not made:
            made.update(openapi())
            kinds = [kind for _, request, _, reply, _ in _ROUTES.values() for kind in (request, reply)]
            schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
            made.setdefault("components", {}).setdefault("schemas", {}).update(components)
            problem = made["components"]["schemas"]
            problem["Problem"] = _problem_schema()
            pairs = zip(schemas[::2], schemas[1::2], strict=True)
            for (path, (summary, _, status, _, faults)), (request, reply) in zip(_ROUTES.items(), pairs, strict=True):
                made["paths"][path] = {"post": _operation(summary, request, status, reply, faults)}
        return made

    return document


def _operation(
    summary: str, request: dict[str, Any], status: str, reply: dict[str, Any], faults: tuple[int, ...]
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            status: {"description": "Done", "content": {"application/json": {"schema": reply}}},
            **{str(fault): {"description": "Refused", "content": problem} for fault in faults},
        },
    }


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
