"""POST /v1/ad-load: loads drawn by the logging distribution or the uploaded policy, logged as they were drawn."""

from __future__ import annotations

import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2

from bandits.ad_load import load
from bandits.context import CONSTANT
from bandits.records import DECISION
from tests.service.ad_policies import ADS, FEATURES, ask, content, document, put
from tests.service.harness import answered, refused, running

LOGGING = [0.4, 0.3, 0.2, 0.1]
FLOOR = 0.05


@pytest.fixture
def server(tmp_path):
    with running(tmp_path / "data", ADS) as server:
        yield server


def law(policy, features, allowed=(0, 1, 2, 3), floor=FLOOR):
    """What the policy says, load by load."""
    probability = policy.probabilities(policy.matrix([features]), policy.mask([allowed]), floor)[0]
    return dict(zip(policy.loads, probability.tolist(), strict=True))


def entry_of(server, decision):
    (found,) = [
        entry
        for entry in server.entries()
        if entry.kind == DECISION and entry.receipt.decision_id == decision["decision_id"]
    ]
    return found


def shares(decision):
    return {one["ad_load"]: one["propensity"] for one in decision["distribution"]}


def test_before_a_policy_is_uploaded_the_configured_distribution_is_drawn_from(server):
    """Over loads 1 and 3: 0.3 / 0.4 and 0.1 / 0.4."""
    decision = answered(ask(server, explain=True), 200)
    assert (decision["surface"], decision["policy"], decision["mode"]) == ("ads", "ad_load", "explore")
    assert decision["policy_version"] is None
    assert list(shares(decision).values()) == pytest.approx(LOGGING, abs=1e-12)
    assert [one["score"] for one in decision["distribution"]] == [None] * 4
    some = answered(ask(server, allowed=[3, 1], explain=True), 200)
    assert shares(some) == pytest.approx({1: 0.75, 3: 0.25}, abs=1e-12)
    assert some["propensity"] == shares(some)[some["ad_load"]]
    assert answered(ask(server, allowed=[2]), 200)["propensity"] == 1.0


def test_after_an_upload_the_policy_decides_and_its_whole_distribution_is_logged(server):
    policy = load(content())
    answered(put(server, content()), 200)
    for allowed in ([0, 1, 2, 3], [3, 0], [2]):
        body = {"features": FEATURES, "allowed": allowed, "user": "u1", "explain": True}
        decision = answered(ask(server, **body), 200)
        expected = {one: share for one, share in law(policy, FEATURES, allowed).items() if one in allowed}
        assert shares(decision) == expected
        assert decision["propensity"] == expected[decision["ad_load"]]
        assert decision["policy_version"] == policy.version
        receipt, details = (entry := entry_of(server, decision)).receipt, entry.details
        assert details.candidates == [str(one) for one in sorted(allowed)]
        assert details.distribution == list(expected.values())
        assert (details.policy, details.policy_version) == ("ad_load", policy.version)
        assert (details.features, details.sampler) == (FEATURES, ("ad_load", 0.5, 0, FLOOR))
        (position,) = receipt.positions
        assert (position.item, position.propensity) == (str(decision["ad_load"]), decision["propensity"])


def test_without_explain_the_reply_says_what_was_decided_and_no_more(server):
    assert set(answered(ask(server), 200)) == {
        *("decision_id", "surface", "policy", "mode", "ad_load", "propensity", "receipt", "policy_version")
    }


def test_no_allowed_load_falls_below_the_larger_of_both_floors(server):
    """The softmax alone gives load 0 less than 1e-3 here; the floor of the surface is 0.05, that of the file 0.02."""
    far = {"tolerance": 2.0, "since_ad_s": 6000.0}
    policy = load(content())
    assert min(law(policy, far, floor=0.0).values()) == 0.02
    answered(put(server, content()), 200)
    assert min(shares(answered(ask(server, features=far, explain=True), 200)).values()) == pytest.approx(
        FLOOR, abs=1e-12
    )
    answered(put(server, content(floor=0.08)), 200)
    assert min(shares(answered(ask(server, features=far, explain=True), 200)).values()) == pytest.approx(
        0.08, abs=1e-12
    )


def test_a_logging_distribution_that_rounding_took_below_the_floor_is_no_lower_floor(server):
    """0.05 less an ulp: the policy is served, not its logging distribution alone."""
    least = float(np.nextafter(FLOOR, 0.0))
    logging = [0.4, 0.3, 0.25, least]
    answered(put(server, content(logging=logging)), 200)
    found = shares(answered(ask(server, features=FEATURES, explain=True), 200))
    assert found[3] > 0.5
    assert min(found.values()) >= least


def test_loads_are_served_as_often_as_their_propensities_say(tmp_path, monkeypatch):
    """Pearson's chi-square of 4,000 loads, p > 0.001, from a fixed seed."""
    monkeypatch.setattr("service.node.random_bytes", SimpleNamespace(randbits=lambda bits: 20_240_304))
    with running(tmp_path / "data", ADS) as server:
        answered(put(server, content()), 200)
        decisions = [answered(ask(server, features=FEATURES), 200) for _ in range(4000)]
        expected = law(load(content()), FEATURES)
        counts = Counter(one["ad_load"] for one in decisions)
        assert all(one["propensity"] == expected[one["ad_load"]] for one in decisions)
        statistic = sum((counts[one] - 4000 * p) ** 2 / (4000 * p) for one, p in expected.items())
        assert statistic < chi2.ppf(0.999, 3)
        assert sum(expected.values()) == pytest.approx(1, abs=1e-12)


def test_a_missing_feature_counts_as_its_mean_and_an_unknown_one_is_logged_and_ignored(server):
    answered(put(server, content()), 200)
    given = {"tolerance": 0.7, "sinc_ad_s": 3600.0}
    decision = answered(ask(server, features=given, explain=True), 200)
    assert shares(decision) == pytest.approx(law(load(content()), {"tolerance": 0.7, "since_ad_s": 600.0}), abs=1e-12)
    assert (decision["missing"], decision["unknown"]) == (["since_ad_s"], ["sinc_ad_s"])
    assert entry_of(server, decision).details.features == given
    bare = answered(ask(server, explain=True), 200)
    assert shares(bare) == pytest.approx(law(load(content()), None), abs=1e-12)
    counted = dict(
        re.findall(r'policy_features_total\{surface="ads",what="(\w+)"\} (\S+)', server.get("/metrics").text)
    )
    assert counted == {"missing": "3.0", "unknown": "1.0"}


def test_hold_out_is_uniform_over_what_is_allowed_and_exploit_the_best_scored(tmp_path):
    shares_of = "[surfaces.ads]\nholdout_share = 0.3\nexplore_share = 0.5\n"
    with running(tmp_path / "data", ADS.replace("[surfaces.ads]\n", shares_of)) as server:
        modes = {f"u{k}": answered(ask(server, user=f"u{k}"), 200)["mode"] for k in range(300)}
        assert set(modes.values()) == {"holdout", "explore"}
        answered(put(server, content()), 200)
        best = int(np.argmax(load(content()).scores(np.array([[0.7, 3600.0]]))[0, :3]))
        again = Counter()
        for user, before in modes.items():
            body = {"user": user, "features": FEATURES, "allowed": [0, 1, 2], "explain": True}
            decision = answered(ask(server, **body), 200)
            mode = decision["mode"]
            again[mode] += 1
            assert mode == before or (before, mode) == ("explore", "exploit")
            assert decision["policy"] == ("uniform" if mode == "holdout" else "ad_load")
            if mode == "holdout":
                assert shares(decision) == dict.fromkeys((0, 1, 2), 1 / 3)
            elif mode == "exploit":
                assert shares(decision) == {one: float(one == best) for one in (0, 1, 2)}
                assert (decision["ad_load"], decision["propensity"]) == (best, 1.0)
        assert set(again) == {"holdout", "explore", "exploit"}
        text = server.get("/metrics").text
        for mode, n in again.items():
            (total,) = re.findall(rf'decisions_total\{{mode="{mode}",surface="ads"\}} (\S+)', text)
            assert float(total) >= n


def test_loads_that_the_policy_does_not_know_are_for_the_hold_out_only(tmp_path):
    with running(tmp_path / "data", ADS) as server:
        small = document()
        weights = {**small["model"], "weights": small["model"]["weights"][:2], "bias": [0.0, 0.1]}
        body = content(loads=[0, 1], model=weights, logging=[0.6, 0.4])
        answered(put(server, body), 200)
        assert set(shares(answered(ask(server, explain=True), 200))) == {0, 1}
        assert set(shares(answered(ask(server, allowed=[1, 3], explain=True), 200))) == {1}
        assert "[0, 1]" in refused(ask(server, allowed=[2, 3]), 422, "allowed")["detail"]


def test_a_load_that_logging_never_serves_is_served_where_nothing_else_is_allowed(tmp_path):
    never = ADS.replace("[0.4, 0.3, 0.2, 0.1]", "[0.5, 0.5, 0.0, 0.0]\nfloor = 0.0")
    with running(tmp_path / "data", never) as server:
        assert set(shares(answered(ask(server, explain=True), 200)).values()) == {0.5, 0.0}
        assert shares(answered(ask(server, allowed=[2, 3], explain=True), 200)) == {2: 0.5, 3: 0.5}


def test_rewards_come_by_the_receipt_and_make_a_cell_of_each_load(server):
    """Weighted sums 0.5 + 0.1 * 2 = 0.7 for load 1 twice, 0.1 * 10 = 1 for load 3 once."""
    for allowed, rewards in (([1], [("satisfaction", 0.5), ("revenue", 2.0)]), ([3], [("revenue", 10.0)])):
        for _ in range(2 if allowed == [1] else 1):
            decision = answered(ask(server, allowed=allowed), 200)
            events = [{"kind": "reward", "name": name, "value": value} for name, value in rewards]
            server.feedback(decision["receipt"], *events)
    cells = {cell["arm"]: cell for cell in server.cells("ads")["cells"]}
    assert {(cell["slot"], cell["feature"]) for cell in cells.values()} == {(int(CONSTANT.slots[0]), "constant")}
    means = {arm: cell["reward_sum"] / cell["weight_sum"] for arm, cell in cells.items()}
    assert means == pytest.approx({"1": 0.7, "3": 1.0}, abs=2e-4)
    assert {arm: cell["weight_sum"] for arm, cell in cells.items()} == {"1": 2.0, "3": 1.0}
    item = {"kind": "reward", "name": "revenue", "item": "2", "value": 1.0}
    refused(server.post("/v1/feedback", {"receipt": decision["receipt"], "events": [item]}), 422, "events[0].item")


def test_an_event_id_gives_the_first_reply_whatever_is_asked_and_takes_feedback(server):
    first = answered(ask(server, event_id="e1"), 200)
    answered(put(server, content()), 200)
    for again in ({}, {"allowed": [9]}, {"features": {"a": "b"}}, {"nonsense": 1}):
        assert answered(ask(server, event_id="e1", **again), 200) == first
    refused(ask(server, event_id="e2", allowed=[9]), 422, "allowed[0]")
    assert answered(ask(server, event_id="e2"), 200)["decision_id"] != first["decision_id"]
    events = [{"kind": "reward", "name": "revenue", "value": 1.0}]
    answered(server.post("/v1/feedback", {"event_id": "e1", "surface": "ads", "events": events}), 202)
    decided = [entry.receipt.decision_id for entry in server.entries() if entry.kind == DECISION]
    assert decided.count(first["decision_id"]) == 1
    assert len(decided) == 2


@pytest.mark.parametrize("event_id", [{}, {"event_id": "e1"}])
def test_recommend_on_an_ad_load_surface_and_the_reverse_are_409(server, event_id):
    answered(ask(server, event_id="e1"), 200)
    before = len(server.frames())
    for surface in ({"surface": "ads"}, {}):
        body = {"items": ["a"]} | surface | event_id
        assert "/v1/ad-load" in refused(server.post("/v1/recommend", body), 409)["detail"]
    batch = {"requests": [{"surface": "home", "items": ["a"]}, {"surface": "ads", "items": ["a"]} | event_id]}
    assert refused(server.post("/v1/recommend/batch", batch), 409)["detail"].startswith("requests[1]: ")
    refused(server.post("/v1/ad-load", {"surface": "home"} | event_id), 409)
    refused(put(server, content(), "home"), 409)
    refused(server.upload(b"PK", "ads"), 409)
    assert len(server.frames()) == before


def test_a_request_without_surface_goes_to_the_first_one(tmp_path, server):
    assert answered(server.post("/v1/ad-load", {}), 200)["surface"] == "ads"
    with running(tmp_path / "other", "[surfaces.home]\n" + ADS.replace("[surfaces.home]\n", "")) as other:
        assert "name one that does" in refused(other.post("/v1/ad-load", {}), 409)["detail"]


WRONG = {
    "no loads": ({"allowed": []}, "allowed"),
    "an unknown load": ({"allowed": [0, 7]}, "allowed[1]"),
    "a load twice": ({"allowed": [1, 2, 1]}, "allowed[2]"),
    "a load as text": ({"allowed": ["1"]}, "allowed[0]"),
    "a load as a fraction": ({"allowed": [0.5]}, "allowed[0]"),
    "loads that are no list": ({"allowed": 1}, "allowed"),
    "a feature as text": ({"features": {"age": 1.0, "country": "IN"}}, 'features["country"]'),
    "a feature beyond the bound": ({"features": {"age": 1e13}}, 'features["age"]'),
    "too many features": ({"features": {f"f{k}": 1.0 for k in range(257)}}, "features"),
    "features that are no table": ({"features": [1.0]}, "features"),
    "an unprintable user": ({"user": "a\nb"}, "user"),
    "an empty user": ({"user": ""}, "user"),
    "an unprintable event id": ({"event_id": "\x00"}, "event_id"),
    "an unknown field": ({"loads": [1]}, "loads"),
    "names too long for the log": ({"features": {"x" * 300_000: 1.0}}, "features"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_told_where_and_leaves_no_trace(server, name):
    body, path = WRONG[name]
    refused(ask(server, **body), 422, path)
    assert server.frames() == []


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b'{"features": {"a": 1e999}}', 'features["a"]'),
        (b'{"features": {"a": NaN}}', "$"),
        (b'{"allowed": [1', "$"),
        (b'{"user": "\xff"}', "$"),
        (b"", "$"),
        (b"[]", "$"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_where(server, content, path):
    headers = {"content-type": "application/json"}
    refused(server.request("POST", "/v1/ad-load", content=content, headers=headers), 422, path)


def test_other_faults_have_their_status(server):
    refused(server.post("/v1/ad-load", {"surface": "nowhere"}), 404)
    refused(server.get("/v1/ad-load"), 405)
    text = {"content-type": "text/plain"}
    refused(server.request("POST", "/v1/ad-load", content=b"{}", headers=text), 415)
    large = b'{"user": "' + b"x" * (1 << 20) + b'"}'
    json = {"content-type": "application/json"}
    refused(server.request("POST", "/v1/ad-load", content=large, headers=json), 413)


def test_null_is_as_absent(server):
    nothing = dict.fromkeys(("user", "event_id", "features", "allowed", "explain"))
    assert list(entry_of(server, answered(ask(server, **nothing), 200)).details.candidates) == list("0123")
