"""The own log as Parquet and as lines of JSON."""

from __future__ import annotations

import gzip
from random import Random

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.own_log import to_json_lines
from offline_eval.errors import BadLog
from offline_eval.formats import FORMATS, find
from offline_eval.formats.chunk import ReadOptions
from tests.offline_eval.logs import NOON_US, chunks, left_out, only, records, row, slates, without_place, write

SUFFIXES = [".parquet", ".jsonl"]


@pytest.fixture(params=SUFFIXES)
def file(request, tmp_path):
    return tmp_path / f"log{request.param}"


def test_two_positions_by_hand(file):
    """b was served first, with .25: what could come second is a or c, with a law that is not logged."""
    first = row(
        item="b",
        propensity=0.25,
        candidates=["a", "b", "c"],
        distribution=[0.5, 0.25, 0.25],
        features={"age": 3.0},
        rewards={"click": 1.0, "seconds": 9.0},
        user="1f",
    )
    second = row(position=1, item="c", propensity=0.125, reward=0.0, features={"age": 3.0}, user="1f")
    found = only(write(file, [first, second]))
    user, prints = {one.pop("user") for one in found}, {one.pop("fingerprint") for one in found}
    assert (len(user), len(prints)) == (1, 2)
    assert min(user) > 0
    kind, start = ("row", 0) if file.suffix == ".parquet" else ("line", 1)
    shared = {
        "timestamp": NOON_US,
        "segment hour": 22,
        "segment mode": "explore",
        "segment policy": "diag_linucb",
        "context": {"age": 3.0},
    }
    assert found == [
        shared
        | {
            "place": f"{kind} {start}",
            "action": "b",
            "reward": 1.0,
            "propensity": 0.25,
            "position": 0,
            "index": 0,
            "reward click": 1.0,
            "reward seconds": 9.0,
            "segment position": 0,
            "candidates": [("a", 0.5), ("b", 0.25), ("c", 0.25)],
        },
        shared
        | {
            "place": f"{kind} {start + 1}",
            "action": "c",
            "reward": 0.0,
            "propensity": 0.125,
            "position": 1,
            "index": 1,
            "reward click": None,
            "reward seconds": None,
            "segment position": 1,
            "candidates": [("a", None), ("c", None)],
        },
    ]


def test_candidates_by_the_plain_definition(file):
    """All of the decision's, in their order, without those of lower positions."""
    rows = slates(40, 3, 6)
    expected = []
    for k, one in enumerate(rows):
        served = {other.item for other in rows[k - one.position : k]}
        law = one.distribution or [None] * 6
        expected.append([(f"i{j}", law[j]) for j in range(6) if f"i{j}" not in served])
    assert [one["candidates"] for one in only(write(file, rows))] == expected


@pytest.mark.parametrize("order", ["reversed", "shuffled", "decisions"])
def test_the_order_of_rows_does_not_matter(file, tmp_path, order):
    """As exported, and otherwise: the same rows with the same candidates."""
    rows = slates(50, 3, 5)
    mixed = rows[::-1]
    if order == "shuffled":
        Random(1).shuffle(mixed)
    elif order == "decisions":
        mixed = [one for k in Random(1).sample(range(50), 50) for one in rows[3 * k : 3 * k + 3]]
    known = {one["fingerprint"]: one for one in without_place(only(write(tmp_path / f"sorted{file.suffix}", rows)))}
    found = without_place(only(write(file, mixed), rows=7))
    assert len(known) == len(found) == 150
    assert all(known[one["fingerprint"]] == one for one in found)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_any_size_of_chunks_gives_the_same_rows(file, monkeypatch, rows, mixed):
    monkeypatch.setattr("offline_eval.formats.own.BATCH", 11)
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 1500)
    log = slates(30, 4, 6)
    if mixed:
        Random(3).shuffle(log)
    found = chunks(write(file, log), rows=rows)
    assert max(map(len, found)) <= rows
    monkeypatch.undo()
    assert records(found) == only(file)


@pytest.mark.parametrize("group", [1, 3, 7, 50])
def test_shards_together_are_the_whole(tmp_path, monkeypatch, group):
    """Row groups end within decisions of 4 positions, and even hold less than one."""
    monkeypatch.setattr("offline_eval.formats.parquet.SHARD_ROWS", group)
    file = write(tmp_path / "log.parquet", slates(20, 4, 6), group)
    shards = find(file)
    assert len(shards) == -(-80 // group)
    assert [one.first for one in shards] == list(range(0, 80, group))
    found = chunks(file, rows=5)
    whole = write(tmp_path / "whole.jsonl", slates(20, 4, 6))
    assert without_place(records(found)) == without_place(only(whole))
    assert [one["index"] for one in records(found)] == list(range(80))


def test_unsorted_parquet_is_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.parquet.SHARD_ROWS", 5)
    log = slates(10, 2, 3)
    assert len(find(write(tmp_path / "sorted.parquet", log, 5))) == 4
    assert [one.part for one in find(write(tmp_path / "unsorted.parquet", log[::-1], 5))] == [None]


def test_more_unsorted_decisions_than_memory_holds_are_refused(file, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.own_order.LARGEST_GATHERED", 1000)
    log = slates(30, 3, 5)
    write(file, [*log[::3], *log[1::3], *log[2::3]])
    with pytest.raises(BadLog, match="decision_id: got 'unsorted rows', at most 1,000 bytes .* sort by timestamp, dec"):
        chunks(file)
    write(file, slates(30, 3, 5))
    assert len(only(file)) == 90


def test_a_decision_without_end_is_refused(file, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.own_order.LONGEST", 10)
    monkeypatch.setattr("offline_eval.formats.own.LONGEST", 10)
    monkeypatch.setattr("offline_eval.formats.own.BATCH", 6)
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 1500)
    write(file, [row(decision_id="d"), *(row(decision_id="d", position=k, candidates=None) for k in range(1, 40))])
    with pytest.raises(BadLog, match="decision_id: got 'd', must have at most 10 rows that follow each other"):
        chunks(file)


def test_what_is_left_out_and_why(file):
    """Candidates come from a first row that is left out itself."""
    rows = [
        row(decision_id="a", mode="exploit", propensity=1.0),
        row(decision_id="b", reward=None),
        row(decision_id="b", position=1, item="b"),
        row(decision_id="c", propensity=None),
        row(decision_id="d", mode="holdout"),
        row(decision_id="e", mode="exploit", reward=None),
    ]
    found = chunks(write(file, rows))
    assert left_out(found) == {"exploit mode": 2, "no reward yet": 1, "no propensity": 1}
    assert [(one["index"], one["segment mode"]) for one in records(found)] == [(2, "explore"), (4, "holdout")]
    assert records(found)[0]["candidates"] == [("b", None)]
    found = chunks(file, include_exploit=True)
    assert left_out(found) == {"no reward yet": 2, "no propensity": 1}
    assert [one["index"] for one in records(found)] == [0, 2, 4]


def test_a_chunk_of_which_all_rows_are_left_out_still_counts_them(file):
    found = chunks(write(file, [row(reward=None)] * 3), rows=2)
    assert [(len(chunk), chunk.left_out) for chunk in found] == [(0, {"no reward yet": 2}), (0, {"no reward yet": 1})]


def test_candidates_that_a_graph_gives_are_unknown(file):
    graphic = row(candidates=None, distribution=None, graph="ab", decision_id="g")
    found = only(write(file, [row(decision_id="a"), graphic, row(decision_id="g", position=1)]))
    assert [one["candidates"] for one in found] == [[("a", 0.5), ("b", 0.5)], None, None]


def test_the_law_of_a_partly_shown_decision_is_not_that_of_its_first_row(file):
    """Position 0 was not shown: the candidates stand on the row of position 1, where their law is another."""
    shown = row(position=1, candidates=["a", "b"], distribution=[0.5, 0.5])
    assert only(write(file, [shown]))[0]["candidates"] == [("a", None), ("b", None)]


def test_duplicates_share_a_fingerprint_and_nothing_else_does(file):
    rows = slates(60, 2, 3)
    found = [one["fingerprint"] for one in only(write(file, [*rows, rows[5]]))]
    assert len(set(found)) == 120
    assert found[5] == found[-1]


def test_both_forms_and_compressions_say_the_same(tmp_path):
    rows = slates(30, 2, 4)
    expected = without_place(only(write(tmp_path / "log.parquet", rows)))
    plain = to_json_lines(rows)
    half = len(plain) // 2
    forms = {
        "log.jsonl": plain,
        "log.jsonl.gz": gzip.compress(plain),
        "two.jsonl.gz": gzip.compress(plain[:half]) + gzip.compress(plain[half:]),
        "log.jsonl.zst": pa.compress(plain, "zstd", asbytes=True),
        "log.json": b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n") + b"\n\n",
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        assert without_place(only(tmp_path / name)) == expected


def test_a_folder_is_read_by_name_without_what_is_hidden(tmp_path):
    rows = slates(9, 1, 3)
    for k in (2, 0, 1):
        write(tmp_path / f"part-{k}.jsonl", rows[3 * k : 3 * k + 3])
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-3.jsonl.crc").write_bytes(b"x")
    assert [one.path.name for one in find(tmp_path)] == ["part-0.jsonl", "part-1.jsonl", "part-2.jsonl"]
    whole = write(tmp_path.parent / "whole.jsonl", rows)
    assert without_place(only(tmp_path)) == without_place(only(whole))


def test_without_context_there_is_none(file):
    found = chunks(write(file, slates(3, 1, 3)), context=False)
    assert sum(map(len, found)) == 3
    assert {(len(chunk.names), chunk.context.shape[1]) for chunk in found} == {(0, 0)}


def test_wide_contexts_and_many_candidates_make_smaller_chunks(file, monkeypatch):
    """20 numbers at once: of 3 candidates a row 6 rows, of 10 names as many as leave 10 each."""
    write(file, slates(20, 1, 3))
    monkeypatch.setattr("offline_eval.formats.own_rows.MAX_CONTEXT", 20)
    assert [len(chunk) for chunk in chunks(file)] == [6, 6, 6, 1, 1]
    write(
        file,
        [row(decision_id=f"d{k:02}", features={f"f{k}": 1.0}, candidates=["a"], distribution=[1.0]) for k in range(20)],
    )
    found = chunks(file)
    assert all(len(chunk) * len(chunk.names) <= 20 for chunk in found)
    assert [one["context"] for one in records(found)] == [{f"f{k}": 1.0} for k in range(20)]


names = st.sampled_from(["a", "b", "é", "d"])
finite = st.floats(-1e9, 1e9)
decisions = st.lists(
    st.tuples(st.permutations(["a", "b", "é", "d"]), st.integers(1, 4), st.dictionaries(names, finite, max_size=3)),
    min_size=1,
    max_size=6,
)


@given(decisions, st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_log_in_any_order_is_read_alike_from_both_forms(tmp_path_factory, log, rows, random):
    folder = tmp_path_factory.mktemp("log")
    made = []
    for d, (items, length, features) in enumerate(log):
        for p in range(length):
            first = {"candidates": sorted(items), "distribution": [0.25] * 4} if p == 0 else {}
            made.append(row(decision_id=f"d{d}", position=p, item=items[p], features=features, **first))
    random.shuffle(made)
    one, other = (write(folder / f"log{suffix}", made) for suffix in SUFFIXES)
    left, right = chunks(one, rows=rows), chunks(other)
    assert without_place(records(left)) == without_place(records(right))
    for given_row, found in zip(made, records(left), strict=True):
        assert (found["action"], found["position"], found["context"]) == (
            given_row.item,
            given_row.position,
            given_row.features,
        )
        assert [name for name, _ in found["candidates"]] == [
            name
            for name in ["a", "b", "d", "é"]
            if name not in log[int(given_row.decision_id[1:])][0][: given_row.position]
        ]


def test_users_are_hashed_alike_in_both_forms_and_null_is_zero(tmp_path):
    rows = [row(decision_id=f"d{k}", user=None if k == 2 else f"u{k % 2}" * 40) for k in range(4)]
    one = [found["user"] for found in only(write(tmp_path / "log.parquet", rows))]
    assert one == [found["user"] for found in only(write(tmp_path / "log.jsonl", rows))]
    assert (one[2], one[1] == one[3], len(set(one))) == (0, True, 3)


def test_fields_that_a_line_may_lack(tmp_path):
    """Only what an evaluation cannot do without."""
    whole = msgspec.json.decode(to_json_lines([row()]))
    needed = ("version", "decision_id", "timestamp", "mode", "position", "item", "propensity", "reward")
    file = tmp_path / "log.jsonl"
    file.write_bytes(msgspec.json.encode({name: whole[name] for name in needed}))
    (found,) = only(file)
    assert (found["action"], found["candidates"], found["user"], found["context"]) == ("a", None, 0, {})


def test_reading_one_shard_needs_nothing_else(tmp_path):
    file = write(tmp_path / "log.parquet", slates(4, 1, 3))
    (shard,) = find(file)
    index = [chunk.index for chunk in FORMATS["own"].read(shard, 10, ReadOptions())]
    assert np.array_equal(np.concatenate(index), np.arange(4))
