"""What clients send cannot grow the state without end, and what is wrong with the machine is said."""

from __future__ import annotations

import time

import pytest

from bandits.errors import UsageError
from bandits.mirror import Mirror
from bandits.records import DECISION, Entry, encode_frame
from tests.bandits.graphs import graph as make_graph
from tests.bandits.strategies import DETAILS, NOW_US, TTL_US, encode_entry
from tests.bandits.test_mirror import one_decision
from tests.service.harness import refused, running


def test_max_arms_holds_within_one_batch_too(tmp_path):
    with running(tmp_path / "data", "[surfaces.home]\nmax_arms = 5\n") as server:
        server.recommend_many([{"items": [f"new-{i}"]} for i in range(200)])
        server.settle()
        assert len(server.node.surfaces["home"].arms) == 5
        assert 'banditd_nolearn_total{reason="max_arms"} 195.0' in server.get("/metrics").text


def test_ids_that_get_no_cell_leave_no_text_in_the_state(tmp_path):
    """Explicit items that the graph does not have are answered and count as impressions, and that is all."""
    graph = make_graph()
    with running(tmp_path / "data") as server:
        server.upload(graph.to_bytes())
        embedding = [0.1] * graph.centroids.shape[1]
        server.recommend_many([{"items": [f"unknown-{i}"], "embedding": embedding} for i in range(100)])
        server.settle()
        assert server.cells("default")["surface"]["impressions"] == 100
        assert server.node.replica.names == {}


def test_exploit_ranks_and_reports_by_the_mean(tmp_path):
    with running(tmp_path / "data", "[surfaces.home]\nexplore_share = 0.0\n") as server:
        for item in server.recommend(items=["a", "b"], explain=True)["items"]:
            assert (item["score"], item["bonus"]) == (item["mean"], 0.0)


def test_a_uniform_surface_has_no_exploit_mode(tmp_path):
    with running(tmp_path / "data", '[surfaces.home]\npolicy = "uniform"\nexplore_share = 0.0\n') as server:
        decision = server.recommend(items=["a", "b"], n=1)
        assert (decision["mode"], decision["items"][0]["propensity"]) == ("explore", 0.5)


def test_with_a_clock_behind_the_log_feedback_waits_and_readyz_says_why(tmp_path, monkeypatch):
    with running(tmp_path / "data") as server:
        receipt = server.recommend(items=["a"])["receipt"]
        server.feedback(receipt, {"kind": "reward", "value": 1.0})
        server.settle()
        now = time.time
        monkeypatch.setattr("service.node.time.time", lambda: now() - 400.0)
        body = {"receipt": receipt, "events": [{"kind": "impression"}]}
        problem = refused(server.post("/v1/feedback", body), 503)
        assert "clock" in problem["detail"]
        assert "clock" in server.get("/readyz").json()["degraded"][0]
        assert server.get("/readyz").status_code == 200
        monkeypatch.undo()
        assert server.post("/v1/feedback", body).status_code == 202


def test_lost_decisions_of_expired_boots_stay_counted():
    """Ordinal 1 of three is lost; the boot's expiry does not take that back."""
    mirror = Mirror()
    entries = [Entry(DECISION, one_decision(bit=512 * n, ordinal=n), details=DETAILS) for n in (0, 2)]
    mirror.fold(encode_frame([encode_entry(e) for e in entries], bytes(16)), NOW_US)
    assert mirror.lost == 1
    assert mirror.take_expired(NOW_US + 2 * TTL_US)
    assert mirror.lost == 1


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "graphs").write_text("not a folder")
    with pytest.raises(UsageError, match=r"graphs: File exists"), running(tmp_path / "data"):
        pytest.fail("started on a file in place of a folder")
