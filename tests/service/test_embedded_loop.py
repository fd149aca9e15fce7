"""The closed loop on one machine: request, receipt, feedback, fold, changed score; over restarts and new graphs."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.errors import UsageError
from service.updater import Halt
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import answered, refused, running

EAST, WEST = [1.0, 0.1], [-1.0, 0.1]
"""Clusters 0 and 1, and 2 and 1, of the small graph whose rows are [a, c], [], [b, c, d]."""


def scores(server, **request):
    return {item["id"]: item["score"] for item in server.recommend(explain=True, deferred=True, **request)["items"]}


def test_one_request_one_receipt_one_feedback_one_fold_one_changed_score(tmp_path):
    """Two items are served, one is rewarded: theta of a = (1 - .5) / 2, of b = (0 - .5) / 2, around the mean .5."""
    with running(tmp_path / "data") as server:
        before = scores(server, items=["a", "b"])
        assert before["a"] == before["b"] == pytest.approx(0.3)
        decision = server.recommend(items=["a", "b"])
        version = decision["params_version"]
        server.reward(decision, 1.0, "a")
        server.settle()
        after = server.recommend(items=["a", "b"], explain=True)
        assert after["params_version"] != version
        mean = {item["id"]: item["mean"] for item in after["items"]}
        assert mean == {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}
        assert [item["bonus"] for item in after["items"]] == pytest.approx([0.3 / np.sqrt(2)] * 2, abs=1e-6)


def test_a_server_learns_to_serve_what_is_rewarded(tmp_path):
    with running(tmp_path / "data") as server:
        for _ in range(150):
            decision = server.recommend(items=list("abcdef"), n=1)
            server.reward(decision, float(decision["items"][0]["id"] == "d"))
        server.settle()
        served = server.recommend_many([{"items": list("abcdef"), "n": 1}] * 200)
        assert sum(d["items"][0]["id"] == "d" for d in served) > 150


def test_what_was_learned_outlives_a_restart(tmp_path):
    with running(tmp_path / "data") as server:
        answered(server.upload(small_graph().to_bytes()), 200)
        for embedding in (EAST, WEST):
            server.reward(server.recommend(embedding=embedding), 0.5)
        server.reward(server.recommend(items=["a"], features={"age": 2.0}), 1.0)
        open_decision = server.recommend(embedding=EAST)
        server.settle()
        learned, known = server.sums(), scores(server, embedding=EAST)
    with running(tmp_path / "data") as again:
        assert again.sums() == learned
        found = scores(again, embedding=EAST)
        assert found == pytest.approx(known, abs=1e-3)
        again.reward(open_decision, 1.0)
        assert again.cells()["surface"]["reward"] == 3.0
        again.reward(open_decision, 1.0)
        assert again.cells()["surface"]["reward"] == 3.0


def test_a_second_server_on_the_same_data_directory_is_refused(tmp_path):
    with running(tmp_path / "data") as server:
        with (
            pytest.raises(UsageError, match="another server owns this data directory; stop it, or name another"),
            running(tmp_path / "data"),
        ):
            pass
        server.reward(server.recommend(items=["a"]), 1.0)
        server.settle()
    with running(tmp_path / "data") as again:
        assert again.cells()["surface"]["reward"] == 1.0


def test_another_number_of_partitions_is_refused(tmp_path):
    with running(tmp_path / "data"):
        pass
    with (
        pytest.raises(UsageError, match="made with 8 partitions, 4 asked for"),
        running(tmp_path / "data", "[server]\npartitions = 4\n"),
    ):
        pass


def test_a_changed_or_missing_graph_file_refuses_the_start(tmp_path):
    graph = small_graph()
    with running(tmp_path / "data") as server:
        server.upload(graph.to_bytes())
    file = tmp_path / "data" / "graphs" / f"{graph.version}.npz"
    whole = file.read_bytes()
    file.write_bytes(whole + b"x")
    with pytest.raises(UsageError, match="graph file was changed; restore it"), running(tmp_path / "data"):
        pass
    file.unlink()
    with pytest.raises(UsageError, match="is gone; restore it"), running(tmp_path / "data"):
        pass
    file.write_bytes(whole)
    with running(tmp_path / "data") as server:
        assert server.get("/v1/surfaces/default").json()["graph_version"] == graph.version


def test_a_state_of_another_log_halts_the_start(tmp_path):
    with running(tmp_path / "data") as server:
        server.recommend(items=["a"])
        server.settle()
    for path in (tmp_path / "data").glob("log.sqlite*"):
        path.unlink()
    with pytest.raises(Halt, match="halted: state is of log"), running(tmp_path / "data"):
        pass


def test_a_lost_state_is_folded_anew_from_the_log(tmp_path):
    with running(tmp_path / "data") as server:
        for _ in range(5):
            server.reward(server.recommend(items=["a", "b"]), 1.0)
        learned = server.sums()
    for path in (tmp_path / "data").glob("state.sqlite*"):
        path.unlink()
    with running(tmp_path / "data") as again:
        assert again.sums() == learned


def test_a_graph_with_the_same_centroids_keeps_what_was_learned(tmp_path):
    """Item c leaves cluster 0 and e joins: a keeps its statistics there, e starts unseen."""
    with running(tmp_path / "data") as server:
        first = answered(server.upload(small_graph().to_bytes()), 200)
        for _ in range(5):
            server.reward(server.recommend(embedding=EAST, items=["a", "c"]), 1.0, "a")
        server.settle()
        learned, known = server.sums(), scores(server, embedding=EAST)
        changed = small_graph(items=["a", "b", "e", "d", "c"], row_item=np.array([0, 2, 1, 3, 4], np.int32))
        second = answered(server.upload(changed.to_bytes()), 200)
        assert second["generation"] == first["generation"]
        assert second["graph_version"] != first["graph_version"]
        assert server.sums() == learned
        found = scores(server, embedding=EAST)
        assert set(found) == {"a", "e"}
        assert found["a"] == pytest.approx(known["a"], abs=1e-3)


def test_feedback_for_an_edge_that_left_the_graph_folds_into_its_own_cell_and_is_not_scored(tmp_path):
    with running(tmp_path / "data") as server:
        server.upload(small_graph().to_bytes())
        decision = server.recommend(embedding=EAST)
        server.settle()
        without_c = small_graph(row_start=np.array([0, 1, 1, 4], np.int64), row_item=np.array([0, 1, 2, 3], np.int32))
        server.upload(without_c.to_bytes())
        server.reward(decision, 1.0, "c")
        weight_sq, weight, reward = server.sums()["c", 0]
        assert weight_sq == pytest.approx(weight**2)
        assert reward == pytest.approx(weight)
        assert set(scores(server, embedding=EAST)) == {"a"}
        assert 'banditd_cells_without_edge{surface="default"}' in server.get("/metrics").text


def test_receipts_of_an_older_generation_learn_into_the_old_table(tmp_path):
    with running(tmp_path / "data") as server:
        server.upload(small_graph().to_bytes())
        decision = server.recommend(embedding=EAST, deferred=True)
        other = answered(server.upload(small_graph(tau=0.3).to_bytes()), 200)
        server.reward(decision, 1.0)
        assert server.sums() == {}
        old = server.sums(query="?all=true")
        item = decision["items"][0]["id"]
        assert old[item, 0][2] > 0
        assert server.cells(query="?all=true")["surface"] == {"name": "default", "impressions": 1, "reward": 1.0}
        assert set(scores(server, embedding=EAST)) == {"a", "c"}
        back = answered(server.upload(small_graph().to_bytes()), 200)
        assert back["generation"] != other["generation"]
        assert server.sums() == old


def test_receipts_of_an_older_generation_keep_their_rewards_over_a_restart(tmp_path):
    """The range was 0..1 when the item was served and is 0..10 now: the old receipt still takes 0..1."""
    with running(tmp_path / "data") as server:
        decision = server.recommend(items=["a"])
        server.settle()
    toml = "[[surfaces.default.rewards]]\nrange = [0.0, 10.0]\n"
    with running(tmp_path / "data", toml) as server:
        event = {"kind": "reward", "value": 5.0}
        body = {"receipt": decision["receipt"], "events": [event]}
        refused(server.post("/v1/feedback", body), 422, "events[0].value")
        server.feedback(decision["receipt"], {"kind": "reward", "value": 1.0})
        server.feedback(server.recommend(items=["a"])["receipt"], event)
        assert server.cells()["surface"] == {
            "name": "default",
            "impressions": 1,
            "reward": pytest.approx(5.0, abs=1e-3),
        }
        everything = server.cells(query="?all=true")["surface"]
        assert everything["impressions"] == 2
        assert everything["reward"] == pytest.approx(6.0, abs=1e-3)


def test_secrets_rotate_without_losing_receipts_that_are_out(tmp_path):
    old, new = "aa" * 32, "bb" * 32
    with running(tmp_path / "data", f'[receipts]\nsecret = "{old}"\n') as server:
        decision = server.recommend(items=["a"])
    with running(tmp_path / "data", f'[receipts]\nsecret = "{new}"\nsecret_previous = "{old}"\n') as server:
        server.reward(decision, 1.0)
        assert server.cells()["surface"]["reward"] == 1.0
    with running(tmp_path / "data", f'[receipts]\nsecret = "{new}"\n') as server:
        body = {"receipt": decision["receipt"], "events": []}
        assert "forged, or its key was retired" in refused(server.post("/v1/feedback", body), 400)["detail"]


def test_users_keep_to_their_partition(tmp_path):
    with running(tmp_path / "data", "[server]\npartitions = 3\n") as server:
        for _ in range(3):
            for user in ("u1", "u2", "u3", "u4"):
                server.reward(server.recommend(items=["a"], user=user), 1.0)
        of_user = {}
        for entry in server.entries():
            if entry.details is not None:
                of_user.setdefault(entry.details.user, set()).add(entry.receipt.partition)
        assert len(of_user) == 4
        assert all(len(partitions) == 1 for partitions in of_user.values())
        assert server.sums()["a", next(slot for _, slot in server.sums())][2] == 12.0
