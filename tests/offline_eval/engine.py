"""Worlds, files and command lines for the tests of the evaluation engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bandits.own_log import Row
from offline_eval import BanditLog
from service.cli import main
from tests.offline_eval.logs import NOON_US, row

EVERY = "replay,dm,ips,cips,sg-ips,snips,dr,sndr,mrdr,switch-dr,dros,drps,sg-dr"
"""Estimators that files can be evaluated with."""
OBD = Path(__file__).parents[1] / "data" / "obd"


def columns(n: int = 3_000, k: int = 4, seed: int = 0) -> dict[str, Any]:
    """Of a log whose logging policy depends on nothing that is seen; later actions are better."""
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.full(k, 3.0), n)
    action = (logging.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return {
        "context": rng.normal(size=(n, 3)),
        "action": action,
        "reward": (rng.random(n) < 0.2 + 0.15 * action).astype(float),
        "propensity": logging[np.arange(n), action],
        "n_actions": k,
        "logging": logging,
    }


def log(**changes: Any) -> BanditLog:
    return BanditLog(**{**columns(), **changes})


def target(n: int = 3_000, k: int = 4, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(k, 3.0), n)


def table(path: Path, n: int = 600, seed: int = 0, **changes: Any) -> Path:
    """A CSV of three actions chosen uniformly; a change to None leaves a column out."""
    rng = np.random.default_rng(seed)
    action = rng.integers(3, size=n)
    held = {
        "action": action,
        "reward": (rng.random(n) < 0.2 + 0.2 * action).astype(int),
        "propensity": np.full(n, 1 / 3),
        "user": [f"u{i % 150}" for i in range(n)],
        "timestamp": 1_700_000_000 + np.arange(n),
        "age": rng.integers(18, 80, n),
    } | changes
    kept = {name: np.asarray(values).tolist() for name, values in held.items() if values is not None}
    lines = [",".join(kept), *(",".join(map(str, line)) for line in zip(*kept.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def own_rows(n: int, ids: tuple[str, ...] = ("a", "b", "c", "d"), positions: int = 1, seed: int = 0) -> list[Row]:
    """Decisions whose first position is drawn from its logged distribution, further ones without replacement."""
    rng = np.random.default_rng(seed)
    rows = []
    for d in range(n):
        law = rng.dirichlet(np.full(len(ids), 3.0))
        left = list(range(len(ids)))
        for position in range(positions):
            share = law[left] / law[left].sum()
            at = int(rng.choice(len(left), p=share))
            item = left.pop(at)
            head = {"candidates": list(ids), "distribution": law.tolist()} if position == 0 else {}
            rows.append(
                row(
                    decision_id=f"d{d:06}",
                    timestamp=NOON_US + d * 1_000_000,
                    position=position,
                    item=ids[item],
                    propensity=float(share[at]),
                    reward=float(rng.random() < 0.2 + 0.15 * item),
                    user=f"{d % 150:032x}",
                    features={"age": float(rng.integers(90)), "vip": float(rng.integers(2))},
                    **head,
                )
            )
    return rows


def document(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> dict[str, Any]:
    """What a command prints with --json: one document, and nothing else on standard output."""
    assert main([*map(str, arguments), "--json"]) == status
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    found: dict[str, Any] = json.loads(printed)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that exits 2 without a document."""
    assert main([*map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.rstrip("\n")


def values(found: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    """Value and interval of each estimate."""
    return {one["estimator"]: (one["value"], *one["interval"]) for one in found["estimates"]}


def finding(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["findings"] if one["name"] == name)
