"""API keys and what they may do: the scope that each route needs stands here, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from starlette.routing import BaseRoute, Match, compile_path

from service.problems import Problem
from service.settings.schema import KeySettings

DECIDE, FEEDBACK, ADMIN = "decide", "feedback", "admin"
ANY = ""
"""Any key will do."""
OPEN = frozenset({"/livez", "/readyz"})
SCOPES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/recommend"): DECIDE,
    ("POST", "/v1/recommend/batch"): DECIDE,
    ("POST", "/v1/ad-load"): DECIDE,
    ("POST", "/v1/feedback"): FEEDBACK,
    ("GET", "/v1/surfaces"): ANY,
    ("GET", "/v1/surfaces/{surface}"): ANY,
    ("GET", "/v1/surfaces/{surface}/cells"): ADMIN,
    ("PUT", "/v1/surfaces/{surface}/graph"): ADMIN,
    ("PUT", "/v1/surfaces/{surface}/policy"): ADMIN,
    ("GET", "/metrics"): ANY,
    ("GET", "/openapi.json"): ANY,
    ("GET", "/docs"): ANY,
    ("GET", "/docs/oauth2-redirect"): ANY,
    ("GET", "/redoc"): ANY,
    ("GET", "/"): ANY,
}
"""A route that is not named here needs admin. What no route serves takes any key, to be told so."""
HEADERS = {"X-API-Key": b"x-api-key", "Ocp-Apim-Subscription-Key": b"ocp-apim-subscription-key"}
"""Headers that hold a key and nothing else."""


class Keys:
    """Asks every request for a key with the scope that its route needs; only /livez and /readyz are open.

    A key is known by its SHA-256 alone; under two names it has the scopes of both.

    routes   the application's, to tell an undeclared one from none
    """

    def __init__(self, keys: Sequence[KeySettings], routes: Sequence[BaseRoute]) -> None:
        self._scopes: dict[bytes, frozenset[str]] = {}
        for key in keys:
            digest = bytes.fromhex(key.sha256)
            self._scopes[digest] = self._scopes.get(digest, frozenset()) | set(key.scopes)
        self._routes = routes
        self._exact = {place: scope for place, scope in SCOPES.items() if "{" not in place[1]}
        self._patterns = [
            (method, compile_path(path)[0], scope) for (method, path), scope in SCOPES.items() if "{" in path
        ]

    def admit(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        """Raise Problem 401 without a known key, 403 where it lacks the scope; names of headers are in lower case.

        Keys that differ are 401 as well: of which of them another program took note cannot be known.
        """
        if scope["path"] in OPEN:
            return
        held = self._held(headers)
        needed = self._needed(scope)
        if needed != ANY and needed not in held and ADMIN not in held:
            has = ", ".join(sorted(held))
            raise Problem(403, f"{scope['method']} {scope['path']} needs the scope {needed}; this key has {has}")

    def _held(self, headers: Mapping[bytes, bytes]) -> frozenset[str]:
        """Scopes of the key that the headers hold."""
        presented = _presented(headers)
        if len(presented) == 1:
            (key,) = presented
            scopes = self._scopes.get(sha256(key).digest())
            if scopes is not None:
                return scopes
        ways = ", ".join(("Authorization: Bearer", *HEADERS))
        found = "this API key is unknown or revoked" if presented else "an API key is needed"
        detail = f"{found}; send one by {ways}"
        if len(presented) > 1:
            detail = f"the keys in these headers disagree: send one, by one of {ways}"
        raise Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})

    def _needed(self, scope: Mapping[str, Any]) -> str:
        """The scope of a declared route; admin for one that is not, any key's where there is none to be served."""
        path, method = scope["path"], "GET" if scope["method"] == "HEAD" else scope["method"]
        declared = self._exact.get((method, path))
        if declared is not None:
            return declared
        for of_method, pattern, needed in self._patterns:
            if of_method == method and pattern.match(path):
                return needed
        served = any(route.matches(dict(scope))[0] == Match.FULL for route in self._routes)
        return ADMIN if served else ANY


def _presented(headers: Mapping[bytes, bytes]) -> set[bytes]:
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    keys = {headers[name].strip() for name in HEADERS.values() if name in headers}
    if scheme.lower() == b"bearer":
        keys.add(token.strip())
    keys.discard(b"")
    return keys
