"""Bad input, case by case: status, document and path; nothing is logged or learned; the next request is served."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace

import pytest

from bandits.records import decode_receipt, encode_receipt
from service.receipts import Signer
from service.secret_files import secret
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import HOT, JSON, answered, refused
from tests.service.raw import chunked, head, listening, post

SURFACES = "[surfaces.home]\n[surfaces.shop]\n[surfaces.news]\n"
RECOMMEND, BATCH, FEEDBACK = HOT
DEEP = "[" * 100_000
LONG_IDS = [f"{i:04}" + "\U0001f600" * 124 for i in range(1000)]


@dataclass(frozen=True)
class Case:
    """A POST of a body, in which the names of receipts stand for them, and how it is refused.

    error   path of the only error; None: a refusal of the whole request, which has none
    says    words of its detail
    """

    path: str
    body: str | bytes
    status: int = 422
    error: str | None = "$"
    says: str = ""


def numbers(path: str, text: str, error: str) -> list[Case]:
    """All that is no number, in place of 7."""
    wrong = {
        "NaN": "$",
        "Infinity": "$",
        "-Infinity": "$",
        "1e999": error,
        "-1e999": error,
        '"1"': error,
        "true": error,
    }
    wrong |= {"9" * 400: error, "[1]": error, "{}": error}
    return [Case(path, text.replace("7", value), error=where) for value, where in wrong.items()]


def event(text: str, receipt: str = "GOOD", more: str = "") -> str:
    return f'{{"receipt":"{receipt}","events":[{text}]{more}}}'


REWARD = '{"kind":"reward","item":"a","value":1}'
CONTROL = ("\\u0000", "\\n", "\\u001b[2J", "\\u007f", "\\u200b", "\\u2028", "\\ue000", "\\u0085")
NUMBERS = [
    *numbers(FEEDBACK, event('{"kind":"reward","item":"a","value":7}'), "events[0].value"),
    *numbers(FEEDBACK, f'{{"batch":[{event(REWARD)},{event(REWARD.replace("1", "7"))}]}}', "batch[1].events[0].value"),
    *numbers(RECOMMEND, '{"items":["a"],"features":{"country=IN":7}}', 'features["country=IN"]'),
    *numbers(RECOMMEND, '{"items":["a"],"embedding":[0.5,7]}', "embedding[1]"),
    *numbers(RECOMMEND, '{"surface":"news","embedding":[7,0.5]}', "embedding[0]"),
    *numbers(RECOMMEND, '{"items":[{"id":"a","features":{"genre=jazz":7}}]}', 'items[0].features["genre=jazz"]'),
    *numbers(BATCH, '{"requests":[{"items":["a"],"features":{"x":7}}]}', 'requests[0].features["x"]'),
    Case(RECOMMEND, '{"items":["a"],"features":{"x":16.1}}', error='features["x"]'),
    Case(FEEDBACK, event('{"kind":"reward","item":"a","value":1.01}'), error="events[0].value"),
    Case(FEEDBACK, event('{"kind":"reward","item":"a","value":-0.01}'), error="events[0].value"),
    Case(FEEDBACK, event('{"kind":"reward","item":"a","value":null}'), error="events[0].value"),
]
SIZES = [
    Case(RECOMMEND, '{"surface":"news","embedding":[1,0,0]}', error="embedding"),
    Case(RECOMMEND, '{"surface":"news","embedding":[1]}', error="embedding"),
    Case(RECOMMEND, '{"surface":"news","embedding":[]}', error="embedding"),
    Case(RECOMMEND, json.dumps({"items": ["a"], "embedding": [0.1] * 129}), error="embedding"),
    Case(RECOMMEND, '{"items":["a","b","a"]}', error="items[2]"),
    Case(RECOMMEND, json.dumps({"items": [f"i{k}" for k in range(1001)]}), error="items", says="1001"),
    Case(
        RECOMMEND,
        json.dumps({"items": LONG_IDS[:100], "features": dict.fromkeys("abcdefghij", 1.0), "n": 100}),
        error="n",
    ),
    Case(
        RECOMMEND,
        json.dumps({"items": [f"i{k}" for k in range(100)], "features": {f"f{k}": 1 for k in range(20)}, "n": 100}),
        error="n",
        says="2110",
    ),
    Case(RECOMMEND, json.dumps({"items": ["a"], "features": {f"f{k}": 1 for k in range(257)}}), error="features"),
    Case(RECOMMEND, json.dumps({"items": LONG_IDS, "n": 1}, ensure_ascii=False), error="items", says="log entry"),
    Case(BATCH, json.dumps({"requests": [{"items": []}] * 1025}), error="requests"),
    Case(
        BATCH, json.dumps({"requests": [{"items": ["a"]}] * 9 + [{"items": ["a", "a"]}]}), error="requests[9].items[1]"
    ),
]
RECEIPTS = [
    Case(FEEDBACK, event(REWARD, "FORGED"), 400, None, "forged"),
    Case(FEEDBACK, event(REWARD, "EXPIRED"), 400, None, "expired"),
    Case(FEEDBACK, event(REWARD, "CUT"), 400, None, "cut"),
    Case(FEEDBACK, event(REWARD, "SHORT"), 400, None, "cut"),
    Case(FEEDBACK, event(REWARD, ""), 400, None, "cut"),
    Case(FEEDBACK, event(REWARD, "caf\u00e9"), 400, None, "base64url"),
    Case(FEEDBACK, event(REWARD, "GOOD", ',"surface":"shop"'), 400, None, "of surface 'home', not 'shop'"),
    Case(
        FEEDBACK, f'{{"batch":[{event(REWARD)},{event(REWARD, "EXPIRED")}]}}', 400, None, "batch[1]: receipt is expired"
    ),
    Case(FEEDBACK, event('{"kind":"reward","item":"c","value":1}'), error="events[0].item", says="not served"),
    Case(FEEDBACK, event('{"kind":"impression","item":"c"}'), error="events[0].item", says="not served"),
    Case(FEEDBACK, event('{"kind":"reward","value":1}'), error="events[0].item"),
    Case(FEEDBACK, '{"event_id":"never asked","events":[]}', 404, None, "never asked"),
    Case(FEEDBACK, f'{{"batch":[{event(REWARD)},{{"event_id":"x","events":[]}}]}}', 404, None, "batch[1]"),
    Case(FEEDBACK, event(REWARD, "GOOD", ',"event_id":"x"'), error="event_id"),
    Case(RECOMMEND, '{"surface":"nope","items":["a"]}', 404, None, "nope"),
    Case(BATCH, '{"requests":[{"items":["a"]},{"surface":"nope","items":["a"]}]}', 404, None, "requests[1]"),
    Case(FEEDBACK, event(REWARD, "GOOD", ',"surface":"nope"'), 404, None, "nope"),
]
NOT_JSON = [
    *(
        Case(path, body)
        for path in HOT
        for body in (b"", b'{"user":"\xff"}', b'{"user":"\xed\xa0\x80"}', b'{"user":"\xc0\x80"}')
    ),
    *(Case(path, body) for path in HOT for body in (b'"\\ud800"', b"\xef\xbb\xbf{}", b'{"a":1,}', b"{} {}", b"\x00")),
    *(Case(path, DEEP + end) for path in HOT for end in ("", "]" * 100_000)),
    Case(RECOMMEND, '{"features":' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}"),
    Case(FEEDBACK, '{"batch":' + DEEP),
]
CONTROLS = [
    Case(path, text.replace("X", f"a{control}b"), error=error)
    for control in CONTROL
    for path, text, error in (
        (RECOMMEND, '{"items":["a","X"]}', "items[1]"),
        (RECOMMEND, '{"items":["a",{"id":"X"}]}', "items[1]"),
        (RECOMMEND, '{"items":["a"],"user":"X"}', "user"),
        (RECOMMEND, '{"items":["a"],"exclude":["b","X"]}', "exclude[1]"),
        (RECOMMEND, '{"items":["a"],"event_id":"X"}', "event_id"),
        (FEEDBACK, '{"event_id":"X","events":[]}', "event_id"),
        (FEEDBACK, event('{"kind":"reward","item":"X","value":1}'), "events[0].item"),
    )
]
CASES = [*NUMBERS, *SIZES, *RECEIPTS, *NOT_JSON, *CONTROLS]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all cases; the surface news has a graph in two dimensions."""
    with listening(tmp_path_factory.mktemp("bad") / "data", SURFACES) as server:
        answered(server.upload(small_graph().to_bytes(), "news"), 200)
        yield server


@pytest.fixture(scope="module")
def receipts(server):
    """By name: a good receipt of items a and b on home, and what can be wrong with one."""
    good = server.recommend(items=["a", "b"])["receipt"]
    signer = Signer([secret(server.node.data.path / "receipt_secret")])
    receipt = decode_receipt(signer.open(good))
    expired = replace(receipt, issued_us=receipt.issued_us - 10**12, expires_us=time.time_ns() // 1000 - 1)
    return {
        "GOOD": good,
        "FORGED": Signer([bytes(32)]).seal(encode_receipt(receipt)),
        "EXPIRED": signer.seal(encode_receipt(expired)),
        "CUT": good[: len(good) // 8 * 4],
        "SHORT": good[:8],
    }


def state(server):
    """What is in the log, and everything that was learned."""
    cells = [server.cells(name, "?all") for name in ("home", "shop", "news")]
    return [server.node.data.log.bounds(p) for p in range(server.node.data.log.partitions)], cells


@pytest.fixture
def untouched(server, receipts):
    """Neither log nor state change, and the next request is served and its feedback taken."""
    before = state(server)
    yield
    assert state(server) == before
    decision = server.recommend(items=["a", "b"])
    server.reward(decision, 1.0)


@pytest.mark.usefixtures("untouched")
class TestRefused:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.path[4:]} {case.error} {case.body[:60]!r}")
    def test_a_case(self, server, receipts, case):
        body = case.body if isinstance(case.body, bytes) else case.body.encode()
        for name, receipt in receipts.items():
            body = body.replace(b'"' + name.encode() + b'"', b'"' + receipt.encode() + b'"')
        response = server.request("POST", case.path, content=body, headers=JSON)
        assert case.says in refused(response, case.status, case.error)["detail"]

    def test_a_receipt_with_any_bit_flipped(self, server, receipts):
        """Of its version, key, content and signature."""
        token = bytearray(urlsafe_b64decode(receipts["GOOD"] + "=="))
        for i in range(len(token)):
            token[i] ^= 1 << i % 8
            flipped = urlsafe_b64encode(token).rstrip(b"=").decode()
            token[i] ^= 1 << i % 8
            refused(server.post(FEEDBACK, {"receipt": flipped, "events": [json.loads(REWARD)]}), 400)

    @pytest.mark.parametrize("path", HOT)
    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json", "application/json+x"],
    )
    def test_another_content_type(self, server, path, kind):
        refused(server.request("POST", path, content=b'{"items":["a"]}', headers={"content-type": kind}), 415)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
    @pytest.mark.parametrize("path", [*HOT, "/v1/surfaces/home", "/livez"])
    def test_another_method(self, server, path, method):
        if method != "GET" or path in HOT:
            refused(server.request(method, path, content=b'{"items":["a"]}', headers=JSON), 405)

    @pytest.mark.parametrize("mb", [2, 60])
    @pytest.mark.parametrize("coding", ["length", "chunked"])
    def test_a_body_that_is_too_large(self, server, receipts, mb, coding):
        """A good request, but for the spaces around it; to /v1/feedback 2 MB may come, if they are JSON."""
        space = b" " * (mb * 10**6)
        for path, text in ((RECOMMEND, '{"items":["a"]}'), (FEEDBACK, event(REWARD, receipts["GOOD"]) + "x")):
            body = space + text.encode()
            with server.raw() as raw:
                if coding == "length":
                    raw.send(post(path, body))
                else:
                    raw.send(post(path, chunked(body), "transfer-encoding: chunked"))
                reply = raw.reply()
                assert reply.status == reply.problem["status"] == (422 if path == FEEDBACK and mb == 2 else 413)

    def test_a_whole_request_in_a_body_that_breaks_off(self, server, receipts):
        """What came would be JSON: the connection ends before what was announced."""
        for path, text in ((RECOMMEND, '{"items":["a"]}'), (FEEDBACK, event(REWARD, receipts["GOOD"]))):
            body = text.encode()
            for sent in (
                post(path, body, f"content-length: {len(body) + 1}"),
                post(path, chunked(body)[:-5], "transfer-encoding: chunked"),
            ):
                with server.outliving(), server.raw() as raw:
                    raw.send(sent)
            with server.raw() as raw:
                raw.send(post(path, chunked(body)[:-5] + b"no chunk", "transfer-encoding: chunked"))
                assert raw.reply().problem["status"] == 400

    @pytest.mark.parametrize(
        "target",
        [
            "/v1/surfaces/nope",
            "/v1/surfaces/nope/cells",
            "/v1/surfaces/%00",
            "/v1/surfaces/home/cells?limit=0",
            "/v1/surfaces/home/cells?cursor=%ff",
            "/v1/surfaces/home/cells?all=2",
        ],
    )
    def test_a_wrong_query(self, server, target):
        with server.raw() as raw:
            raw.send(head("GET", target))
            assert raw.reply().problem["status"] in (404, 422)
