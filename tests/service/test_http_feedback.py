"""Feedback over HTTP: what is refused leaves no trace, what is accepted counts exactly once."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from service.feedback import BREATH
from service.log import Appended, LogUnavailable
from service.problems import Problem
from service.receipts import Signer
from service.schemas import EventIn, FeedbackOne, FeedbackRequest
from service.secret_files import secret
from tests.service.harness import JSON, SURFACES, answered, refused, running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all requests that are refused; it serves two surfaces."""
    with running(tmp_path_factory.mktemp("http") / "data", SURFACES) as server:
        yield server


@pytest.fixture(scope="module")
def decision(server):
    return server.recommend(surface="shop", items=["a", "b"], deferred=True)


@pytest.fixture
def untouched(server, decision):
    """A refused request leaves no trace in the log."""
    before = len(server.frames())
    yield
    assert len(server.frames()) == before


def send(server, path, body):
    return server.request("POST", path, content=body, headers=JSON)


def reward(item="a", value=1.0, **more):
    return {"kind": "reward", "item": item, "value": value, **more}


@pytest.mark.usefixtures("untouched")
class TestFeedbackThatIsRefused:
    def refused(self, server, decision, event, path, status=422):
        """Alone, and as the last of a batch whose others are good."""
        body = {"receipt": decision["receipt"], "events": [event]}
        refused(server.post("/v1/feedback", body), status, path)
        good = {"receipt": decision["receipt"], "events": [{"kind": "impression"}, reward()]}
        bad = body | {"events": [{"kind": "impression"}, event]}
        path = f"batch[3].{path.replace('events[0]', 'events[1]')}"
        refused(server.post("/v1/feedback", {"batch": [good] * 3 + [bad]}), status, path)

    @pytest.mark.parametrize(
        ("event", "path"),
        [
            (reward("c"), "item"),
            ({"kind": "impression", "item": "z"}, "item"),
            ({"kind": "reward", "value": 1.0}, "item"),
            (reward(name="purchase"), "name"),
            (reward(value=1.5), "value"),
            (reward(name="stars", value=-5.5), "value"),
            (reward(value=None), "value"),
            (reward(value="1"), "value"),
            ({"kind": "impression", "item": "a", "value": 1.0}, "value"),
            ({"kind": "impression", "item": "a", "name": "click"}, "name"),
            ({"kind": "click", "item": "a"}, "kind"),
            ({"item": "a", "value": 1.0}, "kind"),
            (reward(weight=3), "weight"),
        ],
    )
    def test_a_wrong_event(self, server, decision, event, path):
        self.refused(server, decision, event, f"events[0].{path}")

    def test_a_number_beyond_a_double(self, server, decision):
        text = json.dumps({"batch": [{"receipt": decision["receipt"], "events": [reward(value=777)]}]})
        refused(send(server, "/v1/feedback", text.replace("777", "1e999")), 422, "batch[0].events[0].value")

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            ({}, "events"),
            ({"events": []}, "receipt"),
            ({"receipt": "x"}, "events"),
            ({"batch": [], "receipt": "x"}, "receipt"),
            ({"batch": [], "events": []}, "events"),
            ({"batch": [{"events": []}]}, "batch[0].receipt"),
            ({"batch": [{"receipt": "x"}]}, "batch[0].events"),
            ({"batch": [{"receipt": "x", "events": [], "batch": []}]}, "batch[0].batch"),
        ],
    )
    def test_exactly_one_of_receipt_and_batch(self, server, body, path):
        refused(server.post("/v1/feedback", body), 422, path)

    def test_receipts_that_are_not_good_are_told_apart(self, server, decision):
        good = decision["receipt"]
        changed = good[:40] + ("A" if good[40] != "A" else "B") + good[41:]
        own = Signer([secret(server.node.data.path / "receipt_secret")])
        forged = Signer([bytes(32)]).seal(own.open(good))
        for receipt, surface, says in [
            (forged, None, "forged"),
            (changed, None, "forged, cut or changed"),
            (good[:-4], None, "cut"),
            (good[:20], None, "cut"),
            ("", None, "cut"),
            ("not base64url!", None, "not base64url"),
            (good, "home", "receipt is of surface 'shop', not 'home'"),
        ]:
            body = {"receipt": receipt, "events": [reward()]} | ({"surface": surface} if surface else {})
            assert says in refused(server.post("/v1/feedback", body), 400)["detail"]
            problem = refused(server.post("/v1/feedback", {"batch": [body]}), 400)
            assert problem["detail"].startswith("batch[0]: ")

    def test_an_expired_receipt(self, server, decision):
        own = Signer([secret(server.node.data.path / "receipt_secret")])
        expired = bytearray(own.open(decision["receipt"]))
        expired[40:48] = (time.time_ns() // 1000 - 1).to_bytes(8, "little")
        body = {"receipt": own.seal(bytes(expired)), "events": [reward()]}
        assert "expired" in refused(server.post("/v1/feedback", body), 400)["detail"]

    def test_a_receipt_of_an_unknown_generation(self, server, decision):
        own = Signer([secret(server.node.data.path / "receipt_secret")])
        foreign = bytearray(own.open(decision["receipt"]))
        foreign[48:56] = bytes(8)
        body = {"receipt": own.seal(bytes(foreign)), "events": [reward()]}
        assert "generation" in refused(server.post("/v1/feedback", body), 400)["detail"]


class TestFeedbackThatIsAccepted:
    @pytest.fixture
    def server(self, tmp_path):
        with running(tmp_path / "data", SURFACES) as server:
            yield server

    def test_events_are_counted_resent_ones_included_and_learned_once(self, server):
        decision = server.recommend(items=["a", "b"])
        events = [{"kind": "impression"}, reward("a"), reward("b", 0.25)]
        for _ in range(3):
            assert server.feedback(decision["receipt"], *events) == {"accepted": 3}
        one = {"receipt": decision["receipt"], "surface": "home", "events": events}
        assert answered(server.post("/v1/feedback", {"batch": [one, one]}), 202) == {"accepted": 6}
        assert answered(server.post("/v1/feedback", {"batch": []}), 202) == {"accepted": 0}
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 2, "reward": 1.25}

    def test_the_first_value_wins(self, server):
        decision = server.recommend(items=["a"])
        server.feedback(decision["receipt"], {"kind": "reward", "value": 0.25}, {"kind": "reward", "value": 1.0})
        server.feedback(decision["receipt"], {"kind": "reward", "value": 0.5})
        assert server.cells("home")["surface"]["reward"] == 0.25

    def test_named_rewards_are_weighed_and_clipped_ones_counted(self, server):
        """1 * 1 + .5 * -4 + .01 * min(90, 60) = -0.4, and each counts once."""
        decision = server.recommend(surface="shop", items=["a"])
        events = [reward(), reward(name="stars", value=-4.0), reward(name="seconds", value=90.0)]
        server.feedback(decision["receipt"], *events, *events)
        found = server.cells("shop")
        assert found["surface"]["reward"] == pytest.approx(-0.4, abs=1e-3)
        assert found["cells"][0]["reward_sum"] == pytest.approx(-0.4, abs=1e-3)
        assert 'banditd_rewards_clipped_total{surface="shop"} 2.0' in server.get("/metrics").text

    def test_a_log_that_fails_is_503_with_retry_after_and_recovers(self, server, monkeypatch):
        """A decision is answered meanwhile; after the log is back the resent feedback counts, and heals it."""
        decision = server.recommend(items=["a", "b"])
        server.settle()

        def fail(frames):
            raise LogUnavailable("disk full")

        with monkeypatch.context() as patched:
            patched.setattr(server.node.data.log, "append", fail)
            lost = server.recommend(items=["a", "b"])
            for body in (
                {"receipt": decision["receipt"], "events": [reward()]},
                {"batch": [{"receipt": d["receipt"], "events": [reward()]} for d in (decision, lost) * 20]},
            ):
                response = server.post("/v1/feedback", body)
                assert "outcome unknown, retry is safe" in refused(response, 503)["detail"]
                assert int(response.headers["retry-after"]) >= 1
            ready = answered(server.get("/readyz"), 200)
            assert ready["degraded"]
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 2, "reward": 0.0}
        server.feedback(decision["receipt"], reward())
        server.feedback(lost["receipt"], reward("b", 0.5))
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 4, "reward": 1.5}
        assert answered(server.get("/readyz"), 200)["degraded"] == []

    @pytest.mark.parametrize(("last", "walks"), [("good", 2), ("forged", 1)])
    def test_a_large_batch_lets_others_in_between(self, server, monkeypatch, last, walks):
        """The log answers at once, so that each turn of the loop is one that the batch gave away by itself."""
        receipt = server.recommend(items=["a"])["receipt"]
        ones = [FeedbackOne([EventIn("impression")], receipt)] * (10 * BREATH)
        request = FeedbackRequest(batch=[*ones, FeedbackOne([], receipt if last == "good" else "forged")])
        submitted = 0

        def submit(partition, entry, keys):
            nonlocal submitted
            submitted += 1
            done = asyncio.get_running_loop().create_future()
            done.set_result(Appended(partition, 0, 0))
            return done

        async def turns():
            accepting = asyncio.create_task(server.node.feedback.accept(request, 0.0))
            count = 0
            while not accepting.done():
                await asyncio.sleep(0)
                count += 1
            return count, accepting.exception()

        monkeypatch.setattr(server.node.writer, "submit", submit)
        count, fault = server.on_loop(turns())
        assert count >= walks * 10
        assert isinstance(fault, Problem) == (last == "forged")
        assert submitted == (0 if last == "forged" else 10 * BREATH)
