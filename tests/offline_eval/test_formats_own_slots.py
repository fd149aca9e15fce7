"""The weighted slots of an own log's contexts, read where they are asked for."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from bandits.own_log import Row, to_json_lines
from offline_eval.errors import BadLog
from offline_eval.formats.chunk import Chunk
from tests.offline_eval.logs import chunks, row, slates, write


@pytest.fixture(params=[".parquet", ".jsonl"])
def file(request, tmp_path):
    return tmp_path / f"log{request.param}"


def contexts(found: list[Chunk]) -> list[dict[int, float]]:
    """Of every row, weight by slot."""
    made = []
    for chunk in found:
        slots = chunk.slots
        assert slots is not None
        assert slots.value is not None
        assert slots.known.all()
        for low, high in zip(slots.start[:-1], slots.start[1:], strict=True):
            names = [slots.names[code] for code in slots.code[low:high]]
            made.append(dict(zip(names, slots.value[low:high].tolist(), strict=True)))
    return made


def slotted(n: int) -> list[Row]:
    """Rows of 0 to 5 slots."""
    rng = np.random.default_rng(1)
    rows = []
    for one in slates(n, 2, 4):
        slots = rng.choice(2**18, rng.integers(6), replace=False).tolist()
        weights = (np.round(rng.uniform(-16, 16, len(slots)) * 2**15) / 2**15).tolist()
        rows.append(msgspec.structs.replace(one, slots=slots, weights=weights))
    return rows


def test_two_rows_by_hand_and_nothing_unless_asked(file):
    rows = [
        row(decision_id="a", slots=[7, 2**32 - 1], weights=[0.5, -16.0]),
        row(decision_id="b", slots=[], weights=[]),
    ]
    write(file, rows)
    assert contexts(chunks(file, slots=True)) == [{7: 0.5, 2**32 - 1: -16.0}, {}]
    assert {chunk.slots for chunk in chunks(file)} == {None}


@pytest.mark.parametrize("rows", [1, 5, 200])
@pytest.mark.parametrize("mixed", [False, True])
def test_chunks_of_any_size_in_any_order_hold_each_row_s_own(file, monkeypatch, rows, mixed):
    monkeypatch.setattr("offline_eval.formats.own.BATCH", 11)
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 1500)
    log = slotted(30)
    if mixed:
        Random(3).shuffle(log)
    expected = [dict(zip(one.slots, one.weights, strict=True)) for one in log]
    assert contexts(chunks(write(file, log), rows=rows, slots=True)) == expected


def test_rows_left_out_take_their_slots_with_them(file):
    rows = [
        row(decision_id="a", slots=[1], weights=[1.0], mode="exploit", propensity=1.0),
        row(decision_id="b", slots=[2, 3], weights=[1.0, 2.0]),
        row(decision_id="c", slots=[4], weights=[1.0], reward=None),
    ]
    assert contexts(chunks(write(file, rows), slots=True)) == [{2: 1.0, 3: 2.0}]


def test_a_file_without_the_columns_has_none(tmp_path):
    file = write(tmp_path / "log.parquet", slates(3, 1, 3))
    pq.write_table(pq.read_table(file).drop_columns(["slots"]), file)
    assert {chunk.slots for chunk in chunks(file, slots=True)} == {None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slots": [1, 2], "weights": [1.0]}, "weights: got '1 numbers', must be aligned with slots"),
        ({"slots": [5, 3, 5], "weights": [1.0, 1.0, 1.0]}, "slots: got 5, must differ within a row"),
        ({"slots": [-1], "weights": [1.0]}, r"slots: got -1, must lie in \[0, 2\*\*53\)"),
        ({"slots": [1], "weights": [-16.5]}, r"weights: got -16.5, must lie in \[-16, 16\]"),
    ],
)
def test_a_bad_context_is_named(file, values: dict[str, Any], message):
    bad = row(decision_id="b", **values)
    write(file, [row(decision_id="a", slots=[1], weights=[1.0]), bad, row(decision_id="c", slots=[2], weights=[99.0])])
    place = "row 1" if file.suffix == ".parquet" else "line 2"
    with pytest.raises(BadLog, match=f"{file.name}: {place}: {message}"):
        chunks(file, slots=True)
    assert sum(map(len, chunks(file))) == 3


def test_a_line_without_slots_is_refused_where_they_are_asked_for(tmp_path):
    line = msgspec.json.decode(to_json_lines([row()]))
    del line["slots"]
    file = tmp_path / "log.jsonl"
    file.write_bytes(msgspec.json.encode(line) + b"\n")
    with pytest.raises(BadLog, match=r"log.jsonl: line 1: slots: got None, must not be missing"):
        chunks(file, slots=True)
