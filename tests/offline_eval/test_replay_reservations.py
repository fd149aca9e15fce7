"""What a replay says of its own number: a history cut off, few rewards, candidates that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.own_log import Row
from tests.offline_eval.logs import NOON_US, row, write
from tests.offline_eval.test_replay_command import document, written

TRUTH = np.array([[0.2, 0.5, 0.8], [0.7, 0.4, 0.1]])


def found(said: dict[str, Any], name: str) -> tuple[str, str]:
    """Level and detail of a finding."""
    (one,) = [one for one in said["diagnostics"]["findings"] if one["name"] == name]
    return one["level"], one["detail"]


def log(path: Path, n: int, rest: float, truth: np.ndarray = TRUTH, seed: int = 0) -> str:
    """n rows that take the worst action but for a probability `rest` of each of the others."""
    rng = np.random.default_rng(seed)
    law = np.array([[1 - 2 * rest, rest, rest], [rest, rest, 1 - 2 * rest]])
    context = rng.integers(2, size=n)
    action = (rng.random(n)[:, None] > law[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < truth[context, action]).astype(int)
    return str(
        written(
            path,
            action=action,
            reward=reward,
            propensity=law[context, action],
            timestamp=np.arange(n),
            left=1 - context,
            right=context,
        )
    )


@pytest.mark.parametrize(("rest", "level", "status"), [(0.15, "ok", 0), (0.08, "warn", 0), (0.02, "refuse", 3)])
def test_a_policy_that_wants_what_the_log_rarely_takes_is_doubted_or_refused(tmp_path, capsys, rest, level, status):
    """It would meet such rows most of all, and sampling is cut off in just these: few rows, but most of its history."""
    said = document(
        capsys, log(tmp_path / "log.csv", 3_000, rest), "--policy", "diag_linucb:temperature=.1", status=status
    )
    assert found(said, "clipped sampling")[0] == level
    if level != "ok":
        assert any("try a lower --quantile, or log with more exploration" in reason for reason in said["reasons"])


def test_few_rewarded_rows_are_a_reservation(tmp_path, capsys):
    """One click in 500: six rows of 3,000."""
    said = document(capsys, log(tmp_path / "log.csv", 3_000, 0.2, np.full((2, 3), 0.002)), "--policy", "diag_linucb")
    level, detail = found(said, "few rewards")
    assert level == "warn"
    assert detail.startswith("6 rows that count have a reward other than 0, fewer than 10")
    assert said["verdict"].startswith("supported, with reservations: ")


def test_one_row_that_makes_most_of_the_variance_is_a_reservation(tmp_path, capsys):
    """Twenty rewards of 1 in 2,000 rows; then the same with one of 50 more: a quarter of the variance is its own."""
    n = 2_000
    law = np.array([0.4, 0.3, 0.3])
    action = np.random.default_rng(1).choice(3, n, p=law)
    columns = {"action": action, "propensity": law[action], "timestamp": np.arange(n)}
    reward = np.where(np.arange(n) % 100 == 0, 1, 0)
    flat = str(written(tmp_path / "flat.csv", **columns, reward=reward))
    assert found(document(capsys, flat, "--policy", "uniform"), "few rewards")[0] == "ok"
    reward[700] = 50
    said = document(capsys, str(written(tmp_path / "tail.csv", **columns, reward=reward)), "--policy", "uniform")
    level, detail = found(said, "few rewards")
    assert level == "warn"
    assert detail.startswith("one row moves the value by 1 standard errors: more such rows may be missing")


def slotted(n: int, *, context: bool = True, rest: float = 1 / 3) -> list[Row]:
    """n rows of two slots and three items whose best has .9; the named feature says nothing."""
    rng = np.random.default_rng(2)
    law = np.array([[1 - 2 * rest, rest, rest], [rest, rest, 1 - 2 * rest]])
    rows = []
    for i in range(n):
        here = int(rng.integers(2))
        item = int(rng.choice(3, p=law[here]))
        rows.append(
            row(
                decision_id=f"d{i:05}",
                timestamp=NOON_US + i,
                item="abc"[item],
                propensity=float(law[here, item]),
                candidates=["a", "b", "c"],
                distribution=law[here].tolist(),
                features={"noise": float(rng.normal())},
                reward=float(rng.random() < (0.9 if item == 2 - 2 * here else 0.2)),
                slots=[40 + 7 * here, 11] if context else [],
                weights=[1.0, 0.5] if context else [],
            )
        )
    return rows


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(("rest", "method"), [(1 / 3, "rejection replay"), (0.25, "dr replay")])
def test_a_learner_sees_the_slots_that_the_service_s_saw(tmp_path, capsys, suffix, rest, method):
    """They tell the two contexts apart, the features do not: .9 against about .43."""
    for context in (True, False):
        file = write(tmp_path / f"{context}{suffix}", slotted(3_000, context=context, rest=rest))
        said = document(capsys, str(file), "--policy", "diag_linucb")
        assert said["method"] == method
        noted = "contexts are the 3 slots that the log's own learner saw, each joined to every action" in said["notes"]
        assert noted is context
        assert said["value"] > 0.75 if context else said["value"] < 0.6
        assert found(said, "candidates")[0] == "ok" if method == "dr replay" else True


def test_unknown_candidates_are_refused_unless_they_are_all_actions(tmp_path, capsys):
    """A graph gave them: the probability is that of one of 3, though the policy may choose among all 4 actions."""
    rows = [msgspec.structs.replace(one, candidates=None, graph="g", distribution=None) for one in slotted(600)]
    plain = write(tmp_path / "plain.parquet", rows)
    assert document(capsys, str(plain), "--policy", "diag_linucb")["method"] == "rejection replay"
    more = [msgspec.structs.replace(one, item="d") if i % 50 == 0 else one for i, one in enumerate(rows)]
    said = document(
        capsys, str(write(tmp_path / "more.parquet", more)), "--policy", "diag_linucb", "--min-ess", "0", status=3
    )
    assert found(said, "candidates") == (
        "refuse",
        "600 of 600 rows leave them to graph g, not given; add --graph FILE, or --graph DATA/graphs",
    )
    assert said["value"] is None
    assert document(capsys, str(tmp_path / "more.parquet"), "--policy", "logged")["matched"] == 600
