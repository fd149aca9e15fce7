"""banditd restore: a directory goes back to a snapshot, its log is folded again, and nothing is overwritten."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from service import cli
from service.data_directory import owning
from service.log_sqlite import SqliteLog
from service.restore import restore
from service.sqlite_file import UnusableFile
from service.store import StoreUnavailable
from service.store_sqlite import SqliteStore
from tests.bandits.strategies import NOW_US
from tests.service.directories import edit, faults, fill, meta_of, opened, put_value, stored, take_snapshot
from tests.service.harness import running
from tests.service.logs import decided, decision, rewarded

TOML = '[server]\npartitions = 2\n[receipts]\nsecret = "' + "ab" * 32 + '"\n'


def files(folder):
    """Every file with its bytes, but for the lock and SQLite's shared memory."""
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if not name.name.endswith(("lock", "-shm"))}


def learned(folder, partition=0):
    return {key: value for key, value in stored(folder, partition).items() if key[:1] not in (b"m", b"r")}


def refused(file, folder, capsys):
    """The one line of a refusal, after which everything is as it was."""
    before = files(folder)
    assert cli.main(["restore", str(file), "--data", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("banditd restore: ")
    assert err.count("\n") == 1
    assert {name: data for name, data in files(folder).items() if data or name in before} == before
    return err


@pytest.fixture
def folder(tmp_path):
    """Four frames, a snapshot, then two frames more, all folded."""
    data = fill(tmp_path / "data")
    take_snapshot(data).rename(tmp_path / "one.snapshot")
    add(data, 4)
    add(data, 5)
    return data


@pytest.fixture
def file(tmp_path):
    return tmp_path / "one.snapshot"


def add(folder, number):
    with opened(folder) as made:
        receipt = decision(number, n_slots=3)
        made.put([decided(receipt), rewarded(receipt)])
        made.fold()


def test_snapshot_more_traffic_restore_start(tmp_path, capsys):
    """The state that is folded again from the snapshot on is the one that was there before."""
    data = tmp_path / "data"
    with running(data, TOML) as server:
        for number in range(30):
            server.reward(server.recommend(items=["a", "b"], user=f"u{number}"), 1.0)
        server.settle()
        server.node.data.store.checkpoint()
        file = take_snapshot(data)
        for number in range(30):
            server.reward(server.recommend(items=["b", "c"], user=f"u{number}"), 0.5)
        before = server.sums()
    assert cli.main(["restore", str(file), "--data", str(data), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"file", "data", "new_log", "replaced", "partitions"}
    assert document["new_log"] is False
    assert all(p["next"] < p["end"] for p in document["partitions"])
    assert cli.main(["doctor", "--data", str(data)]) == 0
    with running(data, TOML) as server:
        assert server.sums() == before
        assert sum(reward_sum for _, _, reward_sum in before.values()) == 30 * 1.0 + 30 * 0.5
    assert cli.main(["doctor", "--data", str(data)]) == 0


def test_a_lost_disk(tmp_path, capsys):
    """Into an empty folder: learning goes on, and a reward that was folded before the snapshot counts once."""
    with running(tmp_path / "lost", TOML) as server:
        early = server.recommend(items=["a"], user="u")
        server.reward(early, 1.0)
        open_ = server.recommend(items=["a"], user="u")
        before = server.sums()
        server.node.data.store.checkpoint()
        file = take_snapshot(tmp_path / "lost").rename(tmp_path / "kept.snapshot")
        server.reward(open_, 1.0)
    folder = tmp_path / "new"
    assert cli.main(["restore", str(file), "--data", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "what came after the snapshot is lost" in out
    assert "BANDITD_RECEIPT_SECRET" in out
    assert cli.main(["doctor", "--data", str(folder)]) == 0
    with running(folder, TOML) as server:
        assert server.sums() == before
        server.reward(early, 1.0)
        assert server.sums() == before
        server.reward(open_, 1.0)
        (after,) = server.sums().values()
        (earlier,) = before.values()
        assert after == (earlier[0], earlier[1], earlier[2] + 1.0)
        assert server.node.data.log.topic_id == server.node.updaters[0].meta.topic
    assert cli.main(["doctor", "--data", str(folder)]) == 0
    assert "where the log was cut from kept.snapshot" in capsys.readouterr().out


def test_the_state_that_was_there_is_kept_with_what_its_write_ahead_log_held(folder, file):
    before = learned(folder)
    with closing(sqlite3.connect(folder / "state.sqlite")) as connection:
        connection.execute("INSERT INTO value_0 VALUES (x'01', x'02')")
        connection.commit()
        done = restore(file, folder, NOW_US)
    assert done.replaced == folder / "state.sqlite.20231114T221320.000000Z.replaced"
    assert (done.next, done.end, done.new_log) == ([4], [6], False)
    with closing(sqlite3.connect(done.replaced)) as connection:
        kept = dict(connection.execute("SELECT key, value FROM value_0"))
    assert kept.pop(b"\x01") == b"\x02"
    assert {key: value for key, value in kept.items() if key[:1] not in (b"m", b"r")} == before
    assert meta_of(folder).next == 4
    with opened(folder) as made:
        made.fold()
    assert learned(folder) == before
    again = restore(file, folder, NOW_US + 1)
    assert again.replaced != done.replaced
    assert done.replaced.exists()


def test_a_damaged_or_missing_state_is_what_it_is_for(folder, file):
    before = learned(folder)
    (folder / "state.sqlite").write_bytes(b"damaged" * 1000)
    done = restore(file, folder, NOW_US)
    assert done.replaced.read_bytes() == b"damaged" * 1000
    (folder / "state.sqlite").unlink()
    (folder / "state.sqlite-wal").write_bytes(b"of another file")
    restore(file, folder, NOW_US + 1)
    assert not (folder / "state.sqlite-wal").exists()
    with opened(folder) as made:
        made.fold()
    assert learned(folder) == before
    assert faults(folder) == {}


def test_the_snapshot_is_kept_where_doctor_finds_it_once(folder, file):
    restore(file, folder, NOW_US)
    kept = folder / "snapshots" / "one.snapshot"
    assert kept.read_bytes() == file.read_bytes()
    restore(kept, folder, NOW_US + 1)
    restore(file.rename(file.with_name("other.name")), folder, NOW_US + 2)
    names = sorted(path.name for path in kept.parent.iterdir())
    assert len(names) == 2
    assert "one.snapshot" in names


def test_generations_are_written_only_where_there_are_none(folder, file):
    (folder / "generations.json").write_text("[ ]")
    restore(file, folder, NOW_US)
    assert (folder / "generations.json").read_text() == "[ ]"
    (folder / "generations.json").unlink()
    restore(file, folder, NOW_US + 1)
    assert json.loads((folder / "generations.json").read_text()) == []


def test_a_directory_that_a_server_owns(folder, file, capsys):
    with owning(folder):
        assert "another server owns this data directory" in refused(file, folder, capsys)


def test_a_snapshot_that_is_damaged_cut_or_of_another_version(folder, file, capsys):
    whole = file.read_bytes()
    for content, says in [
        (whole[:-1], "damaged or cut"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged or cut"),
        (whole[:4] + b"\x09\x00" + whole[6:], "a snapshot of version 9"),
        (b"", "not a snapshot of banditd"),
    ]:
        file.write_bytes(content)
        assert says in refused(file, folder, capsys)
    file.unlink()
    assert "No such file" in refused(file, folder, capsys)


def test_a_snapshot_of_another_log(folder, tmp_path, capsys):
    other = take_snapshot(fill(tmp_path / "other"))
    assert "name a snapshot of this log, or another directory by --data" in refused(other, folder, capsys)


def test_a_snapshot_of_other_partitions(tmp_path, capsys):
    """The same topic id in two logs of different partitions: made by hand, as nothing else makes them."""
    two = fill(tmp_path / "two", partitions=2)
    one = fill(tmp_path / "one")
    with closing(SqliteLog(two / "log.sqlite", 2)) as log:
        edit(one / "log.sqlite", "UPDATE meta SET value = ? WHERE name = 'topic_id'", log.topic_id)
    assert "2 partitions, while" in refused(take_snapshot(two), one, capsys)


def test_a_log_that_begins_beyond_or_ends_before_the_snapshot(folder, file, capsys):
    with opened(folder) as made:
        made.now_us += 1
        made.put([])
        made.fold()
        made.log.trim(0, made.now_us)
    assert "partition 0 stands at 4, while" in (line := refused(file, folder, capsys))
    assert "begins at 6: frames between are gone; name a newer snapshot" in line
    edit(folder / "log.sqlite", "DELETE FROM frame")
    edit(folder / "log.sqlite", "UPDATE partition SET floor = 3")
    assert "ends at 3: it lost frames; restore the log from a copy" in refused(file, folder, capsys)


def test_a_log_whose_frame_is_not_the_one_folded(folder, file, capsys):
    with opened(folder) as made:
        body = made.log.read(0, 2, 1)[0].body
    edit(folder / "log.sqlite", "UPDATE frame SET body = ? WHERE offset = 3", body)
    assert "has another frame 3 than was folded; name a snapshot of this log" in refused(file, folder, capsys)
    edit(folder / "log.sqlite", "UPDATE frame SET body = x'00' WHERE offset = 3")
    assert "has another frame 3 than was folded" in refused(file, folder, capsys)


def test_a_log_that_cannot_be_read_or_is_half_lost(folder, file, capsys):
    (folder / "log.sqlite").rename(folder / "elsewhere")
    (folder / "log.sqlite-wal").write_bytes(b"data")
    assert "log.sqlite: missing, while log.sqlite-wal holds data" in refused(file, folder, capsys)
    (folder / "log.sqlite-wal").unlink()
    (folder / "log.sqlite").write_bytes(b"no database" * 500)
    assert "log.sqlite: file is not a database" in refused(file, folder, capsys)
    with pytest.raises(UnusableFile):
        restore(file, folder, NOW_US)


def test_a_state_that_cannot_be_written_leaves_the_one_that_is_there(folder, file, capsys, monkeypatch):
    file.rename(folder / "snapshots" / "one.snapshot")

    def full(self, *given, **named):
        raise StoreUnavailable("state.sqlite.restoring: database or disk is full")

    monkeypatch.setattr(SqliteStore, "write", full)
    assert "disk is full" in refused(folder / "snapshots" / "one.snapshot", folder, capsys)
    assert faults(folder) == {}


def test_a_restore_that_was_cut_short_is_done_again(folder, file):
    """Whatever it had made by then: half a state beside, or a state set aside and none in its place."""
    before = learned(folder)
    (folder / "state.sqlite.restoring").write_bytes(b"half")
    (folder / "state.sqlite.restoring-wal").write_bytes(b"half")
    (folder / "state.sqlite").rename(folder / "state.sqlite.x.replaced")
    done = restore(file, folder, NOW_US)
    assert done.replaced is None
    with opened(folder) as made:
        made.fold()
    assert learned(folder) == before
    assert not list(folder.glob("*.restoring*"))


def test_a_new_log_goes_on_where_the_snapshot_ends(folder, file, tmp_path):
    new = tmp_path / "new"
    done = restore(file, new, NOW_US)
    assert (done.next, done.end, done.replaced, done.new_log) == ([4], [4], None, True)
    assert faults(new) == {}
    add(new, 4)
    add(new, 5)
    assert learned(new) == learned(folder)
    assert faults(new) == {}
    put_value(new, b"!", b"")
    assert set(faults(new)) == {"state"}


def test_a_log_beginning_at_given_offsets(tmp_path):
    path, topic = tmp_path / "log.sqlite", bytes(range(16))
    SqliteLog.beginning_at(path, topic, [7, 0]).close()
    with closing(SqliteLog(path, 2)) as log:
        assert log.topic_id == topic
        assert [log.bounds(partition) for partition in (0, 1)] == [(7, 7), (0, 0)]
        assert log.read(0, 7, 1) == []
    with closing(SqliteLog(path, 2)) as log:
        assert [at.offset for at in log.append([(0, b"x"), (1, b"y")])] == [7, 0]
        assert log.bounds(0) == (7, 8)
    with pytest.raises(ValueError, match="must not exist"):
        SqliteLog.beginning_at(path, topic, [7, 0])


def test_without_a_file_the_newest_snapshot_of_the_directory_is_taken(folder, capsys):
    add(folder, 6)
    newest = take_snapshot(folder)
    then = learned(folder)
    add(folder, 7)
    assert cli.main(["restore", "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(newest)
    assert learned(folder) == then


def test_without_a_file_and_without_a_snapshot_the_line_asks_for_one(folder, tmp_path, capsys):
    for data, says in ((folder, "keeps no snapshot of its log; name a FILE"), (tmp_path / "none", "name a FILE")):
        assert cli.main(["restore", "--data", str(data)]) == 2
        assert capsys.readouterr().err.endswith(f"{says}\n")
    assert not (tmp_path / "none").exists()
