"""Which Host and Origin headers are answered, so that no page in a browser can reach a server that asks for no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from service.problems import Problem
from service.settings.schema import ServerSettings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]@/]+)(?::\d*)?")
_SHOWN = 200


class Loopback:
    """Admits the loopback names, the address listened on, and `hosts`; of origins only the one asked, and `hosts`.

    An entry of `hosts` without a port stands for all ports. A request without Host comes from no browser.
    """

    def __init__(self, server: ServerSettings) -> None:
        self._listed = frozenset(entry.lower() for entry in server.hosts)
        bound = f"[{server.host}]" if ":" in server.host else server.host
        self._own = frozenset({*LOOPBACK, bound.lower()})
        self._known = lru_cache(64)(self._is_known)

    def admit(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise Problem 421 for a foreign Host, 403 for a foreign Origin; names of headers are in lower case."""
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host is not None and not self._known(host):
            raise Problem(421, f"host {_shown(host)} is not answered here; `server.hosts` admits further ones")
        if origin is not None and not self._is_ours(origin, host):
            raise Problem(403, f"origin {_shown(origin)} is foreign; `server.hosts` admits further ones")

    def _is_known(self, host: bytes) -> bool:
        text = host.decode("latin-1").lower()
        return _name(text) in self._own or self._is_listed(text)

    def _is_ours(self, origin: bytes, host: bytes | None) -> bool:
        scheme, found, authority = origin.decode("latin-1").lower().partition("://")
        if not found or scheme not in ("http", "https"):
            return False
        return (host is not None and authority == host.decode("latin-1").lower()) or self._is_listed(authority)

    def _is_listed(self, authority: str) -> bool:
        return authority in self._listed or _name(authority) in self._listed


def _name(authority: str) -> str | None:
    """What stands before the port."""
    found = _AUTHORITY.fullmatch(authority)
    return found[1] if found else None


def _shown(header: bytes) -> str:
    return repr(header[:_SHOWN].decode("latin-1"))
