"""The log is trimmed to its retention, after a snapshot that the state can be folded from again."""

from __future__ import annotations

import json

from service.cli import main
from service.retention import SNAPSHOTS_KEPT, Retention
from service.snapshots import UNASKED, snapshots_of
from tests.service.harness import running

ONE = "[server]\npartitions = 1\nretention_s = 1000\n"


def ahead(server, by_s):
    """The server's retention, as if so many seconds had passed."""
    data = server.node.data
    data.store.checkpoint()
    last = data.log.read(0, data.log.bounds(0)[1] - 1, 1)[0].append_us
    return Retention(data.path, data.log, data.store, 1000, lambda: last + by_s * 10**6)


def unasked(server):
    data = server.node.data
    return [path for path in snapshots_of(data.path, data.log.topic_id) if path.name.endswith(UNASKED)]


def learn(server):
    server.reward(server.recommend(items=["a"]), 1.0)
    server.settle()


def test_doctor_is_content_with_a_log_that_the_server_has_cut(tmp_path, capsys):
    with running(tmp_path / "data", ONE) as server:
        learn(server)
        ahead(server, 1001).trim()
        log = server.node.data.log
        start, stop = log.bounds(0)
        assert start == stop > 0
        learn(server)
    assert main(["doctor", "--data", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    with running(tmp_path / "data", ONE) as server:
        assert server.cells()["surface"]["reward"] == 2.0


def test_nothing_is_done_while_no_frame_is_old(tmp_path):
    with running(tmp_path / "data", ONE) as server:
        learn(server)
        ahead(server, 999).trim()
        assert server.node.data.log.bounds(0)[0] == 0
        assert unasked(server) == []


def test_snapshots_come_twice_in_a_retention_and_only_the_last_ones_stay(tmp_path):
    with running(tmp_path / "data", ONE) as server:
        assert main(["snapshot", "--data", str(tmp_path / "data")]) == 0
        seen = []
        for by_s in (2000, 2001, 2501, 4000, 6000):
            learn(server)
            ahead(server, by_s).trim()
            seen.append(unasked(server)[0].name)
        assert seen[0] == seen[1]
        assert sorted(set(seen)) == [seen[0], *seen[2:]]
        assert [path.name for path in unasked(server)] == seen[:2:-1][:SNAPSHOTS_KEPT]
        asked = snapshots_of(tmp_path / "data", server.node.data.log.topic_id)
        assert len(asked) == SNAPSHOTS_KEPT + 1
