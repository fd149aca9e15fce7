"""Candidates of an own log that only its graphs know: rebuilt where these are given, told where they are not."""

from __future__ import annotations

import pickle
from random import Random

import msgspec
import numpy as np
import pytest

from bandits.errors import UsageError
from bandits.kernels import union
from bandits.kernels.replay import score_row
from bandits.simulation.policy import Learning
from offline_eval.actions import Actions
from offline_eval.errors import BadLog
from offline_eval.formats.chunk import ReadOptions
from offline_eval.formats.graph_files import find_graphs, load
from offline_eval.learners import learner
from offline_eval.replay.compiled import Compiled
from offline_eval.replay.edges import edges_of
from tests.bandits.graphs import graph as small_graph
from tests.offline_eval.engine import document
from tests.offline_eval.graph_logs import graph_rows, random_graph, rebuilt
from tests.offline_eval.logs import chunks, only, row, slates, write
from tests.offline_eval.test_replay_compiled import N_ACTIONS, N_SLOTS, POLICIES, RowByRow, log, rejected, robust

GRAPHS = [random_graph(1), random_graph(2, n_items=55)]


@pytest.fixture
def folder(tmp_path):
    """Two graphs as a data directory has them."""
    path = tmp_path / "graphs"
    path.mkdir()
    for one in GRAPHS:
        (path / f"{one.version}.npz").write_bytes(one.to_bytes())
    return path


@pytest.fixture(params=[".parquet", ".jsonl"])
def file(request, tmp_path):
    return tmp_path / f"log{request.param}"


def candidates(found):
    """Of each row's record the ids, whose law must be unknown and which must differ."""
    lists = [one["candidates"] for one in found]
    assert all(value is None for one in lists for _, value in one)
    names = [[name for name, _ in one] for one in lists]
    assert all(len(set(one)) == len(one) for one in names)
    return [set(one) for one in names]


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_they_are_the_graph_s_without_the_excluded_and_the_served(file, folder, monkeypatch, rows):
    """Slates of three over two graphs, by the plain definition, however the file is cut."""
    monkeypatch.setattr("offline_eval.formats.own.BATCH", 11)
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 1500)
    log_rows = graph_rows(GRAPHS, 60, 3)
    found = only(write(file, log_rows), rows=rows, graphs=find_graphs([folder]))
    assert candidates(found) == rebuilt(GRAPHS, log_rows)


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
def test_rows_of_a_decision_may_lie_apart(file, folder, order):
    log_rows = graph_rows(GRAPHS, 60, 3)
    known = dict(zip(((one.decision_id, one.position) for one in log_rows), rebuilt(GRAPHS, log_rows), strict=True))
    mixed = log_rows[::-1]
    if order == "shuffled":
        Random(1).shuffle(mixed)
    found = only(write(file, mixed), rows=9, graphs=find_graphs([folder]))
    assert candidates(found) == [known[one.decision_id, one.position] for one in mixed]


def test_lists_of_the_log_stand_beside_them(file, folder):
    """Explicit items keep their law and their order."""
    listed = [msgspec.structs.replace(one, graph=GRAPHS[0].version) for one in slates(20, 2, 5)]
    graphed = graph_rows(GRAPHS, 20, 2)
    pairs = [one for k in range(20) for one in (*listed[2 * k : 2 * k + 2], *graphed[2 * k : 2 * k + 2])]
    found = only(write(file, pairs), graphs=find_graphs([folder]))
    alone = only(write(file.with_stem("alone"), listed))
    by_print = {one["fingerprint"]: one["candidates"] for one in found}
    assert [by_print[one["fingerprint"]] for one in alone] == [one["candidates"] for one in alone]
    assert len(by_print) == 80
    own = {one["fingerprint"] for one in alone}
    assert candidates([one for one in found if one["fingerprint"] not in own]) == rebuilt(GRAPHS, graphed)


def test_chunks_stay_small(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.served.MAX_CANDIDATES", 60)
    log_rows = graph_rows(GRAPHS, 50)
    found = chunks(write(tmp_path / "log.parquet", log_rows), graphs=find_graphs([folder]))
    sizes = [int(one.candidates.start[-1]) for one in found]
    assert max(sizes) <= 60
    assert sum(sizes) == sum(map(len, rebuilt(GRAPHS, log_rows)))
    assert len(found) > 10


def test_a_graph_that_is_not_given_leaves_them_unknown_and_named(file, tmp_path):
    log_rows = graph_rows(GRAPHS, 40, 2)
    path = tmp_path / "any-name.npz"
    path.write_bytes(GRAPHS[0].to_bytes())
    found = chunks(write(file, log_rows), graphs=find_graphs([path]))
    named = [chunk.graph.names[code] for chunk in found for code in chunk.graph.code]
    by_decision = {one.decision_id: one.graph for one in log_rows if one.graph}
    assert named == [by_decision[one.decision_id] for one in log_rows]
    known = [one for chunk in found for one in chunk.candidates.known.tolist()]
    assert known == [one == GRAPHS[0].version for one in named]


def test_options_can_be_carried_to_another_process(folder):
    options = ReadOptions(graphs=find_graphs([folder]))
    assert pickle.loads(pickle.dumps(options)) == options


def fault(tmp_path, graph, **changes):
    path = tmp_path / "graph.npz"
    path.write_bytes(graph.to_bytes())
    one = {"candidates": None, "distribution": None, "graph": graph.version, "item": "a", "slots": [0]} | changes
    file = write(tmp_path / "log.parquet", [row(**{"weights": [1.0] * len(one["slots"] or []), **one})])
    with pytest.raises(BadLog) as found:
        only(file, graphs=find_graphs([path]))
    assert str(found.value).startswith(f"{file}: row 0: ")
    return str(found.value).partition("row 0: ")[2]


def test_an_item_that_no_edge_joins_is_a_fault(tmp_path):
    """b hangs on the third cluster alone, and c is excluded."""
    said = "item: got {}, must be among the decision's candidates"
    graph = small_graph()
    assert fault(tmp_path, graph, item="b") == said.format("'b'")
    assert fault(tmp_path, graph, item="c", exclude=["c"]) == said.format("'c'")
    assert fault(tmp_path, graph, item="new") == said.format("'new'")


def test_a_slot_beyond_the_graph_is_a_fault(tmp_path):
    graph = small_graph()
    said = f"slots: got 3, graph {graph.version} has 3 clusters"
    assert fault(tmp_path, graph, slots=[0, 3]) == said


def test_a_bad_graph_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="must be a graph.npz, or a folder of them such as DATA/graphs"):
        find_graphs([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="has no .npz file"):
        find_graphs([tmp_path])
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    ((version, path),) = find_graphs([broken]).items()
    with pytest.raises(UsageError, match=r"--graph .*broken.npz: must be an npz file"):
        load(path, version)
    misnamed = tmp_path / f"{GRAPHS[0].version}.npz"
    misnamed.write_bytes(GRAPHS[1].to_bytes())
    with pytest.raises(UsageError, match=f"its bytes have SHA-256 {GRAPHS[1].version}, not {GRAPHS[0].version}"):
        load(misnamed, GRAPHS[0].version)


def test_compiled_and_interpreted_kernels_are_equal(tmp_path, folder, monkeypatch):
    file = write(tmp_path / "log.parquet", graph_rows(GRAPHS, 30, 3))
    compiled = only(file, graphs=find_graphs([folder]))
    for name in ("wipe", "wipe_served", "stamp_row", "count_candidates", "write_candidates"):
        monkeypatch.setattr(union, name, getattr(union, name).py_func)
    for name in ("count_candidates", "write_candidates"):
        monkeypatch.setattr(f"offline_eval.formats.own_graphs.{name}", getattr(union, name))
    assert only(file, graphs=find_graphs([folder])) == compiled


@pytest.fixture
def uniform(tmp_path):
    """4,000 decisions on two graphs."""
    return write(tmp_path / "log.parquet", graph_rows(GRAPHS, 4_000))


def finding(said, name):
    (one,) = [one for one in findings(said) if one["name"] == name]
    return one["level"], one["detail"]


def findings(said):
    return said["findings"] if "findings" in said else said["diagnostics"]["findings"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_uniform_policy_has_weight_1_on_a_uniform_log(uniform, folder, capsys, jobs):
    """All weights are 1, so the value is the logged mean to the last bit or two."""
    found = document(capsys, "evaluate", uniform, "--policy", "uniform", "--graph", folder, "--jobs", jobs)
    assert found["diagnostics"]["mean_weight"] == pytest.approx(1.0, abs=1e-12)
    assert found["diagnostics"]["max_weight"] == pytest.approx(1.0, abs=1e-12)
    assert found["estimates"][0]["value"] == pytest.approx(found["baseline"]["value"], abs=1e-12)
    assert not any(one["name"] == "candidates" for one in findings(found))
    sound = document(capsys, "validate", uniform, "--graph", folder)
    assert [one for one in sound["checks"] if not one["ok"]] == []
    (weight,) = [one["detail"] for one in sound["checks"] if one["name"] == "mean weight"]
    assert "says nothing" not in weight


def test_wrong_propensities_are_caught_once_the_graphs_are_given(tmp_path, folder, capsys):
    rows = [msgspec.structs.replace(one, propensity=0.9 * one.propensity) for one in graph_rows(GRAPHS, 4_000)]
    file = write(tmp_path / "log.parquet", rows)
    assert document(capsys, "validate", file)["ok"]
    found = document(capsys, "validate", file, "--graph", folder, status=2)
    assert "mean weight" in [one["name"] for one in found["checks"] if not one["ok"]]


def test_without_the_graphs_propensities_are_not_blamed(uniform, capsys):
    found = document(capsys, "evaluate", uniform, "--policy", "uniform", status=3)
    level, detail = finding(found, "candidates")
    assert level == "refuse"
    assert detail.startswith("4,000 of 4,000 rows leave them to graphs ")
    assert detail.endswith(", not given; add --graph FILE, or --graph DATA/graphs")
    assert all(one.version in detail for one in GRAPHS)
    assert finding(found, "mean weight")[0] == "note"
    assert [one["name"] for one in findings(found) if one["level"] == "refuse"] == ["candidates"]
    sound = document(capsys, "validate", uniform)
    assert sound["ok"]
    (told,) = [one["detail"] for one in sound["checks"] if one["name"] == "candidates"]
    assert told == f"warning: {detail}"


def test_what_was_logged_needs_no_graph(uniform, capsys):
    found = document(capsys, "evaluate", uniform, "--policy", "logged", "--estimators", "ips,snips")
    assert not any(one["name"] == "candidates" for one in findings(found))
    assert found["estimates"][0]["value"] == pytest.approx(found["baseline"]["value"], abs=1e-12)


def test_a_missing_version_alone_is_named(uniform, folder, capsys):
    path = folder / f"{GRAPHS[0].version}.npz"
    found = document(capsys, "evaluate", uniform, "--policy", "uniform", "--graph", path, status=3)
    detail = finding(found, "candidates")[1]
    assert GRAPHS[1].version in detail
    assert GRAPHS[0].version not in detail


def test_a_learner_is_replayed_among_the_candidates(tmp_path, folder, capsys):
    """Even items earn .8, odd ones .2: what is learned is worth far more than the log's .5. One graph: its edges."""
    file = write(tmp_path / "log.parquet", graph_rows(GRAPHS[:1], 6_000))
    refused = document(capsys, "replay", file, "--policy", "diag_linucb", "--min-ess", "0", status=3)
    assert refused["value"] is None
    assert GRAPHS[0].version in finding(refused, "candidates")[1]
    assert finding(refused, "mean weight")[0] == "note"
    found = document(capsys, "replay", file, "--policy", "diag_linucb", "--graph", folder)
    assert found["method"] == "rejection replay"
    assert found["interval"][0] > found["baseline"]["interval"][1]
    assert any("joined to actions by the edges of its graph" in note for note in found["notes"])


def test_replay_of_several_graphs_joins_all_slots(uniform, folder, capsys):
    found = document(capsys, "replay", uniform, "--policy", "diag_linucb", "--graph", folder)
    assert any("each joined to every action" in note for note in found["notes"])


def test_edges_are_the_graph_s(tmp_path):
    """Rows [a, c], [], [b, c, d]; an action that is not in the graph has no edge, as has a slot beyond it."""
    path = tmp_path / "graph.npz"
    path.write_bytes(small_graph().to_bytes())
    edges = edges_of(path, small_graph().version, Actions.of(["a", "c", "d", "new"]), np.array([0, 1, 2, 7]))
    assert edges.astype(int).tolist() == [[1, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("play", [robust, rejected])
def test_kernels_learn_and_score_by_the_edges_alone(policy, play):
    """Contexts of one slot; half the cells exist, so that many candidates have no edge."""
    edges = np.random.default_rng(5).random((N_ACTIONS, N_SLOTS)) < 0.5
    rows = log(1, 900, 1, weights=(1.0, -0.5, 3.0), uniform=play is rejected)
    fast, slow = (learner(policy, N_ACTIONS, N_SLOTS, 2.0, edges) for _ in range(2))
    one, other = play(fast, rows), play(RowByRow(slow), rows)
    assert one.matched == other.matched > 10
    np.testing.assert_allclose(one.sums.moments.first, other.sums.moments.first, rtol=1e-12, atol=1e-12)
    assert isinstance(fast.policy, Learning)
    assert isinstance(slow.policy, Learning)
    for name in ("weight_sq_sum", "weight_sum", "reward_sum", "impressions", "total_reward"):
        np.testing.assert_array_equal(getattr(fast.policy.learner, name), getattr(slow.policy.learner, name))
    assert (fast.policy.learner.weight_sq_sum[~edges] == 0.0).all()


@pytest.mark.parametrize("policy", POLICIES)
def test_scores_over_the_edges_of_many_slots_agree(policy):
    edges = np.random.default_rng(6).random((N_ACTIONS, N_SLOTS)) < 0.3
    rows = log(2, 200, 6, weights=())
    taught = learner(policy, N_ACTIONS, N_SLOTS, 2.0, edges)
    compiled = Compiled.of(taught)
    assert compiled is not None
    compiled.reject(rows, np.zeros(200))
    learned, asked, scratch = compiled._arguments(rows)  # noqa: SLF001
    for i, (request, _) in enumerate(rows.requests()):
        score = scratch.score[: len(request.candidates)]
        score_row(i, asked, learned, score)
        np.testing.assert_allclose(score, taught.policy.scores(request), rtol=3e-7, atol=1e-7)
