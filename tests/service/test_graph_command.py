"""banditd graph build: Parquet in, graph.npz out, one line for each fault."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.errors import UsageError
from bandits.graph import Graph
from service.cli import Parser
from service.commands import graph as command
from service.embeddings import read_embeddings

VECTORS = [[1.0, 0.0], [1.0, 0.2], [-1.0, 0.0], [-1.0, -0.2]]
IDS = ["a", "b", "c", "d"]


def write(
    path: Path, ids: Any = IDS, vectors: Any = VECTORS, kind: pa.DataType | None = None, row_group_size: int = 3
) -> Path:
    embedding = pa.array(vectors, kind or pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": ids, "embedding": embedding}), path, row_group_size=row_group_size)
    return path


def run(*words: Any) -> int:
    parser = Parser(prog="banditd graph", allow_abbrev=False)
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def files(tmp_path: Path) -> list[Any]:
    items, users = write(tmp_path / "items.parquet"), write(tmp_path / "users.parquet", ["u"] * 4)
    return ["build", "--items", items, "--users", users, "--clusters", 2, "--per-cluster", 3]


def load(path: Path) -> Graph:
    return Graph.load(path.read_bytes(), 1 << 20)


def test_build_writes_a_graph_and_reports_it(files: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "graph.npz"
    assert run(*files, "-o", output, "--json") == 0
    out, err = capsys.readouterr()
    built = load(output)
    assert json.loads(out) == {
        "output": str(output),
        "graph_version": built.version,
        "slot_key": built.slot_key,
        "clusters": 2,
        "items": 4,
        "edges": 6,
        "items_without_edge": 0,
        "dimension": 2,
        "top_k": 2,
        "tau": 0.05,
        "clustering": "k-means of 4 users",
    }
    assert err == "k-means of 4 users; then the 3 best of 4 items\n"
    assert built.items == ("a", "b", "c", "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.npz", "items.parquet", "users.parquet"]


def test_build_prints_a_sentence(files: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "graph.npz"
    files[files.index("--per-cluster") + 1] = 1
    assert run(*files, "-o", output, "--top-k", 1, "--tau", 0.2, "--seed", 3) == 0
    assert capsys.readouterr().out == (
        f"{output}: 2 clusters, 4 items (2 without edge), 2 edges, dimension 2, top_k 1, tau 0.2; "
        f"version {load(output).version}\n"
    )


def test_kept_centroids_need_no_users_and_keep_the_slots(files: list[Any], tmp_path: Path):
    old, new = tmp_path / "old.npz", tmp_path / "new.npz"
    run(*files, "-o", old, "--tau", 0.3)
    fresh = write(tmp_path / "fresh.parquet", ["x", "y"], VECTORS[:2])
    assert run("build", "--items", fresh, "--per-cluster", 2, "--keep-centroids", old, "-o", new) == 0
    assert load(new).slot_key == load(old).slot_key
    assert load(new).items == ("x", "y")
    with pytest.raises(UsageError, match=r"graph build: tau must be 0\.3 as in the kept graph"):
        run(*files, "--keep-centroids", old, "--tau", 0.4, "-o", new)


def test_a_failed_build_leaves_the_old_file(files: list[Any], tmp_path: Path):
    output = tmp_path / "graph.npz"
    output.write_bytes(b"old")
    with pytest.raises(UsageError, match="graph build: clusters must be at most the number of users, 4, got 9"):
        run(*files, "--clusters", 9, "-o", output)
    assert output.read_bytes() == b"old"


def test_a_failed_write_leaves_no_part(files: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_graph: Graph, file: Any) -> str:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Graph, "save", full)
    with pytest.raises(UsageError, match=r"graph\.npz: cannot be written, No space left on device$"):
        run(*files, "-o", tmp_path / "graph.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.parquet", "users.parquet"]


def test_wrong_options_are_refused(files: list[Any], tmp_path: Path):
    output = tmp_path / "graph.npz"
    with pytest.raises(UsageError, match=re.escape("the following arguments are required: build")):
        run()
    with pytest.raises(UsageError, match="needs --users and --clusters, or --keep-centroids OLD"):
        run("build", "--items", files[2], "--per-cluster", 1, "-o", output)
    with pytest.raises(UsageError, match=r"--seed must lie in 0\.\.4294967295, got -1"):
        run(*files, "--seed", -1, "-o", output)
    with pytest.raises(UsageError, match=r"no/graph\.npz: cannot be written, No such file or directory"):
        run(*files, "-o", tmp_path / "no" / "graph.npz")
    with pytest.raises(UsageError, match=r"items\.parquet: must be an npz file"):
        run(*files, "--keep-centroids", files[2], "-o", output)
    wide = write(tmp_path / "wide.parquet", vectors=[[1.0, 2.0, 3.0]] * 4)
    with pytest.raises(
        UsageError, match=r"wide\.parquet: embeddings must have 2 components as in .*items\.parquet, got 3$"
    ):
        run(*files, "--users", wide, "-o", output)


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float16()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.int8()),
    ],
)
def test_any_list_of_numbers_is_read_exactly(kind: pa.DataType, tmp_path: Path):
    vectors = [[1, 2], [3, 4], [5, 6], [7, 8]]
    exact = [np.array(row, np.float16) for row in vectors] if pa.types.is_float16(kind.value_type) else vectors
    read = read_embeddings(write(tmp_path / "x.parquet", vectors=exact, kind=kind), unique=True)
    assert read.ids == IDS
    assert read.vectors.dtype == np.float32
    assert read.vectors.tolist() == vectors


def test_dictionary_encoded_ids_are_read(tmp_path: Path):
    ids = pa.array(["x", "y", "x", "y"]).dictionary_encode()
    assert read_embeddings(write(tmp_path / "x.parquet", ids), unique=False).ids == ["x", "y", "x", "y"]


def test_batches_are_joined_in_order(tmp_path: Path):
    """70,000 rows are more than one batch of 65,536; a fault in the second has its row in the file."""
    n_rows = 70_000
    vectors = [[float(i)] for i in range(n_rows)]
    ids = [f"i{i}" for i in range(n_rows)]
    read = read_embeddings(write(tmp_path / "x.parquet", ids, vectors, row_group_size=20_000), unique=True)
    assert read.vectors[:, 0].tolist() == list(range(n_rows))
    ids[69_999] = "i5"
    with pytest.raises(UsageError, match=r"row 69999: id: must be unique \(row 5 has it too\), got 'i5'"):
        read_embeddings(write(tmp_path / "x.parquet", ids, vectors), unique=True)


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", None, "c", "d"], VECTORS, "row 1: id: must be 1 to 128 printable characters, got null"),
        (["a", "b", "c", ""], VECTORS, "row 3: id: must be 1 to 128 printable characters, got ''"),
        (["a\n", "b", "c", "d"], VECTORS, r"row 0: id: must be 1 to 128 printable characters, got 'a\n'"),
        (["a", "b", "c", "a"], VECTORS, "row 3: id: must be unique (row 0 has it too), got 'a'"),
        (IDS, [[1.0], None, [1.0], [1.0]], "row 1: embedding: must be a list of numbers, got null"),
        (IDS, [None] * 4, "row 0: embedding: must be a list of numbers, got null"),
        (
            IDS,
            [[1.0], [1.0], [1.0, 2.0], [1.0]],
            "row 2: embedding: must have 1 components as the first row has, got 2 components",
        ),
        (IDS, [[], [], [], []], "row 0: embedding: must have a component, got 0 components"),
        (
            IDS,
            [[1.0, 2.0], [1.0, None]] * 2,
            "row 1: embedding: component 1 must be finite and within float32, got null",
        ),
        (IDS, [[1.0], [np.nan]] * 2, "row 1: embedding: component 0 must be finite and within float32, got nan"),
        (
            IDS,
            [[1.0], [1.0], [np.inf], [1.0, 2.0]],
            "row 2: embedding: component 0 must be finite and within float32, got inf",
        ),
        (
            ["a", "b", "b", "d"],
            [[1.0], [np.nan]] * 2,
            "row 1: embedding: component 0 must be finite and within float32, got nan",
        ),
        (["a", "a", "b", "d"], [[1.0], [1.0], None, [1.0]], "row 1: id: must be unique (row 0 has it too), got 'a'"),
        ([], [], "must have at least one row, got none"),
    ],
)
def test_the_first_fault_is_one_line_with_row_column_value_and_rule(
    ids: Any, vectors: Any, message: str, tmp_path: Path
):
    path = write(tmp_path / "x.parquet", pa.array(ids, pa.string()), vectors)
    with pytest.raises(UsageError) as refused:
        read_embeddings(path, unique=True)
    assert str(refused.value) == f"{path}: {message}"


def test_doubles_beyond_float32_are_refused(tmp_path: Path):
    path = write(tmp_path / "x.parquet", ["a"], [[1e39]], pa.list_(pa.float64()))
    with pytest.raises(
        UsageError, match=r"row 0: embedding: component 0 must be finite and within float32, got 1e\+39"
    ):
        read_embeddings(path, unique=True)


def test_ids_that_are_no_utf8_are_refused_with_their_row(tmp_path: Path):
    offsets, letters = np.array([0, 1, 2], np.int32), b"a\xff"
    ids = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(letters))
    path = write(tmp_path / "x.parquet", ids, VECTORS[:2])
    with pytest.raises(UsageError, match=r"row 1: id: must be UTF-8 text, got b'\\xff'"):
        read_embeddings(path, unique=True)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": IDS}, r"column 'embedding' must appear once, got the columns \['id'\]"),
        ({"embedding": VECTORS}, r"column 'id' must appear once, got the columns \['embedding'\]"),
        ({"id": [1, 2, 3, 4], "embedding": VECTORS}, "column 'id' must be text, got int64"),
        ({"id": IDS, "embedding": IDS}, "column 'embedding' must be a list of numbers, got string"),
        ({"id": IDS, "embedding": [["1.0"]] * 4}, "column 'embedding' must be a list of numbers, got list<.*string>"),
    ],
)
def test_columns_of_the_wrong_form_are_refused(table: dict[str, Any], message: str, tmp_path: Path):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match=message):
        read_embeddings(tmp_path / "x.parquet", unique=True)


@pytest.mark.parametrize("data", [None, b"", b"PAR1 and no more PAR1"])
def test_an_unreadable_file_is_one_line(data: bytes | None, tmp_path: Path):
    path = tmp_path / "x.parquet"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        read_embeddings(path, unique=True)
    assert str(refused.value).startswith(f"{path}: must be a readable Parquet file, got ")
    assert "\n" not in str(refused.value)
