"""Slates as clients see them and as the log keeps them: drawn as the propensities say, and rebuilt from the entry."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2

from bandits.context import CONSTANT
from bandits.names import arm_key
from bandits.records import DECISION
from bandits.sampling import Sampler
from service.decisions import hash_user
from service.secret_files import secret
from tests.bandits.graphs import graph as small_graph
from tests.service.harness import refused, running

ITEMS = [f"i{k}" for k in range(6)]
AXIS = {"embedding": [1.0, 0.1]}
"""On the small graph: clusters 0 and 1, whose rows are [a, c] and []."""


@pytest.fixture
def seeded(monkeypatch):
    """The same randomness of slates in every run."""
    monkeypatch.setattr("service.node.random_bytes", SimpleNamespace(randbits=lambda bits: 20_230_918))


def decisions(server):
    return [entry for entry in server.entries() if entry.kind == DECISION]


def teach(server, rates, n=40, **request):
    """Serve every item alone and reward it at its rate."""
    for item, rate in rates.items():
        for k in range(n):
            server.reward(server.recommend(items=[item], **request), float(k < rate * n))
    server.settle()


def assert_frequencies_match(counts, probabilities):
    """Pearson's chi-square of first positions against their logged probabilities, p > 0.001."""
    expected = {item: sum(p[item] for p in probabilities) for item in probabilities[0]}
    likely = [item for item in expected if expected[item] >= 5]
    rest = sum(expected.values()) - sum(expected[item] for item in likely)
    statistic = sum((counts[item] - expected[item]) ** 2 / expected[item] for item in likely)
    if rest >= 1:
        others = sum(counts.values()) - sum(counts[item] for item in likely)
        statistic += (others - rest) ** 2 / rest
    assert statistic < chi2.ppf(0.999, max(1, len(likely) - (rest < 1)))


@pytest.mark.parametrize(
    "sampler",
    [
        'kind = "plackett_luce"\ntemperature = 0.2\nepsilon = 0.1',
        'kind = "top_m_uniform"\nm = 3\nepsilon = 0.3',
    ],
)
def test_items_are_served_as_often_as_the_log_says(tmp_path, seeded, sampler):
    """Deferred requests teach nothing, so that all of them are answered from the same scores."""
    with running(tmp_path / "data", f"[surfaces.home.sampler]\n{sampler}\n") as server:
        teach(server, {item: k / 5 for k, item in enumerate(ITEMS)})
        served = server.recommend_many([{"items": ITEMS, "n": 2, "deferred": True}] * 3072)
        entries = [entry for entry in decisions(server) if entry.receipt.deferred]
        assert len(entries) == 3072
        probabilities = [dict(zip(e.details.candidates, e.details.distribution, strict=True)) for e in entries]
        assert sum(probabilities[0].values()) == pytest.approx(1)
        assert len(set(map(tuple, (e.details.distribution for e in entries)))) == 1
        counts = Counter(decision["items"][0]["id"] for decision in served)
        assert_frequencies_match(counts, probabilities)
        for decision in served:
            first = decision["items"][0]
            assert first["propensity"] == pytest.approx(probabilities[0][first["id"]])
        assert max(counts.values()) > 1.3 * min(counts.values())


def test_the_log_lets_candidates_and_the_law_be_rebuilt(tmp_path):
    """The sampler of the entry, on the scores that gave its distribution, gives the served positions' propensities."""
    with running(tmp_path / "data") as server:
        teach(server, {item: k / 5 for k, item in enumerate(ITEMS)}, n=10)
        served = server.recommend(items=[*ITEMS, "z"], exclude=["z"], user="u1", n=3, features={"age": 0.5})
        (entry,) = [e for e in decisions(server) if e.receipt.decision_id == served["decision_id"]]
        receipt, details = entry.receipt, entry.details
        assert details.candidates == ITEMS
        assert details.exclude == ["z"]
        assert (details.policy, details.mode, details.features) == ("diag_linucb", "explore", {"age": 0.5})
        assert details.user == hash_user("u1", secret(tmp_path / "data" / "user_key"))
        assert details.parameters == served["params_version"]
        assert [p.item for p in receipt.positions] == [item["id"] for item in served["items"]]
        assert [p.propensity for p in receipt.positions] == [item["propensity"] for item in served["items"]]
        assert [p.arm for p in receipt.positions] == [arm_key(p.item) for p in receipt.positions]
        sampler = Sampler(*details.sampler)
        assert (sampler.kind, sampler.temperature, sampler.epsilon) == ("plackett_luce", 0.02, 0.01)
        law = np.array(details.distribution)
        first = ITEMS.index(receipt.positions[0].item)
        assert law[first] == pytest.approx(receipt.positions[0].propensity)
        # Plackett-Luce: the score over the temperature is the log of its share, but for a constant.
        score = (sampler.temperature * np.log((law - sampler.epsilon / 6) / (1 - sampler.epsilon))).astype(np.float32)
        second = ITEMS.index(receipt.positions[1].item)
        assert sampler.position(score, [first])[second] == pytest.approx(receipt.positions[1].propensity, rel=1e-3)


def test_only_small_candidate_sets_carry_their_law(tmp_path):
    with running(tmp_path / "data") as server:
        for size in (64, 65):
            server.recommend(items=[f"x{k}" for k in range(size)], n=1)
        found = sorted(decisions(server), key=lambda e: len(e.details.candidates))
        assert [e.details.distribution is None for e in found] == [False, True]
        assert sum(found[0].details.distribution) == pytest.approx(1)


def test_modes_have_their_shares_stick_to_users_and_say_how_they_draw(tmp_path):
    """Hold-out 0.3 of 2,000 users, taken first; half of the others explore: 600, 700, 700, four sigma wide."""
    toml = """
        [surfaces.home]
        holdout_share = 0.3
        explore_share = 0.5
    """
    users = [{"user": f"u{k}", "items": ITEMS, "n": 2, "deferred": True} for k in range(2000)]
    with running(tmp_path / "data", toml) as server:
        teach(server, dict.fromkeys(ITEMS, 0.0) | {"i3": 1.0, "i4": 0.8}, n=10)
        served = server.recommend_many(users)
        again = server.recommend_many(users)
        logged = {e.receipt.decision_id: e for e in decisions(server)}
    assert [d["mode"] for d in served] == [d["mode"] for d in again]
    counts = Counter(d["mode"] for d in served)
    assert abs(counts["holdout"] - 600) < 4 * np.sqrt(2000 * 0.3 * 0.7)
    assert abs(counts["explore"] - 700) < 4 * np.sqrt(2000 * 0.35 * 0.65)
    for decision in served:
        first, second = (item["propensity"] for item in decision["items"])
        details = logged[decision["decision_id"]].details
        assert (details.mode, details.policy) == (decision["mode"], decision["policy"])
        if decision["mode"] == "holdout":
            assert (decision["policy"], details.sampler[0]) == ("uniform", "uniform")
            assert (first, second) == (pytest.approx(1 / 6), pytest.approx(1 / 5))
        elif decision["mode"] == "exploit":
            assert (decision["policy"], details.sampler[0]) == ("diag_linucb", "greedy")
            assert [item["id"] for item in decision["items"]] == ["i3", "i4"]
            assert (first, second) == (1.0, 1.0)
        else:
            assert details.sampler[0] == "plackett_luce"
            assert 0 < first < 1
    firsts = Counter(d["items"][0]["id"] for d in served if d["mode"] == "holdout")
    assert min(firsts.values()) > 50


def test_without_a_user_modes_are_drawn_by_decision(tmp_path):
    toml = "[surfaces.home]\nexplore_share = 0.5\n"
    with running(tmp_path / "data", toml) as server:
        modes = Counter(d["mode"] for d in server.recommend_many([{"items": ["a"]}] * 500))
    assert set(modes) == {"explore", "exploit"}
    assert abs(modes["explore"] - 250) < 5 * np.sqrt(125)


def test_the_uniform_policy_scores_nothing_into_its_draw_and_learns(tmp_path):
    with running(tmp_path / "data", '[surfaces.home]\npolicy = "uniform"\n') as server:
        for _ in range(5):
            decision = server.recommend(items=ITEMS, n=6)
            server.reward(decision, 1.0)
            assert decision["policy"] == "uniform"
            assert [i["propensity"] for i in decision["items"]] == pytest.approx([1 / 6, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 1])
        described = server.get("/v1/surfaces/home").json()
        server.settle()
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 30, "reward": 5.0}
        assert described["policy"] == "uniform"


def test_excluded_items_and_fewer_candidates_than_asked_for(tmp_path):
    with running(tmp_path / "data") as server:
        decision = server.recommend(items=["a", "b", "c", "d"], exclude=["b", "zzz"])
        assert sorted(item["id"] for item in decision["items"]) == ["a", "c", "d"]
        assert [item["position"] for item in decision["items"]] == [0, 1, 2]
        assert decision["n_candidates"] == 3
        assert decision["items"][-1]["propensity"] == 1.0
        assert len(server.recommend(items=[f"x{k}" for k in range(40)])["items"]) == 10


@pytest.mark.parametrize("request_", [{"items": []}, {"items": ["a"], "exclude": ["a"]}])
def test_no_candidates_are_an_empty_slate_and_not_a_fault(tmp_path, request_):
    with running(tmp_path / "data") as server:
        decision = server.recommend(**request_)
        assert (decision["items"], decision["n_candidates"]) == ([], 0)
        assert server.feedback(decision["receipt"]) == {"accepted": 0}
        assert server.sums() == {}


def test_without_items_and_graph_there_is_nothing_to_draw_from(tmp_path):
    with running(tmp_path / "data") as server:
        for body in ({}, {"features": {"a": 1.0}}, {"embedding": [1.0]}):
            refused(server.post("/v1/recommend", body), 422, "items")
        assert server.entries() == []


def test_keys_receipt_and_entry_are_bounded(tmp_path):
    """7 x (256 + 1) + 10 = 1809 <= 2048 < 8 x 257 + 10; ids of 512 bytes fill a receipt at 100, an entry at 1,000."""
    features = {f"f{k}": 1.0 for k in range(256)}
    long_ids = ["\U00020000" * 122 + f"{k:06d}" for k in range(1000)]
    with running(tmp_path / "data") as server:
        assert len(server.recommend(items=ITEMS + ["x", "y"], features=features, n=7)["items"]) == 7
        before = len(server.entries())
        refused(server.post("/v1/recommend", {"items": ITEMS + ["x", "y"], "features": features, "n": 8}), 422, "n")
        refused(server.post("/v1/recommend", {"items": long_ids[:100], "n": 100}), 422, "n")
        refused(server.post("/v1/recommend", {"items": long_ids, "n": 1}), 422, "items")
        assert len(server.entries()) == before
        assert len(server.recommend(items=long_ids[:60], n=50)["items"]) == 50


@pytest.mark.parametrize("variant", ["published", "centred", "weights"])
def test_explained_scores_add_up(tmp_path, variant):
    """mean = centre + contributions, score = mean + bonus, all in reward units (here 0..4)."""
    toml = f"""
        [surfaces.home.diag_linucb]
        variant = "{variant}"
        [[surfaces.home.rewards]]
        range = [0.0, 4.0]
    """
    context = {"features": {"age": 0.5, "country=IN": 2.0, "x": 1.0}}
    with running(tmp_path / "data", toml) as server:
        for item, value in (("a", 4.0), ("b", 1.0)):
            for _ in range(10):
                server.reward(server.recommend(items=[item], **context), value)
        server.settle()
        decision = server.recommend(items=["a", "b", "c"], explain=True, **context)
        found = {item["id"]: item for item in decision["items"]}
        centre = 2.5 if variant == "centred" else 0.0
        for item in found.values():
            contributions = item["contributions"]
            assert sorted(c["weight"] for c in contributions) == [0.5, 1.0, 2.0]
            assert item["score"] == pytest.approx(item["mean"] + item["bonus"], abs=1e-6)
            assert item["mean"] == pytest.approx(centre + sum(c["value"] for c in contributions), abs=1e-5)
        assert found["a"]["mean"] > found["b"]["mean"]
        assert found["c"]["mean"] == pytest.approx(centre)
        assert found["c"]["bonus"] > found["a"]["bonus"] > 0
        assert {c["value"] for c in found["c"]["contributions"]} == {0.0}
        unexplained = server.recommend(items=["a"])["items"][0]
        assert set(unexplained) == {"id", "position", "propensity"}


def test_a_deferred_decision_counts_once_it_is_activated(tmp_path):
    with running(tmp_path / "data") as server:
        decision = server.recommend(items=["a", "b", "c"], deferred=True)
        assert server.sums() == {}
        server.feedback(decision["receipt"], {"kind": "impression", "item": "b"})
        slot = int(CONSTANT.slots[0])
        assert server.sums() == {("b", slot): (1.0, 1.0, 0.0)}
        server.feedback(decision["receipt"], {"kind": "reward", "item": "c", "value": 0.5})
        assert server.sums() == {("b", slot): (1.0, 1.0, 0.0), ("c", slot): (1.0, 1.0, 0.5)}
        server.feedback(decision["receipt"], {"kind": "impression"})
        assert server.cells()["surface"] == {"name": "default", "impressions": 3, "reward": 0.5}
        (entry,) = decisions(server)
        assert entry.receipt.deferred


def test_beyond_max_arms_decisions_with_an_unseen_arm_are_answered_and_not_learned(tmp_path):
    """Two of three arms are known: one more fits, and so do those that are known; then a fourth does not."""
    with running(tmp_path / "data", "[surfaces.home]\nmax_arms = 3\n") as server:
        server.recommend(items=["a", "b"])
        server.settle()
        assert "not_learned" not in server.feedback(server.recommend(items=["a", "b", "c"])["receipt"])
        server.settle()
        over = server.recommend(items=["a", "d"], n=2)
        assert [item["position"] for item in over["items"]] == [0, 1]
        reward = {"kind": "reward", "item": "a", "value": 1.0}
        assert server.feedback(over["receipt"], reward, reward) == {"accepted": 2, "not_learned": 2}
        server.reward(server.recommend(items=["a", "b", "c"]), 1.0)
        assert {arm for arm, _ in server.sums("home")} == {"a", "b", "c"}
        assert server.cells("home")["surface"] == {"name": "home", "impressions": 8, "reward": 1.0}
        assert 'banditd_nolearn_total{reason="max_arms"} 1.0' in server.get("/metrics").text


def test_a_refused_request_in_a_batch_refuses_all_and_leaves_no_trace(tmp_path):
    """The last one fails only after its slate was drawn: its receipt would be too large."""
    long_ids = ["\U00020000" * 122 + f"{k:06d}" for k in range(100)]
    good = {"items": ITEMS}
    with running(tmp_path / "data") as server:
        first = server.recommend(items=ITEMS)
        for bad, status, path in [
            ({"items": long_ids, "n": 100}, 422, "requests[40].n"),
            ({"items": ["a", "a"]}, 422, "requests[40].items[1]"),
            ({"surface": "other"}, 404, None),
        ]:
            response = server.post("/v1/recommend/batch", {"requests": [good] * 40 + [bad, good]})
            problem = refused(response, status, path)
            assert problem["detail"].startswith("requests[40]")
        assert len(server.entries()) == 1
        last = server.recommend(items=ITEMS)
        ordinals = {e.receipt.decision_id: (e.receipt.partition, e.receipt.ordinal) for e in server.entries()}
        assert len({first["decision_id"], last["decision_id"]}) == 2
        assert all(ordinal == 0 for _, ordinal in ordinals.values())


def test_decisions_of_a_batch_have_bits_and_ordinals_of_their_own(tmp_path):
    with running(tmp_path / "data", "[server]\npartitions = 2\n") as server:
        requests = [{"items": ["a", "b"], "user": f"u{k % 5}"} for k in range(100)]
        served = server.recommend_many(requests)
        server.recommend(items=["a", "b"], user="u0")
        logged = [e.receipt for e in decisions(server)]
        assert {d["decision_id"] for d in served} < {r.decision_id for r in logged}
        bits = {(r.hour, r.partition, r.bit + k) for r in logged for k in range(1 + 2 * 2)}
        assert len(bits) == 101 * 5
        for partition in range(2):
            ordinals = [r.ordinal for r in logged if r.partition == partition]
            assert ordinals == list(range(len(ordinals)))
        assert "banditd_decisions_lost_total 0.0" in server.get("/metrics").text
        for decision in served:
            server.reward(decision, 1.0)
        assert server.cells()["surface"] == {"name": "default", "impressions": 202, "reward": 100.0}


def test_rewards_of_a_batch_count_by_the_receipts_handed_out(tmp_path):
    """The receipt that the client holds is the one in the log, byte for byte: a lost entry would heal from it."""
    with running(tmp_path / "data") as server:
        served = server.recommend_many([{"items": ["a", "b"], "user": "u1"}] * 3)
        for decision in served:
            server.feedback(decision["receipt"], {"kind": "impression"})
        receipts = Counter(e.receipt for e in server.entries())
        assert sorted(receipt.ordinal for receipt in receipts) == [0, 1, 2]
        assert set(receipts.values()) == {2}


def test_a_quiet_server_knows_that_its_table_is_current(tmp_path):
    with running(tmp_path / "data") as server:
        server.recommend(items=["a"])
        server.settle()
        server.settle()
        while server.node.pipeline.age_s:
            pass
        assert server.recommend(items=["a"])["params_age_ms"] == 0


class TestOnAGraph:
    """The small graph: rows [a, c], [], [b, c, d] of clusters (1, 0), (0, 1), (-1, 0); top 2."""

    @pytest.fixture
    def server(self, tmp_path):
        with running(tmp_path / "data") as server:
            assert server.upload(small_graph().to_bytes()).status_code == 200
            yield server

    def test_candidates_are_the_union_of_the_rows(self, server):
        for embedding, expected in [([1.0, 0.1], "ac"), ([-1.0, 0.1], "bcd"), ([0.0, -1.0], "abcd")]:
            decision = server.recommend(embedding=embedding)
            assert sorted(item["id"] for item in decision["items"]) == list(expected)
            assert decision["n_candidates"] == len(expected)
        (entry, *_) = decisions(server)
        assert entry.details.graph == small_graph().version

    def test_excluded_items_of_the_graph(self, server):
        assert [i["id"] for i in server.recommend(**AXIS, exclude=["c", "nope"])["items"]] == ["a"]
        assert server.recommend(**AXIS, exclude=["a", "c"])["items"] == []
        (entry, *_) = [e for e in decisions(server) if e.receipt.positions]
        assert entry.details.exclude == ["c", "nope"]
        assert entry.details.candidates == ["a"]

    def test_masks_say_which_edges_a_position_has(self, server):
        """Clusters 0 and 2 are equally near: c has edges to both, a and b to one."""
        decision = server.recommend(embedding=[0.0, -1.0])
        (entry,) = [e for e in decisions(server) if e.receipt.decision_id == decision["decision_id"]]
        (context,) = entry.receipt.contexts
        assert np.frombuffer(context.slots, "<u4").tolist() == [0, 2]
        masks = {p.item: p.references for p in entry.receipt.positions}
        assert masks == {"a": ((0, b"\x01"),), "b": ((0, b"\x02"),), "c": ((0, b""),), "d": ((0, b"\x02"),)}
        assert set(server.sums()) == {("a", 0), ("b", 2), ("c", 0), ("c", 2), ("d", 2)}

    def test_given_items_are_scored_through_their_edges(self, server):
        decision = server.recommend(**AXIS, items=["a", "b", "new"], explain=True)
        found = {item["id"]: item for item in decision["items"]}
        assert set(found) == {"a", "b", "new"}
        assert found["b"]["bonus"] == pytest.approx(found["new"]["bonus"])
        assert found["b"]["bonus"] > found["a"]["bonus"]
        server.reward(decision, 1.0, "new")
        assert {arm for arm, _ in server.sums()} == {"a"}
        assert server.cells()["surface"]["impressions"] == 3

    def test_features_have_a_table_of_their_own(self, server):
        refused(server.post("/v1/recommend", {"features": {"x": 1.0}}), 422, "items")
        server.reward(server.recommend(**AXIS), 1.0)
        server.reward(server.recommend(features={"x": 1.0}, items=["a"]), 1.0)
        tables = {cell["table"] for cell in server.cells()["cells"]}
        assert len(tables) == 2
        assert {c["feature"] for c in server.cells()["cells"]} == {None, "x"}

    def test_a_wrong_embedding_is_named(self, server):
        for embedding, path in [([1.0], "embedding"), ([1.0, 1e300], "embedding[1]")]:
            refused(server.post("/v1/recommend", {"embedding": embedding}), 422, path)
        refused(server.post("/v1/recommend", {"embedding": [1.0, 0.0], "features": {}}), 422, "features")
        refused(server.post("/v1/recommend", {}), 422, "embedding")

    def test_contributions_add_up(self, server):
        server.reward(server.recommend(**AXIS, items=["c"]), 1.0)
        server.settle()
        decision = server.recommend(embedding=[0.0, -1.0], explain=True)
        (c,) = [item for item in decision["items"] if item["id"] == "c"]
        centre = 1.0
        assert c["mean"] == pytest.approx(centre + sum(one["value"] for one in c["contributions"]), abs=1e-5)
        assert [one["slot"] for one in c["contributions"]] == [0, 2]
