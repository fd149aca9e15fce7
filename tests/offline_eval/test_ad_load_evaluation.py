"""Evaluating ad-load policies: on rows they were learned from, and beside the policy that wrote the log."""

from __future__ import annotations

import json

import pytest

from offline_eval.learning.play import write_table
from service.cli import main
from tests.bandits.ad_load_policies import FILE


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("ads") / "ads.parquet"
    write_table("logging", 4000, 3, path)
    return path


def evaluated(capsys, *arguments: str) -> dict:
    assert main(["evaluate", *arguments, "--estimators", "ips,snips", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("window", "told"), [(("2026-01-02", "2026-01-03"), True), (("2025-01-02", "2025-06-03"), False)]
)
def test_a_policy_on_the_rows_it_was_learned_from_is_told(log, tmp_path, capsys, window, told):
    model = {"type": "linear", "weights": [[0.0, 0.0]] * 4, "bias": [0.0] * 4}
    changes = {"loads": [0, 1, 2, 3], "model": model, "logging": [0.25] * 4, "floor": 0.05}
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(FILE | changes | {"window": [f"{day}T00:00:00Z" for day in window]}))
    reasons = evaluated(capsys, str(log), "--policy", str(path))["reasons"]
    assert any(reason.startswith("learned from this log: ") for reason in reasons) == told


def test_beside_the_logging_policy_the_support_of_the_other_is_still_measured(log, capsys):
    """The log lacks the logging policy's whole distribution, which only that policy's own checks need."""
    document = evaluated(capsys, str(log), "--policy", "uniform", "--against", "logged")
    assert document["diagnostics"]["unsupported_mass"] == 0.0
    assert [one["estimator"] for one in document["comparison"]] == ["ips", "snips"]
