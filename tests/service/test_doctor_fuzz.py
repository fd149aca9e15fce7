"""Whatever bit of a data directory is flipped, doctor ends with a report, and says so where it compares it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256

import pytest

from bandits.mirror import decode_meta
from bandits.names import arm_key
from bandits.records import Retired, encode_retire
from service import cli, log_sqlite
from service.doctor.checks import UNFORESEEN
from service.rewards import Generation, Generations, Rewards
from service.settings.surface import RewardSettings
from tests.bandits.strategies import NOW_US
from tests.service.directories import edit, faults, fill, opened, stored, take_snapshot
from tests.service.logs import decided, decision

PARTITIONS = 2
CASES = 80


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Eight frames in two partitions, two generations, a graph and a snapshot."""
    data = fill(tmp_path_factory.mktemp("fuzz") / "data", n_frames=8, partitions=PARTITIONS)
    (data / "generations.json").unlink()
    rewards = Rewards([RewardSettings("click", (0.0, 1.0), 1.0, False)])
    generations = [Generation("home", "diag_linucb", f"g{table}", table, 1 + table, rewards) for table in (7, 17)]
    Generations(data / "generations.json", lambda: NOW_US).use("home", generations)
    (data / "graphs").mkdir()
    name = sha256(b"a graph").hexdigest()
    (data / "graphs" / f"{name}.npz").write_bytes(b"a graph")
    (data / "graphs" / "current.json").write_text(json.dumps({"home": name}))
    take_snapshot(data).rename(data / "snapshots" / "one.snapshot")
    assert faults(data) == {}
    return data


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "data")


def compared(data, name):
    """What doctor compares of a file, values with their types; None where it cannot be read."""
    with (
        contextlib.suppress(sqlite3.Error, ValueError, TypeError, LookupError),
        closing(sqlite3.connect(data / name)) as connection,
    ):
        if name == "log.sqlite":
            topic = connection.execute("SELECT value FROM meta WHERE name = 'topic_id'").fetchall()
            frames = [connection.execute(log_sqlite.SELECT, (p, 0, 100)).fetchall() for p in range(PARTITIONS)]
            return topic, [[(offset, body) for offset, _, body in some] for some in frames]
        held = []
        for partition in range(PARTITIONS):
            rows = dict(connection.execute(f"SELECT key, value FROM value_{partition}").fetchall())
            meta = decode_meta(rows.pop(b"m"))
            learned = sorted((repr(key), value) for key, value in rows.items() if key[:1] != b"r")
            held.append((meta.next, meta.checksum, meta.topic, meta.fold_version, meta.watermark, meta.halt, learned))
        return held, connection.execute("SELECT partition, next FROM partition ORDER BY partition").fetchall()
    return None


def report(data, capsys):
    """Exit status and checks of the command, none of which met what it does not know."""
    status = cli.main(["doctor", "--data", str(data), "--json"])
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert status == (0 if document["ok"] else 1)
    assert all(check["detail"] and UNFORESEEN not in check["detail"] for check in document["checks"])
    return status


@pytest.mark.parametrize(
    "name",
    ["state.sqlite", "log.sqlite", "generations.json", "graphs/current.json", "snapshots/one.snapshot"],
)
def test_a_flipped_bit_ends_in_a_report(name, folder, capsys):
    path, chosen = folder / name, random.Random(name)
    whole = path.read_bytes()
    before = compared(folder, name) if path.suffix == ".sqlite" else None
    # Most of a small database is empty pages.
    written = [at for at, byte in enumerate(whole) if byte]
    n_found = 0
    for case in range(CASES):
        at, bit = chosen.choice(written) if case % 8 else chosen.randrange(len(whole)), chosen.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        status = report(folder, capsys)
        n_found += status
        if path.suffix == ".snapshot" or (path.suffix == ".sqlite" and compared(folder, name) != before):
            assert status == 1, (at, bit)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(whole)
    assert n_found > CASES / 5
    assert report(folder, capsys) == 0


@pytest.mark.parametrize("column", ["key", "value"])
@pytest.mark.parametrize("kind", [b"c", b"t", b"d", b"b", b"n", b"m"])
@pytest.mark.parametrize("odd", [5, 1.5, "text", b"", b"x" * 7])
def test_a_key_or_value_of_another_type_or_length_is_a_fault(odd, kind, column, tmp_path, capsys):
    """One flipped bit of a record's header makes bytes a number, a text, or longer than they were."""
    data = fill(tmp_path / "data")
    key = min(key for key in stored(data) if key[:1] == kind)
    assert edit(data / "state.sqlite", f"UPDATE value_0 SET {column} = ? WHERE key = ?", odd, key) == 1
    found = faults(data)
    assert "state" in found
    if not isinstance(odd, bytes):
        assert f"{data}/state.sqlite: partition 0: a key or value is not bytes; restore it from a" in found["state"]
    elif kind != b"m" and column == "key":
        assert "missing, the log gives" in found["state"] or f"unknown key {odd.hex()}: stored" in found["state"]
    assert report(data, capsys) == 1


@pytest.mark.parametrize("prefix", [b"c", b"t", b"n", b"x", b"d", b"b"])
@pytest.mark.parametrize("rest", [b"", b"\x01" * 40])
def test_an_odd_key_beside_a_retire_entry_is_named(prefix, rest, retired):
    edit(retired / "state.sqlite", "INSERT INTO value_0 VALUES (?, ?)", prefix + rest, b"")
    assert f"partition 0: unknown key {(prefix + rest).hex()}: stored, but" in faults(retired)["state"]


@pytest.mark.parametrize("value", [b"", b"\x00" * 15])
def test_a_tombstone_of_another_length_is_named(value, retired):
    edit(retired / "state.sqlite", "UPDATE value_0 SET value = ? WHERE substr(key, 1, 1) = x'78'", value)
    assert "partition 0: tombstone of table 0000000000000007" in faults(retired)["state"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE frame SET body = 'text' WHERE offset = 2", "partition 0: frame 2: its offset or time is not a number"),
        ("UPDATE frame SET append_us = 'text'", "its offset or time is not a number"),
        ("UPDATE frame SET offset = x'09' WHERE offset = 3", "partition 0: an offset is not a number"),
        ("UPDATE partition SET floor = 'text'", "partition 0: an offset is not a number"),
        ("UPDATE meta SET value = 'text' WHERE name = 'topic_id'", "its topic id is not 16 bytes"),
        ("UPDATE meta SET value = 'text' WHERE name = 'partitions'", "says that it has 'text' partitions"),
        ("UPDATE meta SET value = 0 WHERE name = 'partitions'", "says that it has 0 partitions"),
    ],
)
def test_a_log_of_other_types_is_named(statement, says, tmp_path, capsys):
    data = fill(tmp_path / "data")
    edit(data / "log.sqlite", statement)
    assert says in faults(data)["log"]
    assert report(data, capsys) == 1


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("generations.json", "[" * 100_000, "generations"),
        ("generations.json", '[{"rewards": [{"name": 1, "range": [0, 1], "weight": 0, "clip": 0}]}]', "generations"),
        ("graphs/current.json", "[" * 100_000, "graphs"),
        ("graphs/current.json", '{"\\ud800\\u001b[31m\\n": "\\ud800"}', "graphs"),
        ("graphs/current.json", '{"home": "\\u0000"}', "graphs"),
    ],
)
def test_any_json_is_a_line_that_can_be_printed(name, content, check, tmp_path, capsys):
    data = fill(tmp_path / "data")
    (data / "graphs").mkdir()
    (data / name).write_text(content)
    assert report(data, capsys) == 1
    line = faults(data)[check]
    assert line.encode().decode().isprintable()


def test_what_no_check_foresees_is_a_fault_and_the_others_are_made(tmp_path, monkeypatch):
    data = fill(tmp_path / "data")

    def odd(folder):
        raise ArithmeticError("an odd file")

    monkeypatch.setattr("service.doctor.files.owned", odd)
    assert faults(data) == {
        "owner": f"{UNFORESEEN} (ArithmeticError('an odd file')); restore the directory from a backup"
    }


@pytest.fixture
def retired(tmp_path):
    """A directory whose last frame retires arm a."""
    data = fill(tmp_path / "data")
    with opened(data) as made:
        made.put([decided(decision(9))])
        made.put_bytes([encode_retire([Retired(7, arm_key("a"))], NOW_US)])
        made.fold()
    assert faults(data) == {}
    return data
