"""banditd doctor: files, permissions, disk, clock, versions, graphs, and the command itself."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import namedtuple

import pytest

from bandits.errors import UsageError
from bandits.records import ENTRY_RECEIPT_AT, FRAME, encode_frame
from service import cli
from service.data_directory import owned, owning
from service.secret_files import secret
from service.snapshots import read_header
from tests.bandits.strategies import NOW_US, encode_entry
from tests.service.directories import change_meta, diagnosed, edit, faults, fill, opened, take_snapshot
from tests.service.logs import decided, decision

Usage = namedtuple("Usage", "total used free")
NAMES = ["files", "permissions", "owner", "disk", "clock", "versions", "generations", "graphs"]
NAMES += ["policies", "snapshots", "halts", "log", "state"]


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "data")


def test_every_check_says_something_and_looks_at_nothing_it_would_have_to_make(folder):
    before = sorted(path.name for path in folder.iterdir())
    found = diagnosed(folder)
    assert list(found) == NAMES
    assert all(check.ok and check.detail for check in found.values())
    made = {path.name for path in folder.iterdir()} - set(before)
    assert made <= {"log.sqlite-wal", "log.sqlite-shm", "state.sqlite-wal", "state.sqlite-shm"}


def test_the_command_prints_a_document_and_its_status_says_whether_all_is_well(folder, capsys, monkeypatch):
    monkeypatch.setattr("service.doctor.directory.time.time_ns", lambda: NOW_US * 1000)
    assert cli.main(["doctor", "--data", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert set(document) == {"ok", "checks"}
    assert document["ok"] is True
    assert all(set(check) == {"name", "ok", "detail"} for check in document["checks"])
    assert [check["name"] for check in document["checks"]] == NAMES
    assert err == ""
    change_meta(folder, halt="a\nreason")
    assert cli.main(["doctor", "--data", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("FAIL")] == ["halts"]
    assert len(out.splitlines()) == len(NAMES)
    assert err == ""


def test_a_directory_that_is_not_there_is_bad_usage(tmp_path, capsys):
    assert cli.main(["doctor", "--data", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"banditd doctor: {tmp_path / 'none'}: not there; name the data directory of a server by --data\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_named_and_not_made(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir(mode=0o700)
    found = faults(folder)
    assert found["files"].startswith(f"{folder / 'log.sqlite'}: not there;")
    assert {"files", "log", "state"} <= set(found)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["log.sqlite", "state.sqlite"])
@pytest.mark.parametrize("kind", ["foreign", "text", "cut", "empty"])
def test_a_foreign_or_cut_file_is_named(kind, name, folder):
    path = folder / name
    if kind == "foreign":
        path.unlink()
        edit(path, "CREATE TABLE notes (text)")
    elif kind == "text":
        path.write_text("not a database at all" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size // 2)
    found = faults(folder)
    assert found["files"].startswith(f"{path}: ")
    assert {"foreign": "not a", "text": "not a database", "cut": "", "empty": "no such table"}[kind] in found["files"]


def test_damage_inside_a_page_is_found(tmp_path):
    folder = fill(tmp_path / "data", n_frames=100)
    path = folder / "state.sqlite"
    with path.open("rb+") as file:
        file.seek(path.stat().st_size - 4096)
        file.write(bytes(range(256)) * 16)
    assert faults(folder)["files"].startswith(f"{path}: ")


def test_log_and_state_of_different_partitions(folder, tmp_path):
    other = fill(tmp_path / "other", partitions=2)
    (other / "state.sqlite").replace(folder / "state.sqlite")
    assert faults(folder)["files"].endswith(f"has 1 partitions, {folder / 'state.sqlite'} 2: not of one server")


@pytest.mark.parametrize("mode", [0o604, 0o640])
def test_a_secret_that_others_can_read(mode, folder):
    secret(folder / "receipt_secret")
    assert faults(folder) == {}
    (folder / "receipt_secret").chmod(mode)
    assert faults(folder) == {
        "permissions": f"{folder}/receipt_secret: others may read this secret; run: chmod 600 {folder}/receipt_secret"
    }


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_a_directory_that_others_can_write_to(mode, folder):
    folder.chmod(mode)
    assert faults(folder) == {"permissions": f"{folder}: others may write to it; run: chmod go-w {folder}"}


def test_the_owner_is_seen_and_the_lock_left_as_it_was(folder):
    assert diagnosed(folder)["owner"].detail == "no server runs on it"
    assert not (folder / "lock").exists()
    with owning(folder):
        assert diagnosed(folder)["owner"].detail == "a server runs on it"
        assert owned(folder)
        with pytest.raises(UsageError, match="another server owns this data directory"), owning(folder):
            pass
    assert not owned(folder)
    with owning(folder):
        pass


def test_a_full_disk(folder, monkeypatch):
    """128 MiB for the write-ahead logs, and as much as the state takes."""
    needed = (128 << 20) + (folder / "state.sqlite").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 * needed, needed, needed))
    assert faults(folder) == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 * needed, needed, needed - 1))
    assert set(faults(folder)) == {"disk"}


def test_a_clock_that_is_behind_the_log(folder):
    assert faults(folder, NOW_US - 300_000_000) == {}
    found = faults(folder, NOW_US - 300_000_001)
    assert found == {"clock": "this machine's clock is 300 s behind the log's newest append time: set it right"}


@pytest.mark.parametrize(("words", "of"), [("version 9", 2), ("receipts of version 9", FRAME.size + ENTRY_RECEIPT_AT)])
def test_a_frame_of_a_later_version(words, of, folder):
    with opened(folder) as made:
        body = bytearray(encode_frame([encode_entry(decided(decision(4)))], made.log.topic_id))
        body[of] = 9
        made.log.append([(0, bytes(body))])
    assert faults(folder)["versions"].startswith(f"partition 0: frame 4 has {words}, this")


def test_generations_that_cannot_be_read_or_are_gone(folder):
    path = folder / "generations.json"
    path.write_text("{")
    assert set(faults(folder)) == {"generations"}
    path.unlink()
    assert faults(folder)["generations"].startswith(f"{path}: not there; restore it")


def test_graphs_are_there_and_are_what_their_names_say(folder):
    (folder / "graphs").mkdir()
    pointers = folder / "graphs" / "current.json"
    name = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    pointers.write_text(json.dumps({"home": name}))
    assert faults(folder)["graphs"].startswith(
        f"{folder}/graphs/{name}.npz: the graph that surface home serves is gone"
    )
    (folder / "graphs" / f"{name}.npz").write_bytes(b"hello")
    assert faults(folder) == {}
    (folder / "graphs" / f"{name}.npz").write_bytes(b"hallo")
    assert "the graph of surface home was changed" in faults(folder)["graphs"]
    for wrong in ("[]", "{"):
        pointers.write_text(wrong)
        assert faults(folder)["graphs"].startswith(f"{pointers}: cannot be read")


def test_a_snapshot_that_cannot_be_read(folder):
    path = take_snapshot(folder)
    assert diagnosed(folder)["snapshots"].detail == f"1 of this log, the newest {path.name}"
    old = path.with_name("old.snapshot")
    old.write_text("no snapshot")
    assert faults(folder) == {"snapshots": f"{old}: not a snapshot of banditd; name a file that banditd snapshot wrote"}


def test_any_snapshot_that_is_damaged_is_named_also_where_it_says_that_it_is_of_another_log(folder):
    old, new = (take_snapshot(folder) for _ in range(2))
    topic = read_header(old).topic_id.encode()
    for path, content in ((old, old.read_bytes()[:-1]), (new, new.read_bytes().replace(topic, b"0" * 32))):
        whole = path.read_bytes()
        path.write_bytes(content)
        assert faults(folder)["snapshots"].startswith(f"{path}: damaged or cut")
        path.write_bytes(whole)
    assert faults(folder) == {}


def test_a_file_that_may_not_be_read(folder, monkeypatch):
    """Permissions do not bind a root user, so the system call is made to fail."""

    def refuse(path, *given, **named):
        raise PermissionError(13, "Permission denied", str(folder / "graphs"))

    monkeypatch.setattr("service.doctor.files.shutil.disk_usage", refuse)
    assert faults(folder) == {"disk": f"{folder / 'graphs'}: Permission denied"}
    assert os.access(folder, os.W_OK)


@pytest.mark.parametrize(("terminal", "no_color"), [(True, False), (True, True), (False, False)])
def test_progress_is_shown_on_a_terminal_and_wiped_in_the_end(terminal, no_color, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    shown = terminal and not no_color
    assert cli.main(["doctor", "--data", str(folder)]) == 0
    err = capsys.readouterr().err
    assert ("state: partition 0, frame 0 of 4" in err) == shown
    assert err.endswith("\r\x1b[K") == shown
    assert "\n" not in err
