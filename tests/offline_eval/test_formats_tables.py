"""The Open Bandit Dataset, CSV and Parquet tables, and bandit_feedback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_eval.formats import find
from tests.offline_eval.logs import NOON_US, chunks, only, records, without_place

OBD = Path(__file__).parent.parent / "data" / "obd"
NOON = "2023-11-14T22:13:20Z"


def table(path, **columns):
    found = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(found, path)
    else:
        pa.csv.write_csv(found, path)
    return path


@pytest.fixture(params=[".parquet", ".csv"])
def file(request, tmp_path):
    return tmp_path / f"log{request.param}"


def test_the_open_bandit_sample_is_what_pyarrow_reads():
    """Column by column; the context is 80 affinities and one name for each value of a user feature."""
    plain = pq.read_table(OBD / "all-random.parquet")
    found = chunks(OBD / "all-random.parquet", rows=3000)
    assert [len(chunk) for chunk in found] == [3000, 3000, 3000, 1000]
    assert {one.format for one in find(OBD / "all-bts.parquet")} == {"obd"}
    rows = records(found)
    for name, column in (
        ("action", "item_id"),
        ("reward", "click"),
        ("propensity", "propensity_score"),
        ("position", "position"),
        ("segment position", "position"),
    ):
        assert [one[name] for one in rows] == plain[column].to_pylist()
    assert [one["timestamp"] for one in rows] == plain["timestamp"].cast(pa.int64()).to_pylist()
    assert len({one["fingerprint"] for one in rows}) == 10_000
    for i in (0, 2, 9_999):
        given_row = plain.slice(i, 1).to_pylist()[0]
        expected = {name: value for name, value in given_row.items() if name.startswith("user-item_affinity_")}
        hot = {f"{name}={value}": 1.0 for name, value in given_row.items() if name.startswith("user_feature_")}
        assert rows[i]["context"] == expected | hot
    assert "candidates" not in rows[0]
    assert "user" not in rows[0]


def test_the_open_bandit_sample_as_csv_says_the_same(tmp_path):
    """The published form: an unnamed column of row numbers first, which makes no two rows differ."""
    plain = pq.read_table(OBD / "all-bts.parquet").slice(0, 300)
    plain = pa.concat_tables([plain, plain.slice(7, 1)])
    pq.write_table(plain, tmp_path / "log.parquet")
    texts = [column.cast(pa.string()) for column in plain.columns]
    numbered = pa.table([pa.array(range(301)), *texts], ["", *plain.column_names])
    pa.csv.write_csv(numbered, tmp_path / "log.csv")
    found = only(tmp_path / "log.csv")
    assert [one["place"] for one in found] == [f"line {k + 2}" for k in range(301)]
    assert without_place(found) == without_place(only(tmp_path / "log.parquet"))
    assert found[7]["fingerprint"] == found[300]["fingerprint"]
    assert len({one["fingerprint"] for one in found}) == 300


def test_a_table_by_hand(file):
    """Two rows of one user; `note` is text and therefore no context."""
    table(
        file,
        action=["a", "7"],
        reward=[1.5, 0.0],
        propensity=[0.25, 1.0],
        user=["u", "u"],
        timestamp=[NOON_US, NOON_US + 1],
        position=[0, 3],
        decision_id=["d", "d"],
        age=[2.5, None],
        note=["x", "y"],
    )
    one, two = only(file)
    shared = {"timestamp", "user", "fingerprint", "place", "index"}
    assert {name: value for name, value in one.items() if name not in shared} == {
        "action": "a",
        "reward": 1.5,
        "propensity": 0.25,
        "position": 0,
        "segment position": 0,
        "segment hour": 22,
        "context": {"age": 2.5},
    }
    assert (two["action"], two["context"], two["timestamp"]) == ("7", {}, NOON_US + 1)
    assert one["user"] == two["user"] != 0
    assert one["fingerprint"] != two["fingerprint"]
    kind, start = ("row", 0) if file.suffix == ".parquet" else ("line", 2)
    assert [one["place"], two["place"]] == [f"{kind} {start}", f"{kind} {start + 1}"]


def test_columns_by_a_map(file):
    """An unmapped column of a canonical name keeps its meaning, unless another one is mapped to it."""
    table(file, arm=[1, 2], click=[0, 1], p=[0.5, 0.5], reward=[7.0, 8.0], user=["a", None])
    found = only(file, "csv", columns={"action": "arm", "reward": "click", "propensity": "p"})
    assert [(one["action"], one["reward"], one["context"]) for one in found] == [
        ("1", 0.0, {"reward": 7.0}),
        ("2", 1.0, {"reward": 8.0}),
    ]
    assert [one["user"] > 0 for one in found] == [True, False]


def test_an_ad_load_table(tmp_path):
    """Without reward the satisfaction is it; allowed loads are the candidates; integers are named by their text."""
    file = table(
        tmp_path / "log.parquet",
        user=["u", "v"],
        timestamp=[NOON_US, NOON_US],
        action=[2, 0],
        propensity=[0.5, 0.25],
        satisfaction=[0.75, -1.0],
        revenue=[0.0, 3.0],
        allowed=[[0, 2], None],
        tolerance=[1.0, 2.0],
    )
    one, two = only(file)
    assert (one["action"], one["reward"], one["reward satisfaction"], one["reward revenue"]) == ("2", 0.75, 0.75, 0.0)
    assert (one["candidates"], two["candidates"]) == ([("0", None), ("2", None)], None)
    assert (one["context"], two["context"]) == ({"tolerance": 1.0}, {"tolerance": 2.0})
    text = tmp_path / "log.csv"
    text.write_text(
        "user,timestamp,action,propensity,satisfaction,revenue,allowed,tolerance\n"
        f'u,{NOON},2,.5,.75,0,"[0, 2]",1\n\nv,{NOON},0,.25,-1,3,,2\n'
    )
    same = only(text)
    assert [one["place"] for one in same] == ["line 2", "line 4"]
    # The form of `allowed` and of numbers differs, and so do the hashes of all columns.
    drop = ("place", "fingerprint")
    assert [{k: v for k, v in one.items() if k not in drop} for one in same] == [
        {k: v for k, v in one.items() if k not in drop} for one in (one, two)
    ]


def test_without_time_and_ids_there_is_no_test_for_duplicates(file):
    assert "fingerprint" not in only(table(file, action=["a"], reward=[1.0], propensity=[0.5]))[0]
    same = only(table(file, action=["a"] * 3, reward=[1.0, 1.0, 2.0], propensity=[0.5] * 3, timestamp=[NOON_US] * 3))
    assert [one["fingerprint"] == same[0]["fingerprint"] for one in same] == [True, True, False]


def test_quoted_values_may_hold_commas_quotes_and_line_breaks(tmp_path):
    """A record's line is the one on which it starts."""
    file = tmp_path / "log.csv"
    file.write_bytes(b'note,action,reward,propensity\r\n"a\r\n""b"",",x,1,.5\r\n\r\nplain,"y, z",0, .25 \r\n')
    assert [(one["place"], one["action"], one["propensity"]) for one in only(file)] == [
        ("line 2", "x", 0.5),
        ("line 5", "y, z", 0.25),
    ]


@pytest.mark.parametrize("text", [NOON, "2023-11-14 22:13:20", "2023-11-14T22:13:20.000000+00:00", str(NOON_US)])
def test_times_in_text(tmp_path, text):
    (tmp_path / "log.csv").write_text(f"action,reward,propensity,timestamp\na,1,.5,{text}\n")
    assert only(tmp_path / "log.csv")[0]["timestamp"] == NOON_US


def test_large_csv_is_read_in_blocks_that_end_anywhere(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    file = tmp_path / "log.csv"
    lines = [f'{k},"a\n,{k}",{rng.random()},0.5' for k in range(200)]
    file.write_text("x,action,reward,propensity\n" + "\n".join(lines) + "\n")
    whole = only(file)
    assert [one["index"] for one in whole] == list(range(200))
    assert [one["place"] for one in whole] == [f"line {2 + 2 * k}" for k in range(200)]
    for block in (64, 97, 1000):
        monkeypatch.setattr("offline_eval.formats.text.BLOCK", block)
        assert records(chunks(file, rows=13)) == whole


def feedback(path, n=3, k=2, **changed):
    """A uniform log."""
    rng = np.random.default_rng(0)
    arrays = {
        "n_rounds": n,
        "n_actions": k,
        "context": rng.normal(size=(n, 2)),
        "action": rng.integers(k, size=n),
        "reward": rng.random(n),
        "pscore": np.full(n, 1 / k),
        "position": None,
    }
    np.savez(path, **{name: value for name, value in {**arrays, **changed}.items() if value is not ...})
    return path


def test_bandit_feedback_by_hand(tmp_path):
    """A position of None is pickled by numpy, and read as absent."""
    file = feedback(tmp_path / "log.npz", action=[1, 0, 1], reward=[0, 1, 0], context=[[1, 2], [3, 4], [5, 6]])
    (chunk,) = chunks(file)
    assert list(chunk.declared) == [0, 1]
    assert records([chunk])[1] == {
        "place": "row 1",
        "index": 1,
        "action": 0,
        "reward": 1.0,
        "propensity": 0.5,
        "context": {"context[0]": 3.0, "context[1]": 4.0},
    }


def test_bandit_feedback_with_its_whole_law_and_positions(tmp_path):
    law = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    one = feedback(tmp_path / "one.npz", pi_b=law[:, :, None], action=[1, 0, 0], position=[0, 1, 2])
    found = only(one)
    assert [row["candidates"] for row in found] == [[(0, p), (1, q)] for p, q in law.tolist()]
    assert [row["position"] for row in found] == [0, 1, 2]
    other = feedback(tmp_path / "other.npz", pi_b=np.asfortranarray(law), action=[1, 0, 0], position=[0, 1, 2])
    assert only(other) == found


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 50))
def test_any_size_of_chunks_gives_the_same_feedback(tmp_path_factory, n, k, rows):
    file = feedback(tmp_path_factory.mktemp("log") / "log.npz", n, k, pi_b=np.full((n, k), 1 / k))
    assert records(chunks(file, rows=rows)) == only(file)


def test_compressed_npz_is_read(tmp_path):
    feedback(tmp_path / "log.npz")
    with np.load(tmp_path / "log.npz", allow_pickle=False) as held:
        plain = {name: held[name] for name in held if name != "position"}
    np.savez_compressed(tmp_path / "packed.npz", **plain)
    assert only(tmp_path / "packed.npz") == only(tmp_path / "log.npz")


@pytest.mark.parametrize("rows", [1, 999, 4096])
def test_any_size_of_chunks_gives_the_same_sample(rows, tmp_path):
    part = pq.read_table(OBD / "all-bts.parquet").slice(0, 1500)
    pq.write_table(part, tmp_path / "log.parquet", row_group_size=400)
    assert records(chunks(tmp_path / "log.parquet", rows=rows)) == only(tmp_path / "log.parquet", rows=1500)


def test_shards_of_a_table_together_are_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.parquet.SHARD_ROWS", 700)
    part = pq.read_table(OBD / "all-bts.parquet").slice(0, 1500)
    pq.write_table(part, tmp_path / "parts.parquet", row_group_size=300)
    pq.write_table(part, tmp_path / "whole.parquet")
    assert [one.part for one in find(tmp_path / "parts.parquet")] == [(0, 3), (3, 5)]
    assert only(tmp_path / "parts.parquet") == only(tmp_path / "whole.parquet")
