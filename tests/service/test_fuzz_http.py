"""Requests made from our OpenAPI document, sound and unsound: never 5xx, and no trace of what is refused."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import closing, suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from bandits.records import decode_frame
from service.log_sqlite import SqliteLog
from tests.service.processes import serving

RULES = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SHARES = {"/v1/recommend": 8, "/v1/recommend/batch": 6, "/v1/ad-load": 6, "/v1/feedback": 8}
"""Of the cases, against 1 of every other route."""
PARTITIONS = 8
SURFACES = '[surfaces.default]\n[surfaces.ads]\npolicy = "ad_load"\n'


class Seen:
    """What the answers say was taken, and receipts for later requests."""

    def __init__(self) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.decisions: set[str] = set()
        self.receipts: list[str] = []
        self.accepted = 0

    def note(self, path: str, response: Any) -> None:
        self.statuses[path, response.status_code] += 1
        if response.status_code == 202:
            self.accepted += response.json()["accepted"]
        elif response.status_code == 200 and path.startswith(("/v1/recommend", "/v1/ad-load")):
            reply = response.json()
            for decision in reply.get("decisions", [reply]):
                self.decisions.add(decision["decision_id"])
                self.receipts.append(decision["receipt"])


def likely(draw: Any, path: str, body: Any, seen: Seen) -> Any:
    """Often enough a body that our rules beyond the schema take; those keep the rest from being reached."""
    if not isinstance(body, dict) or draw(st.integers(0, 3)) == 0:
        return body
    if path == "/v1/recommend/batch" and isinstance(body.get("requests"), list):
        return body | {"requests": [likely(draw, "/v1/recommend", one, seen) for one in body["requests"]]}
    if path == "/v1/recommend":
        left_out = {"surface", draw(st.sampled_from(("embedding", "features")))}
        kept = {name: value for name, value in body.items() if name not in left_out}
        return kept | {"items": ["a", "b", "c"]} if draw(st.booleans()) else kept
    if path == "/v1/ad-load":
        kept = {name: value for name, value in body.items() if name != "allowed"}
        return kept | {"surface": "ads"} | ({"allowed": [2, 0]} if draw(st.booleans()) else {})
    if path == "/v1/feedback" and seen.receipts:
        receipt = draw(st.sampled_from(seen.receipts[-20:]))
        kept = {name: value for name, value in body.items() if name not in ("surface", "batch", "event_id")}
        events = draw(
            st.lists(st.sampled_from(({"kind": "impression"}, {"kind": "reward", "item": "a", "value": 1.0})))
        )
        return kept | {"receipt": receipt} | ({"events": events} if draw(st.booleans()) else {})
    return body


def play(operation: Any, mode: GenerationMode, cases: int, url: str, seen: Seen) -> None:
    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def send(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        sound = mode is GenerationMode.POSITIVE
        if sound and operation.method == "post":
            case.body = likely(data.draw, operation.path, case.body, seen)
        elif sound and data.draw(st.booleans()):
            case.path_parameters = dict.fromkeys(case.path_parameters, data.draw(st.sampled_from(("default", "ads"))))
        response = case.call(base_url=url)
        seen.note(operation.path, response)
        # The reply that is kept for an event_id is given whatever the body.
        refusing = not sound and "event_id" not in str(case.body)
        case.validate_response(response, checks=[*RULES, negative_data_rejection] if refusing else RULES)

    # A route without parameters has no unsound requests.
    with suppress(Unsatisfiable):
        send()


def test_no_request_is_answered_with_5xx_and_none_that_is_refused_leaves_a_trace(tmp_path, pytestconfig):
    seen, file = Seen(), tmp_path / "banditd.toml"
    file.write_text(SURFACES)
    with serving(tmp_path / "data", "--config", str(file)) as process:
        schema = schemathesis.openapi.from_url(f"{process.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        shares = {operation: SHARES.get(operation.path, 1) for operation in operations}
        unit = pytestconfig.getoption("cases") / (2 * sum(shares.values()))
        for operation, share in shares.items():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                play(operation, mode, round(unit * share), process.url, seen)
        assert httpx.get(f"{process.url}/readyz").json()["degraded"] == []
        assert process.end(signal.SIGTERM)[0] == 0
    with closing(SqliteLog(tmp_path / "data" / "log.sqlite", PARTITIONS)) as log:
        frames = [frame.body for p in range(PARTITIONS) for frame in log.read(p, 0, 10**6)]
    entries = [entry for frame in frames for entry in decode_frame(frame)]
    print(sorted(seen.statuses.items()))
    assert {entry.receipt.decision_id for entry in entries if entry.details is not None} == seen.decisions
    assert sum(len(entry.events) for entry in entries) == seen.accepted
    good_of = {"/v1/recommend": 200, "/v1/recommend/batch": 200, "/v1/ad-load": 200, "/v1/feedback": 202}
    for path, good in good_of.items():
        assert seen.statuses[path, good] > 10, f"{path}: hardly any request got through"
        assert seen.statuses[path, 422] > 10
