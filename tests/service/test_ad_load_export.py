"""What an ad-load surface logs, as banditd export hands it out: enough to evaluate and to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from bandits.ad_load import load
from bandits.context import CONSTANT
from service import cli
from tests.service.ad_policies import ADS, FEATURES, ask, content, put
from tests.service.exporting import read
from tests.service.harness import answered, running


def exported(data, file):
    assert cli.main(["export", "--data", str(data), "--surface", "ads", "-o", str(file)]) == 0
    return read(file)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_rows_hold_candidates_law_features_and_both_rewards(tmp_path, suffix):
    """Three requests: before a policy, with one, and one of which nothing came: 0.25 + 0.1 * 4 = 0.65."""
    data, policy = tmp_path / "data", load(content())
    with running(data, ADS) as server:
        first = answered(ask(server, allowed=[1, 3], user="u1"), 200)
        answered(put(server, content()), 200)
        second = answered(ask(server, features=FEATURES | {"other": -2.5}, user="u1"), 200)
        third = answered(ask(server), 200)
        for decision in (first, second):
            events = [{"kind": "reward", "name": "revenue", "value": 4.0}]
            events += [{"kind": "reward", "name": "satisfaction", "value": 0.25}]
            server.feedback(decision["receipt"], *events)
    rows = {row["decision_id"]: row for row in exported(data, tmp_path / f"rows{suffix}")}
    assert list(rows) == [decision["decision_id"] for decision in (first, second, third)]
    for decision in (first, second, third):
        row = rows[decision["decision_id"]]
        assert (row["item"], row["propensity"]) == (str(decision["ad_load"]), decision["propensity"])
        assert row["distribution"][row["candidates"].index(row["item"])] == row["propensity"]
        assert sum(row["distribution"]) == pytest.approx(1, abs=1e-12)
        assert (row["policy"], row["mode"], row["position"], row["score"]) == ("ad_load", "explore", 0, None)
        assert (row["slots"], row["weights"]) == (CONSTANT.slots.tolist(), [1.0])
    one, two, three = (rows[decision["decision_id"]] for decision in (first, second, third))
    assert (one["candidates"], one["distribution"]) == (["1", "3"], pytest.approx([0.75, 0.25], abs=1e-12))
    assert (one["features"], two["features"]) == (None, FEATURES | {"other": -2.5})
    assert one["user"] == two["user"] != three["user"]
    assert two["candidates"] == ["0", "1", "2", "3"]
    x = policy.matrix([two["features"]])
    np.testing.assert_array_equal(two["distribution"], policy.probabilities(x, None, 0.05)[0])
    assert one["rewards"] == two["rewards"] == {"satisfaction": 0.25, "revenue": 4.0}
    assert (one["reward"], three["reward"], three["rewards"]) == (pytest.approx(0.65), None, {})
