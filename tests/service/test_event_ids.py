"""Event ids: one reply to each, whoever asks, whatever the body, also after a restart; only its decision is logged."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from bandits.records import DECISION
from service.kept_replies import RepliesUnavailable
from tests.service.harness import JSON, answered, refused, running
from tests.service.processes import serving

TWO = "[server]\npartitions = 2\n[surfaces.home]\n[surfaces.shop]\n"
BODY = {"event_id": "e1", "items": ["a", "b", "c"]}


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", TWO) as server:
        yield server


def decisions(server):
    return [entry for entry in server.entries() if entry.kind == DECISION]


def lost(server):
    server.settle()
    server.get("/metrics")
    return server.node.metrics.registry.get_sample_value("banditd_decisions_lost_total")


def counted(server, outcome):
    return server.node.metrics.registry.get_sample_value("banditd_event_ids_total", {"outcome": outcome}) or 0.0


def at_once(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


class Gate:
    """Lets no call of a method of kept replies through before it is opened; counts the calls."""

    def __init__(self, monkeypatch, replies, name):
        self.reached, self.opened, self.calls = threading.Event(), threading.Event(), 0
        self._call = getattr(replies, name)
        monkeypatch.setattr(replies, name, self)

    def __call__(self, *given):
        self.calls += 1
        self.reached.set()
        assert self.opened.wait(30)
        return self._call(*given)


class TestTheFirstReply:
    @pytest.mark.parametrize(
        "again",
        [
            {},
            {"items": ["z"], "n": 1, "user": "other", "explain": True},
            {"items": ["a", "a"]},
            {"items": None},
            {"n": 0},
            {"user": "\u200b"},
            {"unknown": 1},
            {"features": {"x": "text"}},
            {"embedding": [1.0], "features": {}},
        ],
    )
    def test_is_the_reply_to_every_body(self, server, again):
        first = server.post("/v1/recommend", BODY | {"explain": True})
        assert answered(first, 200)["items"][0]["contributions"]
        second = server.post("/v1/recommend", BODY | again)
        assert (second.status_code, second.content) == (200, first.content)
        batch = server.post("/v1/recommend/batch", {"requests": [BODY | again]})
        assert batch.content == b'{"decisions":[' + first.content + b"]}"
        (entry,) = decisions(server)
        assert entry.details.event_id == "e1"
        assert (counted(server, "kept"), counted(server, "repeated")) == (1.0, 2.0)

    def test_is_of_its_surface_and_the_first_surface_is_the_default(self, server):
        first = server.recommend(**BODY)
        assert server.recommend(**BODY, surface="home") == first
        assert server.recommend(**BODY, surface="shop")["decision_id"] != first["decision_id"]
        assert {(e.receipt.surface, e.details.event_id) for e in decisions(server)} == {("home", "e1"), ("shop", "e1")}

    def test_is_kept_over_a_restart(self, tmp_path, server):
        first = server.recommend(**BODY)
        server.stop()
        with running(tmp_path / "data", TWO) as again:
            assert again.recommend(event_id="e1") == first
            assert len(decisions(again)) == 1
            body = {"event_id": "e1", "events": [{"kind": "reward", "item": "a", "value": 1.0}]}
            assert answered(again.post("/v1/feedback", body), 202) == {"accepted": 1}
            assert again.cells("home")["surface"] == {"name": "home", "impressions": 3, "reward": 1.0}

    def test_is_kept_over_a_kill(self, tmp_path):
        with serving(tmp_path / "killed") as process:
            first = process.post("/v1/recommend", BODY)
            assert first.status_code == 200
            process.end(signal.SIGKILL)
        with serving(tmp_path / "killed") as process:
            assert process.post("/v1/recommend", {"event_id": "e1"}).content == first.content
            body = {"event_id": "e1", "events": [{"kind": "reward", "item": "a", "value": 1.0}]}
            assert process.post("/v1/feedback", body).status_code == 202

    def test_is_forgotten_after_event_ttl_s(self, server, monkeypatch):
        first = server.recommend(**BODY)
        now = server.node.event_ids.clock_us
        monkeypatch.setattr(server.node.event_ids, "clock_us", lambda: now() + 7200 * 10**6 - 10**6)
        assert server.recommend(**BODY) == first
        monkeypatch.setattr(server.node.event_ids, "clock_us", lambda: now() + 7201 * 10**6)
        body = {"event_id": "e1", "events": []}
        assert "event_id 'e1' on surface 'home'" in refused(server.post("/v1/feedback", body), 404)["detail"]
        assert server.recommend(**BODY)["decision_id"] != first["decision_id"]
        assert answered(server.post("/v1/feedback", body), 202) == {"accepted": 0}

    def test_that_has_expired_is_removed(self, server, monkeypatch):
        for i in range(3):
            server.recommend(event_id=f"e{i}", items=["a"])
        now = server.node.event_ids.clock_us
        monkeypatch.setattr(server.node.event_ids, "clock_us", lambda: now() + 7201 * 10**6)
        server.on_loop(server.node.event_ids.expire())
        assert server.node.data.replies.find([("home", f"e{i}") for i in range(3)], 0) == [None] * 3


class TestRefusals:
    def test_a_first_request_that_is_wrong_is_refused_and_keeps_nothing(self, server):
        refused(server.post("/v1/recommend", BODY | {"items": ["a", "a"]}), 422, "items[1]")
        refused(server.post("/v1/recommend", BODY | {"n": 0}), 422, "n")
        body = b'{"event_id": "e1", "n": 1e999}'
        refused(server.request("POST", "/v1/recommend", content=body, headers=JSON), 422, "n")
        refused(server.request("POST", "/v1/recommend", content=body[:-1], headers=JSON), 422, "$")
        assert server.frames() == []
        assert server.recommend(**BODY)["items"]

    def test_an_unknown_surface_and_an_unprintable_id_come_first(self, server):
        server.recommend(**BODY)
        refused(server.post("/v1/recommend", BODY | {"surface": "nope", "n": 0}), 404)
        refused(server.post("/v1/recommend", {"event_id": "e\n1", "n": 0}), 422, "event_id")
        requests = {"requests": [BODY, {"event_id": "e\n1"}]}
        refused(server.post("/v1/recommend/batch", requests), 422, "requests[1].event_id")
        refused(server.post("/v1/recommend", {"event_id": "x" * 129, "items": []}), 422, "event_id")
        refused(server.post("/v1/recommend", {"event_id": "", "items": []}), 422, "event_id")

    def test_one_that_is_wrong_in_a_batch_refuses_all_and_keeps_nothing(self, server):
        good = [{"items": ["a"], "event_id": f"e{i}"} for i in range(3)]
        for bad, path in [({"items": ["a", "a"], "event_id": "e9"}, "items[1]"), ({"n": 0, "event_id": "e9"}, "n")]:
            response = server.post("/v1/recommend/batch", {"requests": [*good, {"items": ["b"]}, bad]})
            refused(response, 422, f"requests[4].{path}")
        assert server.frames() == []
        server.recommend_many([*good, {"items": ["b"]}])
        assert len(decisions(server)) == 4
        assert lost(server) == 0.0

    @pytest.mark.parametrize("path", ["/v1/recommend", "/v1/recommend/batch"])
    def test_a_reply_that_cannot_be_kept_is_not_given_and_not_logged(self, server, monkeypatch, path):
        """The ordinals of what was refused go to the decisions that come: none of these is taken for lost."""

        def fail(replies, now_us):
            raise RepliesUnavailable("disk full")

        bodies = [BODY | {"event_id": f"e{i}", "user": "u"} for i in range(3)]
        sent = bodies if path == "/v1/recommend" else [{"requests": bodies}]
        with monkeypatch.context() as patched:
            patched.setattr(server.node.data.replies, "keep", fail)
            for body in sent:
                response = server.post(path, body)
                assert "retry is safe: their file cannot be read or written" in refused(response, 503)["detail"]
                assert response.headers["retry-after"] == "1"
            assert "event ids" in answered(server.get("/readyz"), 200)["degraded"][0]
            server.recommend(items=["a"], user="u")
        server.settle()
        assert counted(server, "unavailable") == 3.0
        assert len(decisions(server)) == 1
        for body in sent:
            answered(server.post(path, body), 200)
        assert answered(server.get("/readyz"), 200)["degraded"] == []
        assert sorted(e.receipt.ordinal for e in decisions(server)) == [0, 1, 2, 3]
        assert lost(server) == 0.0

    def test_what_cannot_be_looked_up_is_503(self, server, monkeypatch):
        def fail(keys, now_us):
            raise RepliesUnavailable("disk gone")

        monkeypatch.setattr(server.node.data.replies, "find", fail)
        for path, body in [("/v1/recommend", BODY), ("/v1/feedback", {"event_id": "e1", "events": []})]:
            response = server.post(path, body)
            refused(response, 503)
            assert response.headers["retry-after"] == "1"
        assert server.recommend(items=["a"])["items"]

    def test_beyond_max_arms_the_reply_is_kept_and_nothing_learned(self, tmp_path):
        with running(tmp_path / "full", "[surfaces.home]\nmax_arms = 2\n") as server:
            server.recommend(items=["a", "b"])
            server.settle()
            over = server.recommend(event_id="e1", items=["c"])
            assert server.recommend(event_id="e1") == over
            body = {"event_id": "e1", "events": [{"kind": "impression"}]}
            assert answered(server.post("/v1/feedback", body), 202) == {"accepted": 1, "not_learned": 1}
            assert len(decisions(server)) == 1


class TestRaces:
    def test_all_get_the_winners_reply_and_only_that_is_logged(self, server):
        calls = [lambda i=i: server.post("/v1/recommend", BODY | {"user": f"u{i}"}) for i in range(40)]
        assert len({answered(reply, 200)["decision_id"] for reply in at_once(calls)}) == 1
        assert len(decisions(server)) == 1
        assert lost(server) == 0.0

    def test_those_who_waited_for_one_that_is_refused_try_anew(self, server, monkeypatch):
        gate = Gate(monkeypatch, server.node.data.replies, "find")
        with ThreadPoolExecutor(9) as pool:
            wrong = pool.submit(server.post, "/v1/recommend", BODY | {"items": ["a", "a"]})
            assert gate.reached.wait(30)
            others = [pool.submit(server.post, "/v1/recommend", BODY) for _ in range(8)]
            gate.opened.set()
            refused(wrong.result(), 422, "items[1]")
            assert len({answered(one.result(), 200)["decision_id"] for one in others}) == 1
        assert len(decisions(server)) == 1

    def test_batches_that_name_the_same_ids_in_other_orders_all_end(self, server):
        ids = [f"e{i}" for i in range(6)]
        orders = [ids[k:] + ids[:k] for k in range(6)] * 3
        bodies = [{"requests": [{"event_id": one, "items": ["a"]} for one in order]} for order in orders]
        replies = at_once([lambda body=body: server.post("/v1/recommend/batch", body) for body in bodies])
        found = {
            (one, decision["decision_id"])
            for order, reply in zip(orders, replies, strict=True)
            for one, decision in zip(order, answered(reply, 200)["decisions"], strict=True)
        }
        assert len(found) == 6
        assert len(decisions(server)) == 6

    def test_requests_that_come_during_a_sync_share_the_next(self, server, monkeypatch):
        gate = Gate(monkeypatch, server.node.data.replies, "keep")
        bodies = [BODY | {"event_id": f"e{i}"} for i in range(20)]
        with ThreadPoolExecutor(20) as pool:
            replies = [pool.submit(server.post, "/v1/recommend", bodies[0])]
            assert gate.reached.wait(30)
            replies += [pool.submit(server.post, "/v1/recommend", body) for body in bodies[1:]]
            while server.node.event_ids.waiting < 19:
                pass
            gate.opened.set()
            assert {reply.result().status_code for reply in replies} == {200}
        assert gate.calls == 2

    def test_a_reply_is_kept_before_its_decision_is_logged(self, server, monkeypatch):
        gate = Gate(monkeypatch, server.node.data.replies, "keep")
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(server.post, "/v1/recommend", BODY)
            assert gate.reached.wait(30)
            assert (server.frames(), server.node.writer.queued_bytes, reply.done()) == ([], 0, False)
            gate.opened.set()
            answered(reply.result(), 200)
        assert len(decisions(server)) == 1

    def test_what_another_server_has_kept_meanwhile_is_answered_and_not_logged_again(self, server, monkeypatch):
        first = server.post("/v1/recommend", BODY)
        with monkeypatch.context() as patched:
            patched.setattr(server.node.data.replies, "find", lambda keys, now_us: [None] * len(keys))
            assert server.post("/v1/recommend", BODY).content == first.content
        server.recommend(event_id="e2", items=["a"])
        assert len(decisions(server)) == 2
        assert lost(server) == 0.0


class TestBatches:
    def test_with_and_without_ids_in_their_places(self, server):
        first = server.recommend(event_id="e1", items=["a"])
        requests = [{"items": ["x"]}, {"event_id": "e2", "items": ["b"]}, {"event_id": "e1"}, {"items": ["y"]}]
        served = server.recommend_many([*requests, {"event_id": "e2"}])
        assert [d["items"][0]["id"] for d in served] == ["x", "b", "a", "y", "b"]
        assert served[2] == first
        assert served[1] == served[4]
        assert server.recommend(event_id="e2") == served[1]
        logged = [(e.receipt.positions[0].item, e.details.event_id) for e in decisions(server)]
        assert sorted(logged, key=str) == sorted([("a", "e1"), ("b", "e2"), ("x", None), ("y", None)], key=str)
        assert lost(server) == 0.0


class TestFeedback:
    def test_counts_as_by_the_receipt(self, server):
        decision = server.recommend(**BODY)
        one = {"event_id": "e1", "events": [{"kind": "impression"}, {"kind": "reward", "item": "b", "value": 0.5}]}
        assert answered(server.post("/v1/feedback", one), 202) == {"accepted": 2}
        assert answered(server.post("/v1/feedback", one | {"surface": "home"}), 202) == {"accepted": 2}
        by_receipt = {"receipt": decision["receipt"], "events": one["events"]}
        assert answered(server.post("/v1/feedback", {"batch": [one, by_receipt, one]}), 202) == {"accepted": 6}
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 3, "reward": 0.5}

    @pytest.mark.parametrize(
        ("body", "status", "path"),
        [
            ({"event_id": "e2"}, 404, None),
            ({"event_id": "e1", "surface": "shop"}, 404, None),
            ({"event_id": "e1", "surface": "nope"}, 404, None),
            ({"event_id": "e\n"}, 422, "event_id"),
            ({"event_id": "e1", "receipt": "x"}, 422, "event_id"),
            ({"event_id": "e1", "events": [{"kind": "reward", "item": "z", "value": 1.0}]}, 422, "events[0].item"),
        ],
    )
    def test_that_is_refused_leaves_no_trace(self, server, body, status, path):
        server.recommend(**BODY)
        before = len(server.frames())
        body = {"events": []} | body
        refused(server.post("/v1/feedback", body), status, path)
        batch = {"batch": [{"event_id": "e1", "events": [{"kind": "impression"}]}, body]}
        problem = refused(server.post("/v1/feedback", batch), status, path and f"batch[1].{path}")
        assert problem["detail"].startswith("batch[1]")
        assert len(server.frames()) == before

    def test_beside_a_batch_it_is_refused(self, server):
        refused(server.post("/v1/feedback", {"batch": [], "event_id": "e1"}), 422, "event_id")

    def test_waits_for_a_recommendation_under_way(self, server, monkeypatch):
        gate = Gate(monkeypatch, server.node.data.replies, "keep")
        with ThreadPoolExecutor(2) as pool:
            served = pool.submit(server.post, "/v1/recommend", BODY)
            assert gate.reached.wait(30)
            event = {"kind": "reward", "item": "a", "value": 1.0}
            posted = pool.submit(server.post, "/v1/feedback", {"event_id": "e1", "events": [event]})
            gate.opened.set()
            answered(served.result(), 200)
            answered(posted.result(), 202)
        assert server.cells("home")["surface"]["reward"] == 1.0

    def test_of_an_expired_receipt_is_400(self, tmp_path, monkeypatch):
        with running(tmp_path / "short", "[receipts]\nttl_s = 1\n") as server:
            server.recommend(**BODY)
            (entry,) = decisions(server)
            monkeypatch.setattr(
                "service.feedback.time", SimpleNamespace(time_ns=lambda: 1000 * (entry.receipt.expires_us + 1))
            )
            assert "expired" in refused(server.post("/v1/feedback", {"event_id": "e1", "events": []}), 400)["detail"]


def test_a_reply_is_json_as_any_other(server):
    plain, named = (server.post("/v1/recommend", {"items": ["a"]} | more) for more in ({}, {"event_id": "e1"}))
    assert json.loads(plain.content).keys() == json.loads(named.content).keys()
    assert plain.headers["content-type"] == named.headers["content-type"] == "application/json"
