"""A full disk, made real by max_page_count: feedback waits, recommendations go on, nothing counts twice."""

from __future__ import annotations

import sqlite3

import pytest

from service.log_sqlite import SqliteLog
from tests.service.harness import answered, refused
from tests.service.raw import listening

ROOM = 300_000
REWARD = {"kind": "reward", "item": "a", "value": 1.0}


class BoundedLog(SqliteLog):
    """A log on a disk with some room, which `lift` makes larger."""

    opened: BoundedLog

    def __init__(self, path, partitions):
        super().__init__(path, partitions, max_bytes=ROOM)
        BoundedLog.opened = self

    def lift(self):
        self._writer.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr("service.data_directory.SqliteLog", BoundedLog)
    with listening(tmp_path / "data") as server:
        yield server


def decide(server):
    return server.recommend(items=["a", *[f"{i:0>100}" for i in range(20)]], exclude=[f"{i:0>100}" for i in range(20)])


def body(decision):
    return {"receipt": decision["receipt"], "events": [REWARD]}


def test_a_full_disk_and_its_end(server):
    """Rewards of 1 until the disk is full; all sent again once there is room; each counts once."""
    decisions = [decide(server) for _ in range(10)]
    acknowledged = 0
    while (response := server.post("/v1/feedback", body(decisions[-1]))).status_code == 202:
        acknowledged += 1
        decisions.append(decide(server))
    problem = refused(response, 503)
    assert acknowledged > 10
    assert "outcome unknown, retry is safe" in problem["detail"]
    assert "full" in problem["detail"]
    assert int(response.headers["retry-after"]) >= 1
    for _ in range(3):
        decisions.append(decide(server))
        refused(server.post("/v1/feedback", body(decisions[-1])), 503)
    ready = answered(server.get("/readyz"), 200)
    assert ready["status"] == "ready"
    assert "log" in ready["degraded"][0]
    assert answered(server.get("/livez"), 200)
    assert server.cells()["surface"]["reward"] == acknowledged

    BoundedLog.opened.lift()
    for decision in [*decisions, *decisions[::-1]]:
        assert answered(server.post("/v1/feedback", body(decision)), 202) == {"accepted": 1}
    assert server.cells()["surface"] == {
        "name": "default",
        "impressions": len(decisions),
        "reward": float(len(decisions)),
    }
    assert answered(server.get("/readyz"), 200)["degraded"] == []


def test_what_was_acknowledged_before_the_disk_was_full_outlives_a_restart(server, tmp_path, monkeypatch):
    acknowledged = 0
    while server.post("/v1/feedback", body(decide(server))).status_code == 202:
        acknowledged += 1
    server.stop()
    monkeypatch.undo()
    with sqlite3.connect(tmp_path / "data" / "log.sqlite") as log:
        assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    log.close()
    with listening(tmp_path / "data") as again:
        assert again.cells()["surface"]["reward"] == acknowledged
        answered(again.post("/v1/feedback", body(decide(again))), 202)
        assert again.cells()["surface"]["reward"] == acknowledged + 1
