"""Tables that scoring reads: equal to the float64 learner on the same log, baked in pieces or at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.cells import CellTable
from bandits.context import Context
from bandits.diag_linucb import DiagLinUCB
from bandits.graph import Graph
from bandits.names import arm_key
from bandits.tables import CENTRE_EVERY_S, GraphTable, HashedTable, Learning
from tests.bandits.graphs import graph, graphs

VARIANTS = ["published", "centred", "weights"]
TABLE, TOTALS = 11, 12
variants = st.sampled_from(VARIANTS)


class Log:
    """Impressions and rewards of a few items, learned as integers by cells and in float64 by DiagLinUCB."""

    def __init__(self, seed, variant, alpha, prior, n_arms, n_slots, edges=None):
        self.rng = np.random.default_rng(seed)
        self.cells = CellTable()
        self.exact = DiagLinUCB(n_arms, n_slots, alpha, variant, prior, edges)
        self.edges, self.n_slots = edges, n_slots
        self.impressions = self.rewards = 0

    def context(self):
        n = self.rng.integers(1, min(self.n_slots, 8) + 1)
        slots = np.sort(self.rng.choice(self.n_slots, n, replace=False)).astype(np.uint32)
        # Positive: where the weights variant divides by a sum near 0, float32 has no 1e-4 to offer.
        return Context(slots, self.rng.integers(1, 1 << 15, n).astype(np.int32))

    def learn(self, arm, arm_of, context):
        """One impression, rewarded half of the time."""
        value = int(self.rng.integers(0, 1 << 15)) if self.rng.random() < 0.5 else 0
        for slot, q in zip(context.slots.tolist(), context.quanta.tolist(), strict=True):
            if self.edges is None or self.edges[arm, slot]:
                self.cells.add(TABLE, arm_of, slot, q * q, q, 0)
                self.cells.add(TABLE, arm_of, slot, 0, 0, q * value)
        self.impressions += 1
        self.rewards += value
        self.exact.update(arm, context.slots.astype(int), context.weights, value / 32768)

    @property
    def totals(self):
        return self.impressions, self.rewards


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 2**32 - 1), variants, st.sampled_from([0.0, 0.3, 2.0]), st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=40)
def test_a_hashed_table_scores_as_the_float64_learner(seed, variant, alpha, prior):
    items = [f"item {i}" for i in range(6)]
    arms = np.array([arm_key(item) for item in items], np.uint64)
    log = Log(seed, variant, alpha, prior, len(items), 40)
    for _ in range(60):
        arm = int(log.rng.integers(len(items)))
        log.learn(arm, int(arms[arm]), log.context())
    table = HashedTable(TABLE, TOTALS, Learning(variant, alpha, prior))
    table.refresh(log.cells, log.cells.take_changed(), log.totals, 0.0)
    for _ in range(5):
        context = log.context()
        scored = table.upper_bounds(log.cells, arms, context)
        mean, _ = log.exact.posterior(context.slots.astype(int), context.weights)
        close(scored.mean, mean)
        close(scored.score, log.exact.scores(context.slots.astype(int), context.weights))


def edges_of(graph):
    edges = np.zeros((len(graph.items), graph.n_clusters), bool)
    for cluster in range(graph.n_clusters):
        edges[graph.neighbours(cluster), cluster] = True
    return edges


def without_prior(graph):
    return Graph.of(graph.centroids, graph.tau, graph.top_k, graph.items, graph.row_start, graph.row_item)


@given(graphs(), st.integers(0, 2**32 - 1), variants)
@settings(max_examples=40)
def test_a_graph_table_scores_as_the_float64_learner(graph, seed, variant):
    """Candidates of the rows, and any items of the graph through their edges, those without any included."""
    graph = without_prior(graph)
    log = Log(seed, variant, 0.3, 1.0, len(graph.items), graph.n_clusters, edges_of(graph))
    for _ in range(60):
        arm = int(log.rng.integers(len(graph.items)))
        log.learn(arm, int(graph.arm[arm]), top_of(log, graph))
    table = GraphTable(graph, TABLE, TOTALS, Learning(variant))
    table.refresh(log.cells, log.cells.take_changed(), log.totals, 0.0)
    for _ in range(5):
        context = top_of(log, graph)
        slots = context.slots.astype(int)
        mean, _ = log.exact.posterior(slots, context.weights)
        score = log.exact.scores(slots, context.weights)
        scored = table.upper_bounds(context)
        assert sorted(scored.item.tolist()) == graph.candidates(context.slots).tolist()
        close(scored.mean, mean[scored.item])
        close(scored.score, score[scored.item])
        everything = table.upper_bounds_of(np.arange(len(graph.items), dtype=np.int32), context)
        close(everything.mean, mean)
        close(everything.score, score)


def top_of(log, graph):
    context = log.context()
    return Context(context.slots[: graph.top_k], context.quanta[: graph.top_k])


def scores(table, graph):
    """Of every single slot: enough to tell any two tables apart."""
    found = []
    for slot in range(graph.n_clusters):
        scored = table.upper_bounds(Context(np.array([slot], np.uint32), np.array([1 << 14], np.int32)))
        found.append((scored.item.tolist(), scored.mean.tolist(), scored.score.tolist()))
    return found


@given(graphs(), st.integers(0, 2**32 - 1), variants)
@settings(max_examples=40)
def test_baking_what_changed_equals_baking_everything(graph, seed, variant):
    """Totals stand still, so that the centre does not move; items beyond the graph change cells too."""
    log = Log(seed, variant, 0.3, 1.0, len(graph.items) + 2, graph.n_clusters)
    arms = [*graph.arm.tolist(), arm_key("gone"), arm_key("never there")]
    followed = GraphTable(graph, TABLE, TOTALS, Learning(variant))
    for _ in range(5):
        for _ in range(int(log.rng.integers(0, 6))):
            arm = int(log.rng.integers(len(arms)))
            log.learn(arm, arms[arm], top_of(log, graph))
            log.cells.add(TABLE + 5, arms[arm], 0, 1 << 30, 1 << 15, 1 << 30)
        followed.refresh(log.cells, log.cells.take_changed(), (10, 1 << 16), 0.0)
    fresh = GraphTable(graph, TABLE, TOTALS, Learning(variant))
    fresh.refresh(log.cells, np.empty(0, np.int32), (10, 1 << 16), 0.0)
    assert scores(followed, graph) == scores(fresh, graph)


def one_edge(variant="centred", prior_mean=None, scale=1.0):
    graph = Graph.of(
        np.ones((1, 1), np.float32),
        1.0,
        1,
        ["a"],
        np.array([0, 1]),
        np.zeros(1, np.int32),
        None if prior_mean is None else np.array([prior_mean], np.float32),
    )
    return graph, GraphTable(graph, TABLE, TOTALS, Learning(variant, alpha=0.0, scale=scale))


def mean_of(table):
    (mean,) = table.upper_bounds(Context(np.array([0], np.uint32), np.array([1 << 15], np.int32))).mean.tolist()
    return mean


def test_edges_are_baked_anew_when_the_mean_moved_by_two_percent_or_a_minute_passed():
    """Nothing is learned of the edge, so its mean is the centre that it was baked with."""
    nothing, cells = np.empty(0, np.int32), CellTable()
    _, table = one_edge()
    for impressions, rewards, now_s, expected in [
        (1000, 1000 << 14, 0.0, 0.5),
        (1000, 1009 << 14, 1.0, 0.5),
        (1000, 1021 << 14, 2.0, 0.5105),
        (1000, 1030 << 14, 3.0, 0.5105),
        (1000, 1030 << 14, 3.0 + CENTRE_EVERY_S, 0.515),
    ]:
        table.refresh(cells, nothing, (impressions, rewards), now_s)
        assert mean_of(table) == pytest.approx(expected, abs=1e-6)


def test_the_centre_is_followed_by_the_centred_variant_alone():
    for variant, expected in [("published", 0.0), ("centred", 0.25), ("weights", 0.0)]:
        _, table = one_edge(variant)
        table.refresh(CellTable(), np.empty(0, np.int32), (4, 1 << 15), 0.0)
        assert mean_of(table) == pytest.approx(expected)
        hashed = HashedTable(TABLE, TOTALS, Learning(variant))
        hashed.refresh(CellTable(), np.empty(0, np.int32), (4, 1 << 15), 0.0)
        assert hashed.centre == pytest.approx(expected)


def test_an_edges_prior_mean_is_in_reward_units_and_gives_way_to_what_is_learned():
    """Prior 8 of rewards up to 10 is 0.8; after 3 impressions of weight 1 with reward 0 it is (0.8 + 0) / (1 + 3)."""
    graph, table = one_edge("published", prior_mean=8.0, scale=10.0)
    cells = CellTable()
    table.refresh(cells, np.empty(0, np.int32), (0, 0), 0.0)
    assert mean_of(table) == pytest.approx(0.8)
    cells.add(TABLE, int(graph.arm[0]), 0, 3 << 30, 3 << 15, 0)
    table.refresh(cells, cells.take_changed(), (3, 0), 1.0)
    assert mean_of(table) == pytest.approx(0.2)


def test_changed_cells_without_an_edge_are_counted():
    graph, table = one_edge()
    cells = CellTable()
    cells.add(TABLE, int(graph.arm[0]), 0, 1, 1, 1)
    cells.add(TABLE, int(graph.arm[0]), 5, 1, 1, 1)
    cells.add(TABLE, arm_key("gone"), 0, 1, 1, 1)
    cells.add(TABLE, arm_key("gone"), 1, 1, 1, 1)
    table.refresh(cells, cells.take_changed(), (1, 1), 0.0)
    assert table.without_edge == 3


def test_excluded_items_are_left_out():
    graph = Graph.of(
        np.ones((1, 1), np.float32), 1.0, 1, ["a", "b", "c"], np.array([0, 3]), np.arange(3, dtype=np.int32)
    )
    table = GraphTable(graph, TABLE, TOTALS, Learning())
    table.refresh(CellTable(), np.empty(0, np.int32), (0, 0), 0.0)
    context = Context(np.array([0], np.uint32), np.array([1 << 15], np.int32))
    assert table.upper_bounds(context, np.array([0, 2], np.int32)).item.tolist() == [1]
    assert table.upper_bounds(context, np.array([0, 1, 2], np.int32)).item.size == 0


def test_edges_whose_cells_have_left_fall_back_to_the_prior():
    """An impression and a reward of 1 at a cell: theta and variance 1/2; without it the edge is as never seen: 0, 1."""
    table, cells = GraphTable(graph(), 1, 2, Learning("published")), CellTable()
    cells.add(table=1, arm=arm_key("a"), slot=0, weight_sq=1 << 30, weight=1 << 15, reward=1 << 30)
    table.refresh(cells, cells.take_changed(), (1, 1), 0.0)
    assert table.edge[0].tolist() == [0.5, 0.5]
    table.refresh(cells.kept(np.empty(0, np.int32)), None, (1, 1), 0.0)
    assert table.edge[0].tolist() == [0.0, 1.0]
