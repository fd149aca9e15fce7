"""What a running server retires, and how receipts, cells, scores and files follow."""

from __future__ import annotations

import json
import os
from contextlib import closing

import numpy as np
import pytest

from bandits.cells import cells_of
from bandits.names import arm_key
from bandits.records import decode_retire
from service import rewards as rewards_file
from service.graphs import GraphFiles
from service.last_served import LastServed
from service.log import LogUnavailable
from service.settings.surface import RewardSettings
from service.store_sqlite import SqliteStore
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import refused, running

ARMS = "[server]\npartitions = 2\n[surfaces.default]\nmax_arms = 2\narm_ttl_s = 100\n"


def up_to(high: float, kept: int = 2) -> str:
    """A configuration whose reward range, and so its generation, is its own."""
    rewards = f'[[surfaces.default.rewards]]\nname = "reward"\nrange = [0.0, {high}]\n'
    return f"[server]\npartitions = 2\n[surfaces.default]\ngenerations_kept = {kept}\n{rewards}"


def tables_in_file(data) -> set[int]:
    """Tables that have cells in the state file of a stopped server."""
    tables = set()
    with closing(SqliteStore(data / "state.sqlite", 2)) as store:
        for partition in range(2):
            values = {key: value for key, value in store.scan(partition) if key[:1] == b"c"}
            tables |= {table for table, _, _, _ in cells_of(values)}
    return tables


def tables_of(server) -> set[int]:
    return {g.table for g in server.node.generations.of("default", every=True)}


def held_tables(server) -> set[int]:
    """Tables that have cells in what scoring sees."""
    cells = server.node.replica.cells
    return set(cells.keys(cells.held(np.arange(cells.n_chunks, dtype=np.int32)))["table"].tolist())


def learned_reward(server, table) -> int:
    server.settle()
    keys = server.node.replica.cells.keys(np.arange(server.node.replica.cells.n_chunks))
    values = server.node.replica.cells.values(np.flatnonzero(keys["table"] == np.uint64(table)).astype(np.int32))
    return sum(sums[2] for _, _, _, sums in cells_of(values))


def refuse(server, decision):
    events = [{"kind": "reward", "item": decision["items"][0]["id"], "value": 1.0}]
    problem = refused(server.post("/v1/feedback", {"receipt": decision["receipt"], "events": events}), 400)
    assert "retired" in problem["detail"]


def keep_house(server):
    """What the pipeline does every minute."""
    appended = server.node.retirement.keep_house()
    server.node.pipeline.committed(appended)
    server.settle()
    return appended


def test_old_generations_learn_until_they_are_retired_and_nothing_is_scored_from_them(tmp_path):
    data, receipts, tables = tmp_path / "data", [], []
    for high in (1.0, 2.0, 3.0):
        with running(data, up_to(high)) as server:
            assert server.recommend(items=["a"], explain=True)["items"][0]["mean"] == 0.0
            receipts.append([server.recommend(items=["a"]) for _ in range(4)])
            tables.append(server.node.surfaces["default"].hashed.table)
            for table, of_table in zip(tables, receipts, strict=True):
                before = learned_reward(server, table)
                server.reward(of_table.pop(), 1.0)
                assert learned_reward(server, table) > before
            assert tables_of(server) == set(tables)
        assert tables_in_file(data) == set(tables)
    decisions = [of_table[0] for of_table in receipts]
    with running(data, up_to(4.0)) as server:
        refuse(server, decisions[0])
        server.reward(decisions[1], 1.0)
        assert 'banditd_retired_total{kind="table"} 1.0' in server.get("/metrics").text
        assert "banditd_tombstones 2.0" in server.get("/metrics").text
        assert tables_of(server) == {*tables[1:], server.node.surfaces["default"].hashed.table}
        assert held_tables(server) == set(tables[1:])
        frames = len(server.frames())
    assert tables_in_file(data) == set(tables[1:])
    with running(data, up_to(4.0)) as server:
        assert len(server.frames()) == frames
        refuse(server, decisions[0])


def test_a_retired_generation_stays_known_to_readers_of_old_entries_until_it_is_forgotten(tmp_path):
    now = [0]
    generations = rewards_file.Generations(tmp_path / "generations.json", lambda: now[0])
    rewards = rewards_file.Rewards([RewardSettings("reward")])
    first, second = (rewards_file.Generation("s", "diag_linucb", f"g{i}", i, 10 + i, rewards) for i in (1, 2))
    generations.use("s", [first])
    now[0] = 5
    generations.use("s", [second])
    assert generations.retire("s", 0, lambda found: None) == [first]
    for reader in (generations, rewards_file.Generations(tmp_path / "generations.json")):
        assert (reader.get(11), reader.get(12).key) == (None, "g2")
        assert (reader.known(11).key, reader.known(12).key, reader.known(13)) == ("g1", "g2", None)
        assert [g.key for g in reader.of("s", every=True)] == ["g2"]
    generations.forget(5)
    assert generations.known(11).key == "g1"
    generations.forget(6)
    assert generations.known(11) is rewards_file.Generations(tmp_path / "generations.json").known(11) is None


def test_the_generation_that_was_current_last_is_kept(tmp_path):
    """Ranges 1, 2, 1, 3 with one old one kept: 2 goes, although 1 came before it, and 1 learns and scores again."""
    data, of = tmp_path / "data", {}
    for high in (1.0, 2.0, 1.0, 3.0):
        with running(data, up_to(high, kept=1)) as server:
            of[high] = server.recommend(items=["a"])
            server.reward(of[high], 1.0)
            if high == 3.0:
                refuse(server, of[2.0])
                server.reward(of[1.0], 1.0)
    with running(data, up_to(1.0, kept=1)) as server:
        assert server.recommend(items=["a"], explain=True)["items"][0]["mean"] > 0.0
        assert server.cells()["surface"]["impressions"] == 3


def test_a_generation_that_comes_back_after_its_retirement_begins_from_nothing(tmp_path):
    data, decisions = tmp_path / "data", []
    for high in (1.0, 2.0, 3.0):
        with running(data, up_to(high, kept=1)) as server:
            decisions.append(server.recommend(items=["a"]))
            server.reward(server.recommend(items=["a"]), 1.0)
    with running(data, up_to(1.0, kept=1)) as server:
        assert server.cells()["surface"]["impressions"] == 0
        server.reward(decisions[0], 1.0)
        again = server.recommend(items=["a"])
        server.reward(again, 1.0)
        assert server.cells()["surface"] == {"name": "default", "impressions": 1, "reward": 1.0}
        assert sum(updater.mirror.counts["retired"] for updater in server.node.updaters) == 1


def test_old_graph_generations_are_retired_while_the_server_runs(tmp_path):
    graphs = [small_graph(tau=0.1 * (i + 1)) for i in range(3)]
    with running(tmp_path / "data", "[server]\npartitions = 2\n[surfaces.default]\ngenerations_kept = 1\n") as server:
        decisions = []
        for graph in graphs:
            server.upload(graph.to_bytes())
            decisions.append(server.recommend(embedding=[1.0, 0.0]))
            server.reward(decisions[-1], 1.0)
            server.settle()
        refuse(server, decisions[0])
        server.reward(decisions[1], 1.0, decisions[1]["items"][1]["id"])
        server.settle()
        assert server.recommend(embedding=[1.0, 0.0])["graph_version"] == graphs[2].version
        assert held_tables(server) <= tables_of(server)
        assert len(held_tables(server)) == 2
        expected = server.node.surfaces["default"].graph.edge.copy()
        server.node.tables.refresh(None)
        assert np.array_equal(server.node.surfaces["default"].graph.edge, expected)


@pytest.mark.parametrize("fault", ["log", "file"])
def test_a_retirement_that_fails_half_way_is_finished_later(tmp_path, monkeypatch, fault):
    data = tmp_path / "data"
    with running(data, up_to(1.0, kept=1)) as server:
        first = server.recommend(items=["a"])
    with running(data, up_to(2.0, kept=1)):
        pass

    def full(*given):
        raise OSError(28, "No space left on device")

    def away(self, frames):
        raise LogUnavailable("the disk is away")

    def use(self, *given):
        used(self, *given)
        if fault == "file":
            monkeypatch.setattr(rewards_file, "replace_file", full)
        else:
            monkeypatch.setattr("service.log_sqlite.SqliteLog.append", away)

    used = rewards_file.Generations.use
    monkeypatch.setattr(rewards_file.Generations, "use", use)
    with running(data, up_to(3.0, kept=1)) as server:
        refuse(server, first)
        assert not any("retired" in entry for entry in json.loads((data / "generations.json").read_text()))
        monkeypatch.undo()
        if fault == "log":
            assert len(keep_house(server)) == 2
        assert len(server.frames()) >= 2
    with running(data, up_to(3.0, kept=1)) as server:
        assert ["retired" in entry for entry in json.loads((data / "generations.json").read_text())] == [False] * 2 + [
            True
        ]
        refuse(server, first)


def test_arms_that_are_not_served_leave_and_make_room_for_others(tmp_path):
    now_s = [0.0]
    with running(tmp_path / "data", ARMS) as server:
        surface = server.node.surfaces["default"]
        surface.last_served = LastServed(100, lambda: now_s[0])
        for item in "aab":
            server.reward(server.recommend(items=[item]), 1.0)
        server.settle()
        third = server.recommend(items=["c"])
        assert server.feedback(third["receipt"], {"kind": "reward", "item": "c", "value": 1.0})["not_learned"] == 1
        now_s[0] = 60.0
        server.reward(server.recommend(items=["a"]), 1.0)
        server.settle()
        assert keep_house(server) == []
        now_s[0] = 100.0
        assert len(keep_house(server)) == 2
        assert {arm for arm, _ in server.sums()} == {"a"}
        assert surface.arms == {arm_key("a")}
        assert arm_key("b") not in server.node.replica.names
        assert 'banditd_retired_total{kind="arm"} 1.0' in server.get("/metrics").text
        assert keep_house(server) == []
        server.reward(server.recommend(items=["c"]), 1.0)
        assert {arm for arm, _ in server.sums()} == {"a", "c"}
        assert server.cells()["surface"] == {"name": "default", "impressions": 5, "reward": 5.0}


def test_arms_are_retired_every_ten_minutes_or_many_at_once(tmp_path, monkeypatch):
    now_s = [0.0]
    with running(tmp_path / "data", ARMS.replace("max_arms = 2\n", "")) as server:
        node, surface = server.node, server.node.surfaces["default"]
        monkeypatch.setattr(node.retirement, "_clock_s", lambda: now_s[0])
        surface.last_served = LastServed(100, lambda: now_s[0])
        for item in "abcd":
            server.reward(server.recommend(items=[item]), 1.0)
        server.settle()

        def left(now, served):
            now_s[0] = now
            surface.served(map(arm_key, served))
            keep_house(server)
            assert surface.arms == {arm_key(arm) for arm, _ in server.sums()}
            return {arm for arm, _ in server.sums()}

        assert left(100.0, "bcd") == {"b", "c", "d"}
        assert left(699.0, "cd") == {"b", "c", "d"}
        assert left(700.0, "cd") == {"c", "d"}
        monkeypatch.setattr("service.retirement.ARMS_AT_ONCE", 2)
        assert left(900.0, "d") == {"c", "d"}
        assert left(1000.1, "") == set()
        server.reward(server.recommend(items=["b"]), 1.0)
        assert {arm for arm, _ in server.sums()} == {"b"}
        assert surface.arms == {arm_key("b")}


def test_nobody_looks_for_unserved_arms_where_they_live_for_ever(tmp_path, monkeypatch):
    with running(tmp_path / "data") as server:
        server.reward(server.recommend(items=["a"]), 1.0)
        server.settle()
        monkeypatch.setattr(server.node.retirement, "_cells", lambda: pytest.fail("all chunks were looked at"))
        assert keep_house(server) == []


def test_a_retire_entry_says_until_when_receipts_of_before_it_may_come(tmp_path):
    """By the receipts' life, whatever the bound of it is: tombstones leave with the last of those receipts."""
    with running(tmp_path / "data", ARMS + "[receipts]\nttl_s = 3600\n") as server:
        server.node.surfaces["default"].last_served = LastServed(1, iter([0.0, 0.0, 1.0]).__next__)
        server.reward(server.recommend(items=["a"]), 1.0)
        server.settle()
        assert len(keep_house(server)) == 2
        for frame in server.frames():
            if entry := decode_retire(frame.body):
                assert 0 < entry.until_us - frame.append_us <= 3600 * 10**6
        assert sum(decode_retire(frame.body) is not None for frame in server.frames()) == 2


def test_a_retired_arm_scores_as_a_new_one(tmp_path):
    now_s = [0.0]
    with running(
        tmp_path / "data", ARMS.replace("[surfaces.default]", '[surfaces.default]\npolicy = "uniform"')
    ) as server:
        server.node.surfaces["default"].last_served = LastServed(100, lambda: now_s[0])
        server.reward(server.recommend(items=["a"]), 1.0)
        server.reward(server.recommend(items=["b"]), 0.0)
        server.settle()
        learned = {i["id"]: i["bonus"] for i in server.recommend(items=["a", "b"], explain=True)["items"]}
        now_s[0] = 101.0
        server.recommend(items=["b"])
        keep_house(server)
        scores = {i["id"]: i for i in server.recommend(items=["a", "b", "new"], explain=True)["items"]}
        assert scores["a"]["score"] == scores["new"]["score"]
        assert scores["a"]["bonus"] > learned["a"]


def test_nothing_is_noted_where_arms_live_for_ever(tmp_path):
    with running(tmp_path / "data") as server:
        server.recommend(items=["a"])
        assert server.node.surfaces["default"].last_served.unserved(np.array([arm_key("a")], np.uint64)).size == 0


def test_an_arm_counts_as_served_at_the_start_and_whenever_it_is():
    now_s = [50.0]
    served, arms = LastServed(10, lambda: now_s[0]), np.array([1, 2, 3], np.uint64)
    now_s[0] = 55.0
    served.note([2])
    for now, dead in ((59.0, []), (60.0, [1, 3]), (64.0, [1, 3]), (65.0, [1, 2, 3]), (65.0, [1, 2, 3])):
        now_s[0] = now
        assert served.unserved(arms).tolist() == dead
    served.note([1])
    assert served.unserved(arms).tolist() == [2, 3]


def keep(files, graph):
    with files.incoming() as file:
        file.write(graph.to_bytes())
    files.keep(file.name, graph, "home")


def test_graphs_are_deleted_when_no_surface_has_served_them_for_the_retention(tmp_path):
    files, graphs = GraphFiles(tmp_path), [small_graph(tau=0.1 * (i + 1)) for i in range(3)]
    for graph in graphs[:2]:
        keep(files, graph)
    paths = [tmp_path / f"{graph.version}.npz" for graph in graphs]
    for path in paths[:2]:
        os.utime(path, (0, 0))
    keep(files, graphs[2])
    assert files.sweep(3600) == [graphs[0].version]
    assert [path.exists() for path in paths] == [False, True, True]
    os.utime(paths[1], (0, 0))
    os.utime(paths[2], (0, 0))
    assert files.sweep(3600) == [graphs[1].version]
    assert files.current("home").version == graphs[2].version


def test_reward_settings_of_an_old_generation_stay_with_it(tmp_path):
    """Its range, by which receipts that are out are judged, is the one they were issued under."""
    data = tmp_path / "data"
    with running(data, up_to(5.0)) as server:
        old = server.recommend(items=["a"])
    with running(data, up_to(1.0)) as server:
        server.reward(old, 5.0)
        kept = server.node.generations.of("default", every=True)
        assert kept[0].rewards.settings == (RewardSettings("reward", (0.0, 5.0), 1.0, False),)
