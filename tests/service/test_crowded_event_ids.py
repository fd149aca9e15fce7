"""Event ids by the thousand, and while their file fails: others get their turn, nobody waits for one after another."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.event_ids import FIND_AT_ONCE
from service.feedback import BREATH
from service.kept_replies import RepliesUnavailable
from service.log import LogUnavailable
from service.problems import Problem
from service.schemas import FeedbackOne, FeedbackRequest, RecommendRequest
from tests.service.harness import JSON, answered, refused, running

PATH = "/srv/somewhere/replies.sqlite"


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data") as server:
        yield server


async def turns_of(work):
    """How often a task gave the loop away, and what it raised; nothing may make it wait."""
    task = asyncio.create_task(work)
    count = 0
    while not task.done():
        await asyncio.sleep(0)
        count += 1
    return count, task.exception()


class TestManyIds:
    def test_another_look_up_does_not_wait_for_all_of_them(self, server, monkeypatch):
        find, sizes = server.node.data.replies.find, []

        def noting(keys, now_us):
            sizes.append(len(keys))
            return find(keys, now_us)

        async def both():
            many = asyncio.create_task(server.node.event_ids.find([("default", f"e{i}") for i in range(5000)]))
            await asyncio.sleep(0)
            await server.node.event_ids.find([("default", "other")])
            before_it = many.done()
            await many
            return before_it

        monkeypatch.setattr(server.node.data.replies, "find", noting)
        assert not server.on_loop(both())
        assert sum(sizes) == 5001
        assert max(sizes) <= FIND_AT_ONCE + 1

    def test_those_of_a_feedback_batch_are_collected_and_found_by_and_by(self, server, monkeypatch):
        sizes = []

        async def find(keys):
            sizes.append(len(keys))
            return {}

        monkeypatch.setattr(server.node.event_ids, "find", find)
        request = FeedbackRequest(batch=[FeedbackOne([], event_id=f"e{i}") for i in range(20 * BREATH)])
        count, fault = server.on_loop(turns_of(server.node.feedback.accept(request, 0.0)))
        assert count >= 20
        assert isinstance(fault, Problem)
        assert fault.detail.startswith("batch[0]: unknown event_id 'e0'")
        assert sum(sizes) == 20 * BREATH
        assert max(sizes) <= FIND_AT_ONCE

    def test_a_batch_has_an_end_which_the_document_names(self, server):
        body = b'{"batch":[' + b",".join([b'{"events":[]}'] * 100_001) + b"]}"
        problem = refused(server.request("POST", "/v1/feedback", content=body, headers=JSON), 422, "batch")
        assert "100000" in problem["detail"]
        document = answered(server.get("/openapi.json"), 200)
        batch = document["components"]["schemas"]["FeedbackRequest"]["properties"]["batch"]
        assert [one["maxItems"] for one in batch["anyOf"] if one.get("type") == "array"] == [100_000]


class TestWrongRequests:
    BODY = b'{"requests":[' + b",".join(b'{"event_id":"e%d","n":"x"}' % i for i in range(1024)) + b"]}"

    def test_a_batch_of_them_lets_others_in_between(self, server, monkeypatch):
        """Nothing is looked up, so that each turn of the loop is one that the reading gave away by itself."""
        seen = []

        async def batch(requests):
            seen.append(len(requests))
            return []

        async def receive():
            return {"type": "http.request", "body": self.BODY}

        async def send(message):
            seen.append(message.get("status"))

        monkeypatch.setattr(server.node.answers, "batch", batch)
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/recommend/batch", "headers": headers}
        count, fault = server.on_loop(turns_of(server.app(scope, receive, send)))
        assert fault is None
        assert seen[:2] == [1024, 200]
        assert count >= 32

    def test_are_explained_only_where_no_reply_is_kept(self, server, monkeypatch):
        explained = []

        async def noting(body, fault):
            explained.append(body)
            return Problem(422, "as told")

        for target in ("service.hot_routes.explained", "service.answers.explained"):
            monkeypatch.setattr(target, noting)
        first = server.recommend_many([{"event_id": f"e{i}", "items": ["a"]} for i in range(1000)])
        wrong = [{"event_id": f"e{i}", "n": "x"} for i in range(1000)]
        assert server.recommend_many(wrong) == first
        assert explained == []
        new = [{"event_id": f"new{i}", "n": i} for i in ("x", "y")]
        response = server.post("/v1/recommend/batch", {"requests": wrong + new})
        assert refused(response, 422)["detail"] == "requests[1000]: as told"
        assert len(explained) == 1


class TestFailure:
    @pytest.mark.parametrize("method", ["find", "keep"])
    def test_who_waits_for_an_id_is_told_what_its_holder_was_told(self, server, monkeypatch, method):
        """Six requests of two ids, all there before the first call ends: one call, not one after the other."""
        opened, calls = threading.Event(), []

        def fail(rows, now_us):
            calls.append(len(rows))
            assert opened.wait(30)
            raise RepliesUnavailable(f"{PATH}: database is locked")

        async def all_at_once():
            asked = [RecommendRequest(event_id=f"e{i % 2}", items=["a"]) for i in range(6)]
            tasks = [asyncio.create_task(server.node.answers.one(request)) for request in asked]
            while not calls:
                await asyncio.sleep(0)
            opened.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        with monkeypatch.context() as patched:
            patched.setattr(server.node.data.replies, method, fail)
            faults = server.on_loop(all_at_once())
        assert calls == [2]
        assert [fault.status for fault in faults] == [503] * 6
        assert {fault.headers["Retry-After"] for fault in faults} == {"1"}
        counted = server.node.metrics.registry.get_sample_value
        assert counted("banditd_event_ids_total", {"outcome": "unavailable"}) == 6.0
        assert server.recommend(event_id="e0", items=["a"])["items"]
        assert server.get("/readyz").json()["degraded"] == []

    def test_a_call_that_meets_the_end_of_the_server_is_503(self, server, monkeypatch):
        """The thread takes no more calls, while the request is still on its way."""

        def submit(self, call, *given):
            raise RuntimeError("cannot schedule new futures after shutdown")

        with monkeypatch.context() as patched:
            patched.setattr(ThreadPoolExecutor, "submit", submit)
            refused(server.post("/v1/recommend", {"event_id": "e", "items": ["a"]}), 503)
            with pytest.raises(RepliesUnavailable, match="the server ends"):
                server.on_loop(server.node.event_ids.expire())
        assert server.recommend(event_id="e", items=["a"])["items"]

    def test_the_path_of_the_replies_is_for_the_log_only(self, server, monkeypatch, caplog):
        caplog.set_level(logging.WARNING)

        def fail(rows, now_us):
            raise RepliesUnavailable(f"{PATH}: disk I/O error")

        for method in ("find", "keep"):
            with monkeypatch.context() as patched:
                patched.setattr(server.node.data.replies, method, fail)
                problem = refused(server.post("/v1/recommend", {"event_id": method, "items": ["a"]}), 503)
            assert "cannot be read or written" in problem["detail"]
            assert "/" not in problem["detail"]
        assert PATH in caplog.text

    def test_the_path_of_the_log_is_for_the_log_only(self, server, monkeypatch, caplog):
        caplog.set_level(logging.WARNING)
        receipt = server.recommend(items=["a"])["receipt"]
        server.settle()

        def fail(frames):
            raise LogUnavailable("/srv/somewhere/log.sqlite: disk I/O error")

        with monkeypatch.context() as patched:
            patched.setattr(server.node.data.log, "append", fail)
            problem = refused(
                server.post("/v1/feedback", {"receipt": receipt, "events": [{"kind": "impression"}]}), 503
            )
        assert problem["detail"] == "outcome unknown, retry is safe: the log cannot be written"
        assert "/srv/somewhere/log.sqlite" in caplog.text
