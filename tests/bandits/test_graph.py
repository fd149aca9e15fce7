"""The graph: look-ups, the file and every rule it must keep."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits import graph as graph_module
from bandits.graph import Graph, GraphError
from bandits.kernels.graph import find_edges, first_descent
from bandits.names import arm_key
from tests.bandits.graphs import graph, graphs, parts

ROOM = 1 << 20


def npz(**members: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **members)
    return file.getvalue()


def same(first: Graph, second: Graph) -> bool:
    return first.members.keys() == second.members.keys() and all(
        np.array_equal(array, second.members[name]) and array.dtype == second.members[name].dtype
        for name, array in first.members.items()
    )


def test_look_ups_by_hand():
    """Rows [a, c], [], [b, c, d]: edges 0, 1 and 2, 3, 4."""
    of = graph()
    slots = np.array([0, 1, 2, 7], np.uint32)
    assert of.edges_of(np.array([2, 0, 3, -1], np.int32), slots).tolist() == [
        [1, -1, 3, -1],
        [0, -1, -1, -1],
        [-1, -1, 4, -1],
        [-1, -1, -1, -1],
    ]
    assert of.neighbours(2).tolist() == [1, 2, 3]
    assert of.candidates(slots[:3]).tolist() == [0, 1, 2, 3]
    assert of.candidates(slots[:0]).tolist() == []
    assert of.index == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert of.arm.tolist() == [arm_key(item) for item in "abcd"]
    assert (of.n_clusters, of.n_edges) == (3, 5)


@given(graphs())
def test_edges_of_equals_a_walk_over_the_rows(of: Graph):
    item = np.arange(-1, len(of.items), dtype=np.int32)
    slots = np.arange(of.n_clusters + 1, dtype=np.uint32)
    expected = np.full((len(item), len(slots)), -1)
    for cluster in range(of.n_clusters):
        for edge in range(of.row_start[cluster], of.row_start[cluster + 1]):
            expected[of.row_item[edge] + 1, cluster] = edge
    assert np.array_equal(of.edges_of(item, slots), expected)
    interpreted = np.zeros_like(expected)
    find_edges.py_func(of.row_start, of.row_item, item, slots, interpreted)
    assert np.array_equal(interpreted, expected)
    assert of.candidates(slots[:-1]).tolist() == sorted(set(of.row_item.tolist()))


@given(st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=5))
def test_first_descent_finds_what_python_finds(rows: list[list[int]]):
    row_start = np.cumsum([0, *map(len, rows)])
    row_item = np.array([item for row in rows for item in row], np.int32)
    at = [row_start[r] + i for r, row in enumerate(rows) for i in range(1, len(row)) if row[i] <= row[i - 1]]
    expected = at[0] if at else -1
    assert first_descent(row_start, row_item) == expected
    assert first_descent.py_func(row_start, row_item) == expected


@given(graphs())
def test_load_returns_what_save_wrote(of: Graph):
    data = of.to_bytes()
    loaded = Graph.load(data, ROOM)
    assert same(of, loaded)
    assert loaded.version == of.version == hashlib.sha256(data).hexdigest()
    assert loaded.to_bytes() == data
    assert loaded.slot_key == of.slot_key


def test_save_writes_the_same_bytes_to_any_file_and_names_them():
    of = graph(prior=np.arange(5, dtype=np.float32))
    file = io.BytesIO()
    assert of.save(file) == of.version
    assert file.getvalue() == of.to_bytes()
    file.seek(3)
    assert Graph.load(file, ROOM).version == of.version
    assert {entry.date_time for entry in zipfile.ZipFile(file).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_numpy_reads_what_save_wrote():
    with np.load(io.BytesIO(graph().to_bytes()), allow_pickle=False) as file:
        assert file["items"].tolist() == ["a", "b", "c", "d"]
        assert file["row_item"].tolist() == [0, 2, 1, 2, 3]
        assert (float(file["tau"]), int(file["top_k"])) == (0.5, 2)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_load_reads_what_numpy_wrote(save: Any):
    file = io.BytesIO()
    centroids = np.asfortranarray(parts()["centroids"])
    save(file, **parts(centroids=centroids, tau=np.float32(0.5), top_k=np.uint8(2)))
    loaded = Graph.load(file, ROOM)
    assert same(loaded, graph())
    assert loaded.version == hashlib.sha256(file.getvalue()).hexdigest()
    assert all(array.flags.c_contiguous and array.flags.writeable for array in loaded.members.values())


def test_rows_are_sorted_and_their_priors_with_them():
    prior = np.array([1, 2, 3, 4, 5], np.float32)
    of = graph(row_item=np.array([2, 0, 3, 1, 2], np.int32), prior=prior)
    assert of.row_item.tolist() == [0, 2, 1, 2, 3]
    assert of.prior is not None
    assert of.prior.tolist() == [2, 1, 4, 5, 3]


def test_slot_key_depends_on_all_that_gives_slots_their_meaning_and_on_nothing_else():
    of = graph()
    others = [graph(tau=0.6), graph(top_k=1), graph(centroids=parts()["centroids"] * 2)]
    assert len({of.slot_key, *(other.slot_key for other in others)}) == 4
    regrown = graph(items=["a", "b", "c", "e"], row_item=np.array([0, 1, 1, 2, 3], np.int32))
    assert regrown.slot_key == of.slot_key
    assert regrown.version != of.version


def with_centroid(value: float) -> np.ndarray:
    centroids = parts()["centroids"]
    centroids[1, 0] = value
    return centroids


BROKEN = [
    ({"centroids": with_centroid(np.nan)}, "centroids[1, 0] must be finite, got nan"),
    ({"centroids": with_centroid(-np.inf)}, "centroids[1, 0] must be finite, got -inf"),
    ({"tau": 0.0}, "tau must be finite and > 0, got 0.0"),
    ({"tau": -1.0}, "tau must be finite and > 0, got -1.0"),
    ({"tau": np.inf}, "tau must be finite and > 0, got inf"),
    ({"tau": np.nan}, "tau must be finite and > 0, got nan"),
    ({"top_k": 0}, "top_k must lie in 1..3 (at most the number of clusters, and 64), got 0"),
    ({"top_k": 4}, "top_k must lie in 1..3 (at most the number of clusters, and 64), got 4"),
    ({"items": np.array([], np.str_)}, "items must have at least one id, got none"),
    ({"items": ["a", "", "c", "d"]}, "items[1] must be 1 to 128 printable characters, got ''"),
    ({"items": ["a", "b", "c\n", "d"]}, r"items[2] must be 1 to 128 printable characters, got 'c\n'"),
    ({"items": ["a", "b", "c", "d" * 129]}, f"items[3] must be 1 to 128 printable characters, got '{'d' * 129}'"),
    ({"items": ["a", "b", "a", "d"]}, "items[2] must be unique, got 'a' which is items[0] too"),
    ({"row_start": np.array([0, 2, 5])}, "row_start must have 4 entries (clusters + 1), got 3"),
    ({"row_start": np.array([1, 2, 2, 5])}, "row_start[0] must be 0, got 1"),
    ({"row_start": np.array([0, 3, 2, 5])}, "row_start[2] must be >= row_start[1] = 3, got 2"),
    ({"row_start": np.array([0, 2, 2, 4])}, "row_start[3] must be 5, the length of row_item, got 4"),
    ({"row_item": np.array([0, 2, 1, 4, 3], np.int32)}, "row_item[3] must lie in 0..3 (items), got 4"),
    ({"row_item": np.array([0, -1, 1, 2, 3], np.int32)}, "row_item[1] must lie in 0..3 (items), got -1"),
    (
        {"row_item": np.array([0, 2, 3, 1, 3], np.int32)},
        "row_item[4] must be unique within its row, got item 3 a second time in cluster 2",
    ),
    ({"prior": np.zeros(4, np.float32)}, "prior must have 5 entries as row_item has, got 4"),
    ({"prior": np.array([0, 0, np.nan, 0, 0], np.float32)}, "prior[2] must be finite, got nan"),
]


@pytest.mark.parametrize(("changed", "message"), BROKEN)
def test_a_broken_rule_names_member_index_value_and_rule(changed: dict[str, Any], message: str):
    with pytest.raises(GraphError) as made:
        graph(**changed)
    with pytest.raises(GraphError) as loaded:
        Graph.load(npz(**parts(**changed)), ROOM)
    assert str(made.value) == str(loaded.value) == message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"centroids": np.zeros((3, 2))},
            "centroids must be float32 of shape (clusters, d), got '<f8' of shape (3, 2)",
        ),
        (
            {"centroids": np.zeros(3, np.float32)},
            "centroids must be float32 of shape (clusters, d), got '<f4' of shape (3,)",
        ),
        (
            {"centroids": np.zeros((0, 2), np.float32)},
            "centroids must have at least one row and one column, got shape (0, 2)",
        ),
        (
            {"centroids": np.zeros((3, 2), ">f4")},
            "centroids must be float32 of shape (clusters, d), got '>f4' of shape (3, 2)",
        ),
        ({"tau": "0.5"}, "tau must be a float scalar, got '<U3' of shape ()"),
        ({"tau": np.array([0.5])}, "tau must be a float scalar, got '<f8' of shape (1,)"),
        ({"top_k": 2.0}, "top_k must be an integer scalar, got '<f8' of shape ()"),
        ({"items": np.array([b"a", b"b"])}, "items must be text of shape (items,), got '|S1' of shape (2,)"),
        (
            {"items": np.array(["a", None], object)},
            "items must be text of shape (items,), got '|O' of shape (2,) (pickled objects are never read)",
        ),
        (
            {"row_start": np.zeros(4, np.int32)},
            "row_start must be int64 of shape (clusters + 1,), got '<i4' of shape (4,)",
        ),
        ({"row_item": np.zeros(5, np.int64)}, "row_item must be int32 of shape (edges,), got '<i8' of shape (5,)"),
        (
            {"row_item": np.zeros((5, 1), np.int32)},
            "row_item must be int32 of shape (edges,), got '<i4' of shape (5, 1)",
        ),
        ({"prior": np.zeros(5)}, "prior must be float32 of shape (edges,), got '<f8' of shape (5,)"),
        (
            {"priors": np.zeros(5)},
            "member 'priors' is unknown; a graph has centroids, tau, top_k, items, row_start, row_item, prior",
        ),
    ],
)
def test_a_member_of_the_wrong_form_is_refused(changed: dict[str, Any], message: str):
    with pytest.raises(GraphError, match=re.escape(message) + "$"):
        Graph.load(npz(**parts(**changed)), ROOM)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"centroids": np.zeros((3, 2))}, "centroids must be float32 with 2 dimensions, got float64 of shape (3, 2)"),
        (
            {"centroids": np.zeros((3, 0), np.float32)},
            "centroids must have at least one row and one column, got shape (3, 0)",
        ),
        ({"row_item": np.zeros(5, int)}, "row_item must be int32 with 1 dimension, got int64 of shape (5,)"),
    ],
)
def test_arrays_of_the_wrong_form_are_refused(changed: dict[str, Any], message: str):
    with pytest.raises(GraphError, match=re.escape(message) + "$"):
        graph(**changed)


@pytest.mark.parametrize("member", ["centroids", "tau", "top_k", "items", "row_start", "row_item"])
def test_a_missing_member_is_named(member: str):
    members = parts()
    del members[member]
    with pytest.raises(GraphError, match=f"member '{member}' is missing; a graph has"):
        Graph.load(npz(**members), ROOM)


def test_two_ids_with_one_arm_key_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graph_module, "arm_key", lambda item: arm_key("b" if item == "d" else item))
    with pytest.raises(GraphError, match=r"items\[3\] must have an arm key of its own, got 'd' with the key of 'b'"):
        graph()


def test_the_bound_on_the_unpacked_size_is_checked_before_unpacking(monkeypatch: pytest.MonkeyPatch):
    """A megabyte of zeros packs to a thousand bytes; the directory tells."""
    file = io.BytesIO()
    np.savez_compressed(file, **parts(centroids=np.zeros((512, 512), np.float32)))
    unpacked = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
    assert len(file.getvalue()) < unpacked // 100
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", None)
        with pytest.raises(GraphError, match=f"unpacked size must be at most {unpacked - 1} bytes, got {unpacked}"):
            Graph.load(file, unpacked - 1)
    with pytest.raises(GraphError, match=r"row_start must have 513 entries"):
        Graph.load(file, unpacked)


def with_header(member: str, header: bytes, data: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(graph().to_bytes())) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            content = header + data if entry.filename == f"{member}.npy" else old.read(entry)
            new.writestr(entry.filename, content)
    return file.getvalue()


def npy(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4000000000000,), }"),
            r"row_item of shape \(4000000000000,\) must have 16000000000000 bytes, got 0",
        ),
        (
            npy("{'descr': '<i4', 'shape': (0,)}"),
            "row_item must have an npy header with descr, fortran_order and shape",
        ),
        (npy("(" * 9000), "row_item must have an npy header with descr"),
        (npy(" " * 10_001), "row_item must have an npy header of at most 10000 bytes, got 10001"),
        (b"\x93NUMPY\x04\x00", "row_item must be an npy array of format 1, 2 or 3"),
        (b"\x93NUM", "row_item must be an npy array of format 1, 2 or 3"),
    ],
)
def test_a_header_that_lies_is_refused_without_allocation(header: bytes, message: str):
    with pytest.raises(GraphError, match=message):
        Graph.load(with_header("row_item", header), ROOM)


def test_a_character_beyond_unicode_is_refused():
    header = npy("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }")
    data = np.array([97, 98, 99, 0x110000], "<u4").tobytes()
    with pytest.raises(GraphError, match=r"items\[1\] must be Unicode text, got the character number 1114112"):
        Graph.load(with_header("items", header, data), ROOM)


def test_a_member_that_appears_twice_is_refused():
    file = io.BytesIO(graph().to_bytes())
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("tau.npy", b"")
    with pytest.raises(GraphError, match="member 'tau' must appear once"):
        Graph.load(file, ROOM)


def test_other_compressions_are_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("tau.npy", b"")
    with pytest.raises(GraphError, match="member 'tau' must be stored or deflated without encryption"):
        Graph.load(file, ROOM)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(data: bytes):
    with pytest.raises(GraphError, match="must be an npz file"):
        Graph.load(data, ROOM)


@given(st.binary(min_size=1, max_size=8), st.integers(0), st.booleans(), st.booleans())
def test_a_damaged_file_is_refused_or_is_a_graph(noise: bytes, at: int, cut: bool, compressed: bool):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **parts(prior=np.ones(5, np.float32)))
    data = file.getvalue()
    at %= len(data)
    damaged = data[:at] if cut else data[:at] + noise + data[at + len(noise) :]
    result = load_or_fault(damaged)
    if isinstance(result, Graph):
        assert same(result, Graph.load(result.to_bytes(), ROOM))
    else:
        assert result
        assert "\n" not in result


def load_or_fault(data: bytes) -> Graph | str:
    try:
        return Graph.load(data, ROOM)
    except GraphError as error:
        return str(error)
