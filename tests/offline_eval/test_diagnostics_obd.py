"""The Open Bandit sample of campaign 'all' is sound, and passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from offline_eval.dataset import BanditLog
from offline_eval.diagnostics import Diagnosis, Level, Thresholds, repeated
from offline_eval.formats.chunk import Ids
from offline_eval.rounds import Rounds

SAMPLE = Path(__file__).parents[1] / "data/obd"
UNIFORM = np.full((10_000, 80), 1 / 80)


def column(policy: str, name: str) -> np.ndarray:
    return pq.read_table(SAMPLE / f"all-{policy}.parquet", columns=[name])[name].to_numpy()


def log(policy: str) -> BanditLog:
    item, click, propensity, time = (
        column(policy, name) for name in ("item_id", "click", "propensity_score", "timestamp")
    )
    return BanditLog(None, item, click, propensity, 80, timestamp=time)


def positions(policy: str) -> dict[str, Ids]:
    return {"position": Ids(column(policy, "position").astype(np.intp) - 1, (1, 2, 3))}


def bts_by_position() -> np.ndarray:
    """Empirical distribution of bts at each position, float64 (3, 80)."""
    counts = np.zeros((3, 80))
    np.add.at(counts, (column("bts", "position") - 1, column("bts", "item_id")), 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("known", [True, False])
def test_bts_on_random_is_supported(known):
    """Mean weight .9586; the largest |z| of an action is 3.15: (160 - 125) / sqrt(125 (1 - 1/80))."""
    random = log("random").with_columns(logging=UNIFORM if known else None)
    target = bts_by_position()[column("random", "position") - 1]
    diagnosis = Diagnosis(80)
    diagnosis.add(Rounds(random, target[np.arange(10_000), random.action], target), positions("random"))
    for largest in (None, float(target.max() * 80)):
        assert max(one.level for one in diagnosis.findings(Thresholds(), largest)) <= Level.WARN
    assert diagnosis.numbers()["mean_weight"] == pytest.approx(0.9586, abs=5e-5)
    assert not repeated(random).size


def test_uniform_on_bts_has_sound_propensities():
    bts = log("bts")
    diagnosis = Diagnosis(80)
    diagnosis.add(Rounds(bts, UNIFORM[:, 0], UNIFORM), positions("bts"))
    assert max(one.level for one in diagnosis.findings(Thresholds())) < Level.REFUSE


def test_the_sample_with_half_of_its_propensities_is_refused():
    random = log("random")
    diagnosis = Diagnosis(80)
    diagnosis.add(Rounds(random.with_columns(propensity=random.propensity / 2), UNIFORM[:, 0], UNIFORM))
    names = {one.name for one in diagnosis.findings(Thresholds()) if one.level is Level.REFUSE}
    assert names == {"mean weight", "propensities, actions"}
