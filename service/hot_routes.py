"""The JSON routes that carry all traffic, answered before FastAPI's routing: its application is wrapped, not bypassed.

Measured apart from scoring: FastAPI with pydantic costs 127 us of CPU a request, this 31.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from service.answers import BATCH_BREATH, Refused
from service.decoding import FAULTS, explained
from service.loopback import Loopback
from service.metrics import Metrics
from service.node import Node
from service.problems import Problem, invalid, problem_response
from service.schemas import (
    Accepted,
    AdLoadRequest,
    EventKey,
    FeedbackRequest,
    RawBatch,
    RecommendBatch,
    RecommendRequest,
    encode,
)
from service.security import HEADERS, Keys

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")
Handler = Callable[[bytes, float], Awaitable[tuple[int, bytes]]]

SINGLE = frozenset(
    {b"host", b"origin", b"content-type", b"content-length", b"content-encoding", b"authorization", *HEADERS.values()}
)
"""Headers that may be sent once: of two, another program on the way could have looked at the other one."""

logger = logging.getLogger(__name__)


class HotRoutes:
    """ASGI application: the hot paths here, everything else in the application it wraps.

    keys   asked of every request; None: no keys are set, Host and Origin are looked at instead
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], node: Node, keys: Keys | None = None
    ) -> None:
        self.app, self._node, self._metrics, self._keys = app, node, node.metrics, keys
        server = node.settings.server
        json_limit, batch_limit = server.max_body_mib << 20, server.max_batch_body_mib << 20
        self._routes: dict[str, tuple[Handler, int]] = {
            "/v1/recommend": (self._recommend, json_limit),
            "/v1/recommend/batch": (self._recommend_batch, batch_limit),
            "/v1/ad-load": (self._ad_load, json_limit),
            "/v1/feedback": (self._feedback, batch_limit),
        }
        self._seconds = {path: _observer(self._metrics, path) for path in self._routes}
        self._admit = Loopback(server).admit
        self._decode_recommend = msgspec.json.Decoder(RecommendRequest).decode
        self._decode_ad_load = msgspec.json.Decoder(AdLoadRequest).decode
        self._decode_batch = msgspec.json.Decoder(RecommendBatch).decode
        self._decode_raw_batch = msgspec.json.Decoder(RawBatch).decode
        self._decode_event_key = msgspec.json.Decoder(EventKey).decode
        self._decode_feedback = msgspec.json.Decoder(FeedbackRequest).decode

    @property
    def paths(self) -> list[str]:
        """What is answered here, by POST."""
        return list(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = dict(scope["headers"])
        try:
            if len(given) != len(scope["headers"]):
                check_single(scope["headers"])
            if self._keys is None:
                self._admit(given)
            else:
                self._keys.admit(scope, given)
        except Problem as problem:
            await self._refuse(problem, send)
            return
        route = self._routes.get(scope["path"])
        if route is None:
            await self.app(scope, receive, send)
            return
        handler, limit = route
        try:
            if scope["method"] != "POST":
                raise Problem(405, f"{scope['method']}: Method Not Allowed", headers={"Allow": "POST"})
            body = await read_body(given, receive, limit)
            if not self._node.ready:
                raise Problem(503, "not ready: state is loading", headers={"Retry-After": "1"})
            status, content = await handler(body, started)
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        except Problem as problem:
            self._metrics.refused.labels(str(problem.status)).inc()
            status, content, headers = problem_response(problem)
        except Exception:
            logger.exception("%s failed", scope["path"])
            self._metrics.refused.labels("500").inc()
            status, content, headers = problem_response(Problem(500, "a fault of the server; its log has more"))
        self._seconds[scope["path"]](time.perf_counter() - started)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _refuse(self, problem: Problem, send: Send) -> None:
        self._metrics.refused.labels(str(problem.status)).inc()
        status, content, headers = problem_response(problem)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _recommend(self, body: bytes, started: float) -> tuple[int, bytes]:
        request = self._read(self._decode_recommend, body)
        if isinstance(request, RecommendRequest) and request.event_id is None:
            return 200, encode(self._node.recommender.decide(request))
        return 200, await self._node.answers.one(request)

    async def _ad_load(self, body: bytes, started: float) -> tuple[int, bytes]:
        request = self._read(self._decode_ad_load, body)
        if isinstance(request, AdLoadRequest) and request.event_id is None:
            return 200, encode(self._node.ad_loads.decide(request))
        return 200, await self._node.ad_load_answers.one(request)

    async def _recommend_batch(self, body: bytes, started: float) -> tuple[int, bytes]:
        requests: Sequence[RecommendRequest | Refused]
        try:
            requests = self._decode_batch(body).requests
        except FAULTS as fault:
            requests = await self._read_each(body, fault)
        replies = await self._node.answers.batch(requests)
        return 200, b'{"decisions":[' + b",".join(replies) + b"]}"

    def _read(self, decode: Callable[[bytes], T], body: bytes) -> T | Refused:
        """A request, or one that is wrong, with its event id where it has one that can be read."""
        try:
            return decode(body)
        except FAULTS as fault:
            try:
                named = self._decode_event_key(body)
            except FAULTS:
                named = EventKey()
            return Refused(named.surface, named.event_id, body, fault)

    async def _read_each(self, body: bytes, fault: Exception) -> list[RecommendRequest | Refused]:
        """The requests of a batch that is wrong; its problem where event ids cannot mend that."""
        requests: list[RecommendRequest | Refused] = []
        try:
            for i, one in enumerate(self._decode_raw_batch(body).requests):
                requests.append(self._read(self._decode_recommend, bytes(one)))
                if i % BATCH_BREATH == BATCH_BREATH - 1:
                    await asyncio.sleep(0)
        except FAULTS:
            raise await explained(body, fault) from fault
        if any(isinstance(one, Refused) and one.event_id is None for one in requests):
            raise await explained(body, fault) from fault
        return requests

    async def _feedback(self, body: bytes, started: float) -> tuple[int, bytes]:
        try:
            request = self._decode_feedback(body)
        except FAULTS as fault:
            raise await explained(body, fault) from fault
        accepted: Accepted
        accepted, appended = await self._node.feedback.accept(request, started)
        self._node.note_feedback(appended, started)
        return 202, encode(accepted)


def _observer(metrics: Metrics, path: str) -> Callable[[float], None]:
    return metrics.request_seconds.labels(path).observe


def check_single(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Problem 400 for a header that may be sent once and was sent more often."""
    sent = Counter(name for name, _ in headers)
    for name in SINGLE & sent.keys():
        if sent[name] > 1:
            raise Problem(400, f"header {name.decode()} was sent {sent[name]} times: send it once")


def check_coding(headers: Mapping[bytes, bytes]) -> None:
    """Problem 415 for a body that is compressed or coded in another way."""
    coding = headers.get(b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"", b"identity"):
        detail = f"content encoding must be identity, got {coding.decode('latin-1')}"
        raise Problem(415, detail, headers={"Accept-Encoding": "identity"})


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """A request's whole JSON body; Problem 415 for another type, a coding, or none, 413 beyond limit bytes."""
    check_coding(headers)
    kind = headers.get(b"content-type")
    if kind is not None and kind.split(b";", 1)[0].strip().lower() != b"application/json":
        raise Problem(415, f"content type must be application/json, got {kind.decode('latin-1')}")
    announced = int(headers.get(b"content-length", b"0"))
    if announced > limit:
        raise Problem(413, f"body may have {limit} bytes, got {announced}", headers={"Connection": "close"})
    body = await _received(receive, limit)
    if kind is None and body:
        raise Problem(415, "content type must be application/json, got none")
    return body


async def _received(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise invalid("$", "not JSON: the connection ended before the body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise Problem(413, f"body may have {limit} bytes", headers={"Connection": "close"})
        more = message.get("more_body", False)
    return b"".join(parts)
