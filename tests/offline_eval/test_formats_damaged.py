"""Damaged files: each is refused by one line with file, row, column, value and rule, the first fault only."""

from __future__ import annotations

import gzip
import zipfile
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandits.own_log import to_json_lines
from offline_eval.errors import BadLog
from tests.offline_eval.logs import chunks, row, slates, write
from tests.offline_eval.test_formats_tables import feedback

LINE = msgspec.json.decode(to_json_lines([row(decision_id="d9")]))


def refused(path, name=None, **options):
    """The one line, without the file's folder."""
    with pytest.raises(BadLog) as caught:
        chunks(path, name, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path.parent))
    return text.removeprefix(f"{path.parent}/")


OWN_LINES: list[tuple[dict[str, Any] | bytes, str]] = [
    ({"version": 2}, "version: got 2, must be 1, the version that is read"),
    ({"version": ...}, "version: got None, must not be missing"),
    ({"reward": "1.5"}, "reward: got '1.5', expected float | null, got str"),
    ({"propensity": "0.5"}, "propensity: got '0.5', expected float | null, got str"),
    ({"propensity": 0}, "propensity: got 0.0, must lie in (0, 1]"),
    ({"propensity": 1.0000001}, "propensity: got 1.0000001, must lie in (0, 1]"),
    ({"propensity": -0.5}, "propensity: got -0.5, must lie in (0, 1]"),
    ({"position": -1}, "position: got -1, must lie in [0, 2**53)"),
    ({"position": 1.5}, "position: got 1.5, expected int, got float"),
    ({"position": 10**30}, "position: got 1000000000000000000000000000000, expected int <= 9223372036854775807"),
    ({"mode": "explor"}, "mode: got 'explor', must be one of explore, exploit, holdout"),
    ({"item": None}, "item: got None, expected str, got null"),
    ({"item": "z"}, "item: got 'z', must be among the decision's candidates"),
    ({"timestamp": "yesterday"}, "timestamp: got 'yesterday', invalid RFC3339 encoded datetime"),
    (
        {"timestamp": "2023-11-14T22:13:20"},
        "timestamp: got '2023-11-14T22:13:20', expected datetime with a timezone component",
    ),
    ({"candidates": ["a", 7]}, "candidates[1]: got 7, expected str, got int"),
    ({"distribution": [0.5]}, "distribution: got '1 numbers', must be aligned with candidates"),
    ({"distribution": [0.5, 0.6]}, "sum of distribution: got 1.1, must be 1"),
    ({"distribution": [1.5, -0.5]}, "distribution: got 1.5, must be a probability"),
    ({"rewards": {"click": "1"}}, "rewards[...]: got {'click': '1'}, expected float, got str"),
    (b"not json", "line: got 'not json', must be a JSON object: JSON is malformed: invalid character (byte 4)"),
    (b'{"version":1,"dec', 'line: got \'{"version":1,"dec\', must be a JSON object: input data was truncated'),
    (b"[]", "line: got '[]', must be a JSON object: expected object, got array"),
    (b'{"a":"\xff"}', 'line: got b\'{"a":"\\xff"}\', must be UTF-8 (invalid start byte)'),
]


@pytest.mark.parametrize(("damage", "message"), OWN_LINES, ids=[message for _, message in OWN_LINES])
def test_a_damaged_line_of_the_own_log(tmp_path, damage, message):
    """It is the third physical line, after a blank one; a worse one follows, which is not told."""
    file = tmp_path / "log.jsonl"
    whole = LINE if isinstance(damage, bytes) else {k: v for k, v in {**LINE, **damage}.items() if v is not ...}
    line = damage if isinstance(damage, bytes) else msgspec.json.encode(whole)
    file.write_bytes(to_json_lines([row()]) + b"\n" + line + b"\n{]\n")
    assert refused(file) == f"log.jsonl: line 3: {message}"


def parquet(path, **columns):
    """A table of three rows."""
    base = {"action": ["a", "b", "a"], "reward": [1.0, 0.0, 1.0], "propensity": [0.5, 0.5, 0.5]}
    pq.write_table(pa.table({name: value for name, value in {**base, **columns}.items() if value is not None}), path)
    return path


TABLES: list[tuple[dict[str, Any], str]] = [
    ({"reward": None}, "log.parquet: reward: got None, the file needs this column, or --map reward=COLUMN; it has "),
    ({"reward": ["1", "0", "1"]}, "log.parquet: row 0: reward: got '1', must be a number, not text"),
    ({"reward": [1.0, np.nan, np.inf]}, "log.parquet: row 1: reward: got nan, must be finite"),
    ({"reward": [1.0, None, 0.0]}, "log.parquet: row 1: reward: got None, must not be missing"),
    ({"reward": [1.0, 0.0, -np.inf]}, "log.parquet: row 2: reward: got -inf, must be finite"),
    ({"propensity": [0.5, 0.0, 2.0]}, "log.parquet: row 1: propensity: got 0.0, must lie in (0, 1]"),
    (
        {"propensity": [[1.0], [1.0], [1.0]]},
        "row 0: propensity: got [1.0], must be a number, not list<element: double>",
    ),
    ({"action": [1.5, 2.0, 3.0]}, "log.parquet: row 0: action: got 1.5, must be text, not double"),
    ({"action": ["a", None, "b"]}, "log.parquet: row 1: action: got None, must not be missing"),
    ({"position": [0, 1, 1.5]}, "log.parquet: row 2: position: got 1.5, must be a whole number"),
    ({"timestamp": ["x", "y", "z"]}, "row 0: timestamp: got 'x', must be a timestamp or an integer of microseconds"),
    ({"age": [1.0, np.inf, 2.0]}, "log.parquet: row 1: age: got inf, must be finite"),
    ({"allowed": [["a"], ["b"], ["a"]]}, "row 0: allowed: got 'a', must be a number, not text"),
    ({"action": [0, 1, 0], "allowed": [[0], [0], [0]]}, "log.parquet: row 1: action: got '1', must be in allowed"),
    # Faults of two columns: the first row's is told, whatever the order of columns.
    ({"reward": [1.0, 2.0, np.nan], "propensity": [0.5, 3.0, 0.5]}, "log.parquet: row 1: propensity: got 3.0, must"),
]


@pytest.mark.parametrize(("columns", "message"), TABLES, ids=[message for _, message in TABLES])
def test_a_damaged_table(tmp_path, columns, message):
    assert message in refused(parquet(tmp_path / "log.parquet", **columns))


CSVS: list[tuple[str, str]] = [
    ("action,reward,propensity\na,1,.5\nb,x,.5\n", "log.csv: line 3: reward: got 'x', must be a number"),
    ("action,reward,propensity\na,1,.5\nb,nan,.5\n", "log.csv: line 3: reward: got nan, must be finite"),
    ("action,reward,propensity\na,1,.5\nb,,.5\n", "log.csv: line 3: reward: got None, must not be missing"),
    ("action,reward,propensity\na,1,.5\nb,1\n", "log.csv: line 3: line: got '2 values', must have 3, as the header"),
    ("action,reward,propensity\na,1,2\nb,1\n", "log.csv: line 2: propensity: got 2.0, must lie in (0, 1]"),
    ("action,reward\na,1\n", "log.csv: propensity: got None, the file needs this column, or --map propensity=COLUMN; "),
    ("action;reward;propensity\na;1;.5\n", "; it has action;reward;propensity"),
    ("action,reward,reward\na,1,1\n", "log.csv: line 1: header: got 'reward', must name each column once"),
    ('action,reward,propensity\na,1,.5\n"b,1,.5\n', "log.csv: line 3: line: got '\"b,1,.5', a quoted value must end"),
    ("action,reward,propensity,timestamp\na,1,.5,noon\n", "line 2: timestamp: got 'noon', must be a time such as 2023"),
    ("action,reward,propensity,x\na,1,.5,1\na,1,.5,inf\n", "log.csv: line 3: x: got inf, must be finite"),
    (
        "action,reward,propensity,allowed\n0,1,.5,0 1\n",
        "line 2: allowed: got '0 1', must be a list of integers such as",
    ),
    (
        "item_id,propensity_score\n0,.5\n",
        "log.csv: timestamp: got None, the file needs this column; it has item_id, pr",
    ),
    ("\n\n", "log.csv: line 1: header: got '', must name the columns"),
]


@pytest.mark.parametrize(("text", "message"), CSVS, ids=[message for _, message in CSVS])
def test_a_damaged_csv(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    assert message in refused(tmp_path / "log.csv")


def test_a_number_among_context_that_is_none_after_many_that_are(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 40)
    (tmp_path / "log.csv").write_text("action,reward,propensity,x\n" + "a,1,.5,3\n" * 20 + "a,1,.5,three\n")
    assert refused(tmp_path / "log.csv") == "log.csv: line 22: x: got 'three', must be a number"


FEEDBACK: list[tuple[dict[str, Any], str]] = [
    ({"pscore": ...}, "pscore: got None, the file needs this array; it has n_rounds, n_actions, context, action, re"),
    ({"reward": np.zeros(4)}, "log.npz: reward: got (4,), must have shape (3,)"),
    ({"context": np.zeros(3)}, "log.npz: context: got (3,), must have shape (3, any)"),
    ({"context": None}, "log.npz: context: got (), must have shape (3, any)"),
    ({"action": [0, 2, 1]}, "log.npz: row 1: action: got 2, must lie in [0, 2)"),
    ({"action": [0, -1, 1]}, "log.npz: row 1: action: got -1, must be at least 0"),
    ({"action": [0.0, 1.0, 1.0]}, "log.npz: action: got 'float64', must be integers"),
    ({"reward": ["1", "2", "3"]}, "log.npz: reward: got '<U1', must be numbers"),
    ({"reward": [1.0, np.nan, 0.0]}, "log.npz: row 1: reward: got nan, must be finite"),
    (
        {"reward": np.array([1, None, 2])},
        "log.npz: reward: got 'an array of objects', must not need pickle, which is ne",
    ),
    ({"pscore": [0.5, 0.5, 0.0]}, "log.npz: row 2: pscore: got 0.0, must lie in (0, 1]"),
    ({"pi_b": np.full((3, 2), 0.4)}, "log.npz: row 0: sum of pi_b: got 0.8, must be 1"),
    ({"pi_b": np.full((3, 2, 2), 0.5)}, "log.npz: pi_b: got (3, 2, 2), must have shape (3, 2)"),
    (
        {"pi_b": [[1, 0], [1, 0], [1, 0]], "action": [0, 0, 1]},
        "log.npz: row 2: action: got 1, has probability 0 in pi_b",
    ),
    ({"n_actions": 0}, "log.npz: n_actions: got 0, must be an integer of at least 1"),
    ({"n_rounds": [3]}, "log.npz: n_rounds: got (1,), must have shape ()"),
    ({"context": [[1, 2], [3, np.inf], [5, 6]]}, "log.npz: row 1: context[1]: got inf, must be finite"),
]


@pytest.mark.parametrize(("arrays", "message"), FEEDBACK, ids=[message for _, message in FEEDBACK])
def test_damaged_bandit_feedback(tmp_path, arrays, message):
    assert message in refused(feedback(tmp_path / "log.npz", **arrays))


def test_an_npz_that_claims_more_than_it_holds(tmp_path):
    """Neither is memory taken for the claim."""
    file = feedback(tmp_path / "log.npz")
    with zipfile.ZipFile(file, "a") as archive, archive.open("pi_b.npy", "w") as out:
        shape = {"descr": "<f8", "fortran_order": True, "shape": (3, 2)}
        np.lib.format.write_array_header_1_0(out, shape)
    assert refused(file) == "log.npz: pi_b: got '0 bytes', must have the 48 bytes of shape (3, 2)"
    big = tmp_path / "big.npz"
    with zipfile.ZipFile(big, "w") as archive:
        for name, shape in (("n_rounds", ()), ("n_actions", ()), ("action", (1 << 50,))):
            with archive.open(f"{name}.npy", "w") as out:
                header = {"descr": "<i8", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(out, header)
                out.write((3).to_bytes(8, "little"))
    assert refused(big).startswith("big.npz: reward: got None, the file needs this array")


def test_an_array_that_must_be_held_whole_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.npz.LARGEST", 40)
    file = feedback(tmp_path / "log.npz", pi_b=np.asfortranarray(np.full((3, 2), 0.5)))
    assert refused(file) == "log.npz: pi_b: got '48 bytes', at most 40 are held at once"


def test_cut_and_empty_files(tmp_path):
    rows = slates(200, 2, 4)
    write(tmp_path / "log.parquet", rows)
    plain = to_json_lines(rows)
    forms = {
        "log.parquet": ((tmp_path / "log.parquet").read_bytes()[:-9], "must be a whole Parquet file"),
        "text.parquet": (b"PAR1 not quite", "must be a whole Parquet file"),
        "log.jsonl.gz": (gzip.compress(plain)[:-900], "got 'Truncated compressed stream', must be a whole file"),
        "log.jsonl.zst": (pa.compress(plain, "zstd", asbytes=True)[:-9], "compressed stream', must be a whole file"),
        "log.npz": (b"PK\x03\x04 not quite", "got 'File is not a zip file', must be a whole npz file"),
        "empty.parquet": (b"", "file: got '0 bytes', must have rows"),
        "empty.csv": (b"", "file: got '0 bytes', must have rows"),
        "log.txt": (b"x", "format: got '.txt', name its format by --format: own, obp, obd, dsjson, csv"),
        "log.jsonl": (b'{"x":1}\n', "format: got '.jsonl', name its format by --format: own, obp, obd, dsjson, csv"),
    }
    for name, (data, message) in forms.items():
        (tmp_path / name).write_bytes(data)
        text = refused(tmp_path / name)
        assert text.startswith(f"{name}: ")
        assert message in text


def test_a_cut_in_the_middle_of_a_parquet_file_is_told_after_the_rows_before_it(tmp_path):
    """A fault of row 3 comes first."""
    file = write(tmp_path / "log.parquet", slates(50, 1, 3), 10)
    with pq.ParquetFile(file) as found:
        at = found.metadata.row_group(4).column(9).data_page_offset
    data = bytearray(file.read_bytes())
    data[at : at + 40] = b"\xff" * 40
    file.write_bytes(bytes(data))
    assert refused(file).endswith("must be a whole Parquet file")


def test_text_that_breaks_off_after_a_bad_row_tells_of_the_row(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 700)
    rows = [row(decision_id=f"d{k}", reward=1.0, propensity=2.0 if k == 3 else 0.5) for k in range(60)]
    (tmp_path / "log.jsonl").write_bytes(to_json_lines(rows)[:-30])
    assert refused(tmp_path / "log.jsonl").startswith("log.jsonl: line 4: propensity: got 2.0")


def test_folders(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    assert refused(folder) == "logs: folder: got 'no files', must hold a log"
    write(folder / "a.jsonl", [row()])
    (folder / "b.csv").write_text("action,reward,propensity\na,1,.5\n")
    assert refused(folder) == (
        "logs/b.csv: format: got 'csv', a folder's files have one format, and a.jsonl is own; name one by --format"
    )
    assert refused(tmp_path / "none") == "none: file: got None, must be a file or a folder of files"
    locked = tmp_path / "log.jsonl"
    locked.mkdir()
    assert refused(locked).startswith("log.jsonl: folder: got 'no files'")


def test_a_map_to_what_is_not_there(tmp_path):
    file = parquet(tmp_path / "log.parquet")
    assert refused(file, columns={"reward": "click"}) == (
        "log.parquet: click: got None, the file needs this column, --map reward=click; "
        "it has action, reward, propensity"
    )
    assert refused(file, columns={"weight": "reward"}).startswith(
        "log.parquet: --map: got 'weight', --map names one of"
    )


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("offline_eval.formats.text.BLOCK", 100)
    monkeypatch.setattr("offline_eval.formats.text.LONGEST", 1000)
    (tmp_path / "log.jsonl").write_bytes(to_json_lines([row()]) + b" " * 5000)
    assert refused(tmp_path / "log.jsonl") == "log.jsonl: line 2: line: got 'over 1,000 bytes', must be shorter"
