"""RFC 9457 problem documents: the one form in which the service refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

CONTENT_TYPE = "application/problem+json"


class FieldError(msgspec.Struct):
    """What is wrong with one field of a body; path is such as batch[3].events[0].value."""

    path: str
    message: str


class Document(msgspec.Struct, omit_defaults=True):
    """A problem as it is sent; title is the status code's phrase."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class Problem(Exception):
    """A request that is refused: status, what is wrong, and for 422 where."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, list(errors), dict(headers or {})

    @property
    def document(self) -> Document:
        phrase = HTTPStatus(self.status).phrase
        return Document("about:blank", phrase, self.status, self.detail, self.errors or None)

    def to_json(self) -> bytes:
        # `type` is required although it equals the default of the RFC.
        return msgspec.json.encode(self.document)

    def at(self, prefix: str) -> Problem:
        """The same problem of one request in a batch: its errors' paths begin with prefix."""
        errors = [FieldError(f"{prefix}.{e.path}" if e.path != "$" else prefix, e.message) for e in self.errors]
        return Problem(self.status, f"{prefix}: {self.detail}", errors, self.headers)


def invalid(path: str, message: str) -> Problem:
    """422 at one field."""
    return Problem(422, f"{path}: {message}", [FieldError(path, message)])


def problem_response(problem: Problem) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of a problem."""
    content = problem.to_json()
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(content))]
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.status, content, headers
