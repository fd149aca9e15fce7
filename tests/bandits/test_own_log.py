"""The own log's two forms say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from bandits.own_log import SCHEMA, VERSION, Row, to_arrow, to_json_lines
from tests.bandits.strategies import ids

ROW = Row(
    version=VERSION,
    decision_id="01-2-3-4",
    timestamp=1_700_000_000_000_001,
    surface="home",
    user=None,
    policy="diag_linucb",
    mode="explore",
    position=0,
    item="é",
    propensity=0.75,
    score=None,
    reward=1.5,
    rewards={"click": 1.0, "stars": 1.0},
    candidates=["é", "b"],
    graph=None,
    exclude=[],
    distribution=[0.75, 0.25],
    features={"age": 0.5},
    item_features=[{"genre=jazz": 1.0}, None],
    slots=[7],
    weights=[0.5],
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
named = st.dictionaries(ids, numbers, max_size=3)
OF_TYPE = {
    "int": st.integers(0, 2**62),
    "str": ids,
    "float": numbers,
    "dict[str, float]": named,
    "list[str]": st.lists(ids, max_size=3),
    "list[int]": st.lists(st.integers(0, 2**62), max_size=3),
    "list[float]": st.lists(numbers, max_size=3),
    "list[dict[str, float] | None]": st.lists(st.none() | named, max_size=3),
}


def any_value(annotation: str) -> st.SearchStrategy[object]:
    plain = OF_TYPE[annotation.removesuffix(" | None")]
    return st.none() | plain if annotation.endswith(" | None") else plain


values = {name: any_value(text) for name, text in Row.__annotations__.items()}
rows = st.builds(Row, **values | {"timestamp": st.integers(0, 4_000_000_000_000_000)})


def plain(batch: pa.RecordBatch | pa.Table) -> list[dict[str, object]]:
    """Rows as JSON has them, times as microseconds."""
    found = batch.to_pylist(maps_as_pydicts="strict")
    return [row | {"timestamp": (row["timestamp"] - EPOCH) // timedelta(microseconds=1)} for row in found]


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parsed(lines: bytes) -> list[dict[str, object]]:
    found = [json.loads(line) for line in lines.splitlines()]
    return [
        row | {"timestamp": (datetime.fromisoformat(row["timestamp"]) - EPOCH) // timedelta(microseconds=1)}
        for row in found
    ]


def test_the_fields_of_a_row_are_the_columns_and_null_where_they_may_be_none():
    assert list(Row.__annotations__) == SCHEMA.names
    nullable = [name for name, text in Row.__annotations__.items() if text.endswith("| None")]
    assert [field.name for field in SCHEMA if field.nullable] == nullable


def test_a_line_by_hand():
    assert to_json_lines([ROW]).decode() == (
        '{"version":1,"decision_id":"01-2-3-4","timestamp":"2023-11-14T22:13:20.000001Z","surface":"home","user":null,'
        '"policy":"diag_linucb","mode":"explore","position":0,"item":"é","propensity":0.75,"score":null,"reward":1.5,'
        '"rewards":{"click":1.0,"stars":1.0},"candidates":["é","b"],"graph":null,"exclude":[],'
        '"distribution":[0.75,0.25],"features":{"age":0.5},"item_features":[{"genre=jazz":1.0},null],'
        '"slots":[7],"weights":[0.5]}\n'
    )


def test_a_batch_by_hand():
    (row,) = to_arrow([ROW]).to_pylist()
    assert row["timestamp"] == datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)
    assert row["rewards"] == [("click", 1.0), ("stars", 1.0)]
    assert row["item_features"] == [[("genre=jazz", 1.0)], None]
    assert (row["candidates"], row["exclude"], row["distribution"]) == (["é", "b"], [], [0.75, 0.25])


def test_no_rows_are_no_lines_and_an_empty_batch_of_the_schema():
    assert to_json_lines([]) == b""
    assert (to_arrow([]).num_rows, to_arrow([]).schema) == (0, SCHEMA)


@given(st.lists(rows, max_size=4))
def test_both_forms_give_back_the_rows(given_rows):
    expected = [msgspec.structs.asdict(row) for row in given_rows]
    assert parsed(to_json_lines(given_rows)) == expected
    file = BytesIO()
    pq.write_table(pa.Table.from_batches([to_arrow(given_rows)], SCHEMA), file)
    table = pq.read_table(file)
    assert table.schema.equals(SCHEMA)
    assert plain(table) == expected
