"""Snapshots: one file that holds the state of every partition, and is refused unless it is whole."""

from __future__ import annotations

import json
import os
import stat
from contextlib import closing

import pytest

from service import cli
from service.files import whole_file
from service.restore import restore
from service.snapshots import (
    Snapshot,
    SnapshotError,
    default_path,
    read_header,
    remedy,
    snapshots_of,
    utc_name,
    write_snapshot,
)
from service.stored_files import StoredLog, StoredState
from tests.bandits.strategies import NOW_US
from tests.service.directories import change_meta, fill, meta_of, opened, stored, take_snapshot
from tests.service.harness import running
from tests.service.logs import decided, decision


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "data", n_frames=5, partitions=2)


def write(folder, path, created_us=NOW_US, generations=()):
    with closing(StoredLog(folder / "log.sqlite")) as log, closing(StoredState(folder / "state.sqlite")) as state:
        return write_snapshot(state, log.topic_id, generations, created_us, path)


def learned(values):
    return {key: value for key, value in values.items() if key[:1] not in (b"m", b"r")}


def test_a_snapshot_holds_every_key_but_the_owners_own(folder, tmp_path):
    header = write(folder, tmp_path / "one", generations=[{"surface": "home"}])
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600
    with closing(Snapshot(tmp_path / "one")) as snapshot:
        assert snapshot.header == header == read_header(tmp_path / "one")
        for partition in (1, 0):
            assert dict(snapshot.each(partition)) == learned(stored(folder, partition))
    assert header.generations == [{"surface": "home"}]
    assert [p.next for p in header.partitions] == [3, 2]
    meta = meta_of(folder, 1)
    assert (header.meta(1).checksum, header.meta(1).watermark) == (meta.checksum, meta.watermark)
    assert (header.meta(1).topic, header.meta(1).token, header.meta(1).ring) == (meta.topic, b"", 0)


def test_the_same_state_gives_the_same_bytes(folder, tmp_path):
    write(folder, tmp_path / "one")
    write(folder, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_flipped_bit_and_every_cut_is_refused(folder, tmp_path):
    path = tmp_path / "one"
    write(folder, path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(SnapshotError, match=str(path)):
            Snapshot(path)
        path.write_bytes(whole[:at])
        with pytest.raises(SnapshotError, match="name a file that banditd snapshot wrote|damaged or cut"):
            Snapshot(path)
    path.write_bytes(whole + b"0")
    with pytest.raises(SnapshotError, match="damaged or cut"):
        Snapshot(path)
    path.write_bytes(whole[:4] + b"\x02\x00" + whole[6:])
    with pytest.raises(
        SnapshotError, match="a snapshot of version 2, this banditd reads 1; use the banditd that wrote it"
    ):
        Snapshot(path)
    path.unlink()
    with pytest.raises(SnapshotError, match="No such file"):
        Snapshot(path)


def test_a_snapshot_that_cannot_be_finished_leaves_nothing(folder, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one").write_bytes(b"the one before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(folder, tmp_path / "out" / "one")
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"the one before"]


def test_a_large_state_goes_through_in_pieces(tmp_path, monkeypatch):
    """More bytes than a piece, more keys than one write: state, snapshot and restored state hold the same."""
    monkeypatch.setattr("service.snapshots._PIECE", 100)
    monkeypatch.setattr("service.snapshots._KEYS_AT_A_TIME", 7)
    folder = fill(tmp_path / "data", n_frames=40)
    restore(take_snapshot(folder), tmp_path / "new", NOW_US)
    assert len(learned(stored(folder))) > 40
    assert learned(stored(tmp_path / "new")) == learned(stored(folder))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"topic": bytes(16)}, "partition 0: the state is of log 00000000000000000000000000000000, not of "),
        ({"fold_version": 99}, "partition 0: folded by version 99, this is "),
    ],
)
def test_no_snapshot_is_taken_of_what_could_not_be_restored(changes, says, folder, tmp_path, capsys):
    change_meta(folder, **changes)
    assert cli.main(["snapshot", "--data", str(folder), "-o", str(tmp_path / "one")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "one").exists()


def test_the_command_says_what_it_wrote(folder, tmp_path, capsys):
    assert cli.main(["snapshot", "--data", str(folder), "-o", str(tmp_path / "one"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(tmp_path / "one")
    assert document["topic_id"] == meta_of(folder).topic.hex()
    assert document["bytes"] == (tmp_path / "one").stat().st_size
    keys = [len(learned(stored(folder, partition))) for partition in (0, 1)]
    assert document["partitions"] == [
        {"partition": 0, "next": 3, "keys": keys[0]},
        {"partition": 1, "next": 2, "keys": keys[1]},
    ]
    assert cli.main(["snapshot", "--data", str(folder), "-o", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'one'}: {sum(keys)} keys of 2 partitions, ")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: (folder / "state.sqlite").unlink(), "state.sqlite: not there; name the data directory"),
        (lambda folder: (folder / "log.sqlite").write_text("x" * 5000), "log.sqlite: file is not a database"),
        (lambda folder: (folder / "generations.json").write_text("{"), "generations.json: cannot be read; restore it"),
        (lambda folder: (folder / "snapshots").write_text(""), "name another file by -o"),
    ],
)
def test_what_cannot_be_read_or_written_is_one_line(make, says, folder, capsys):
    make(folder)
    assert cli.main(["snapshot", "--data", str(folder)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_names_by_default_sort_by_time_and_the_newest_of_this_log_is_found(folder, tmp_path):
    topic = meta_of(folder).topic
    assert utc_name(NOW_US) == "20231114T221320.000000Z"
    assert remedy(folder, topic).startswith("there is no snapshot of this log in the data directory")
    (folder / "snapshots").mkdir()
    paths = [default_path(folder, NOW_US + us) for us in (0, 1, 10**6)]
    assert paths == sorted(paths)
    for us, path in zip((0, 1, 10**6), paths, strict=True):
        write(folder, path, created_us=NOW_US + us)
    other = fill(tmp_path / "other")
    write(other, folder / "snapshots" / "zzz.snapshot", created_us=NOW_US + 10**9)
    (folder / "snapshots" / "zzzz.snapshot").write_text("no snapshot")
    assert snapshots_of(folder, topic) == paths[::-1]
    assert remedy(folder, topic) == f"run banditd restore {paths[-1]} --data {folder}"


def test_the_newest_snapshot_is_the_one_that_stands_furthest_whatever_the_clock_said(folder):
    (folder / "snapshots").mkdir()
    ahead = write(folder, default_path(folder, NOW_US + 10**15), created_us=NOW_US + 10**15)
    with opened(folder, 2) as made:
        made.put([decided(decision(7))], 1)
        made.fold()
    right = default_path(folder, NOW_US)
    assert sum(p.next for p in write(folder, right).partitions) > sum(p.next for p in ahead.partitions)
    topic = meta_of(folder).topic
    assert snapshots_of(folder, topic)[0] == right
    assert remedy(folder, topic) == f"run banditd restore {right} --data {folder}"


def test_a_partition_that_nothing_was_folded_of(tmp_path):
    folder = tmp_path / "data"
    with opened(folder, 2) as made:
        made.put([decided(decision(0))])
        made.fold()
    path = take_snapshot(folder)
    assert [(p.next, p.keys) for p in read_header(path).partitions][1] == (0, 0)
    restore(path, tmp_path / "new", NOW_US)
    assert stored(tmp_path / "new", 1) == {}


@pytest.mark.parametrize("name", [".", "folder"])
def test_a_snapshot_takes_the_place_of_a_file_only(name, tmp_path, monkeypatch, capsys):
    """Nor of a device: /dev/null would be gone for everybody."""
    with running(tmp_path / "data") as server:
        server.recommend(items=["a"])
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["snapshot", "--data", "data", "-o", name]) == 2
    assert "not a regular file; name another file by -o" in capsys.readouterr().err


def test_a_file_that_is_written_whole_never_replaces_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"), whole_file(tmp_path / "pipe"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
