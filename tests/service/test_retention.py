"""The log is trimmed to its retention, after a snapshot that the state can be folded from again."""

from __future__ import annotations

import json
import random
import shutil
from contextlib import closing
from itertools import pairwise

import pytest

from bandits.records import encode_frame
from service.cli import main
from service.doctor.directory import Directory
from service.doctor.state import state
from service.log_sqlite import SqliteLog
from service.retention import SNAPSHOTS_KEPT, Retention
from service.snapshots import (
    FOLDER,
    UNASKED,
    Snapshot,
    SnapshotError,
    default_path,
    read_header,
    snapshots_of,
    take_snapshot,
)
from service.store_checkpoint import CheckpointedStore
from service.store_memory import MemoryStore
from service.store_sqlite import SqliteStore
from service.updater import Updater
from tests.bandits.strategies import NOW_US, TTL_US, encode_entry
from tests.service.directories import edit, fill
from tests.service.directories import take_snapshot as take_snapshot_of
from tests.service.harness import running
from tests.service.logs import decided, decision

DAYS, DAY_US = 5, 86_400 * 10**6

ONE = "[server]\npartitions = 1\nretention_s = 1000\n"


def ahead(server, by_s):
    """The server's retention, as if so many seconds had passed."""
    data = server.node.data
    data.store.checkpoint()
    last = data.log.read(0, data.log.bounds(0)[1] - 1, 1)[0].append_us
    return Retention(data.path, data.log, data.store, 1000, lambda: last + by_s * 10**6)


def learn(server):
    server.reward(server.recommend(items=["a"]), 1.0)
    server.settle()


def test_doctor_is_content_with_a_log_that_the_server_has_cut(tmp_path, capsys):
    with running(tmp_path / "data", ONE) as server:
        learn(server)
        ahead(server, 1001).trim()
        log = server.node.data.log
        start, stop = log.bounds(0)
        assert start == stop > 0
        learn(server)
    assert main(["doctor", "--data", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    with running(tmp_path / "data", ONE) as server:
        assert server.cells()["surface"]["reward"] == 2.0


def test_nothing_is_done_while_no_frame_is_old(tmp_path):
    with running(tmp_path / "data", ONE) as server:
        learn(server)
        ahead(server, 999).trim()
        assert server.node.data.log.bounds(0)[0] == 0
        assert not (tmp_path / "data" / "snapshots").exists()


class Aging:
    """A data directory of one partition whose clock a test turns."""

    def __init__(self, folder, retention_s=DAYS * 86_400):
        self.now_us, self.folder, self.n_frames = NOW_US, folder, 0
        folder.mkdir(mode=0o700)
        (folder / "generations.json").write_text("[]")
        self.log = SqliteLog(folder / "log.sqlite", 1, clock_us=lambda: self.now_us)
        self.store = CheckpointedStore(MemoryStore(1), SqliteStore(folder / "state.sqlite", 1))
        self.updater = Updater(self.log, self.store, 0, clock_us=lambda: self.now_us)
        self.retention = Retention(folder, self.log, self.store, retention_s, lambda: self.now_us)

    def close(self):
        self.log.close()
        self.store.close()

    def day(self, *, checkpoint=True, lasts_us=DAY_US):
        """A frame, its fold, and the next day."""
        receipt = decision(self.n_frames, issued_us=self.now_us, expires_us=self.now_us + TTL_US)
        self.n_frames += 1
        self.log.append([(0, encode_frame([encode_entry(decided(receipt))], self.log.topic_id))])
        while self.updater.step():
            pass
        if checkpoint:
            self.store.checkpoint()
        self.now_us += lasts_us

    def trim(self):
        """Cut the log; what doctor says of the state then."""
        self.retention.trim()
        with closing(Directory(self.folder, clock_us=lambda: self.now_us)) as directory:
            return state(directory)

    @property
    def start(self):
        return self.log.bounds(0)[0]

    def snapshot(self, created_us):
        return take_snapshot(self.folder, created_us, default_path(self.folder, created_us))[0]

    @property
    def snapshots(self):
        return snapshots_of(self.folder, self.log.topic_id)


@pytest.fixture
def aging(tmp_path):
    made = Aging(tmp_path / "data")
    yield made
    made.close()


def test_a_snapshot_dated_in_the_future_holds_no_other_up(aging):
    for _ in range(3):
        aging.day()
    future = aging.snapshot(aging.now_us + 365 * DAY_US)
    for number in range(3, 20):
        aging.day()
        assert aging.trim().startswith(f"the log's first {number + 1} frames give what is stored")
    # Frames older than DAYS days: all but those of the last DAYS days.
    assert aging.start == 20 - DAYS
    assert aging.snapshots[-1] == future
    assert len(aging.snapshots) == 1 + SNAPSHOTS_KEPT


def test_a_recent_snapshot_of_an_old_checkpoint_keeps_no_old_frame(aging):
    """It says that it was taken a minute ago, and stands at frame 2, while the first seven are to go."""
    for _ in range(2):
        aging.day()
    old = aging.snapshot(NOW_US + 11 * DAY_US)
    for _ in range(9):
        aging.day()
    aging.now_us += 60 * 10**6
    assert (aging.now_us - read_header(old).created_us, read_header(old).partitions[0].next) == (60 * 10**6, 2)
    aging.trim()
    assert aging.start == 7
    assert aging.snapshots[0] != old


def test_snapshots_come_twice_in_a_retention_and_only_the_last_ones_stay(tmp_path):
    """A frame every 100 s of which each is kept for 1,000 s, and one snapshot that somebody asked for."""
    with closing(Aging(tmp_path / "data", retention_s=1000)) as aging:
        aging.day(lasts_us=0)
        asked = aging.snapshot(NOW_US)
        seen = []
        for _ in range(40):
            aging.day(lasts_us=100 * 10**6)
            aging.trim()
            seen.append(read_header(aging.snapshots[0]).created_us)
        taken = sorted(set(seen[11:]))
        assert {b - a for a, b in pairwise(taken)} == {500 * 10**6}
        unasked = [path for path in aging.snapshots if path.name.endswith(UNASKED)]
        assert [read_header(path).created_us for path in unasked] == taken[: -1 - SNAPSHOTS_KEPT : -1]
        assert [path for path in aging.snapshots if path not in unasked] == [asked]


def test_a_partition_that_no_snapshot_helps_is_left_alone(aging, caplog):
    """The log was put back from a copy that went another way: its owner halts, and nothing is cut."""
    for _ in range(8):
        aging.day()
    body = aging.log.read(0, 3, 1)[0].body
    edit(aging.folder / "log.sqlite", "UPDATE frame SET body = ? WHERE offset = 7", body)
    for _ in range(3):
        aging.retention.trim()
    assert aging.start == 0
    assert len(aging.snapshots) == 1
    assert "partition 0: no whole snapshot begins in the log, which is not cut" in caplog.text


def test_a_snapshot_that_was_lost_is_replaced_even_if_nothing_is_to_be_cut(aging):
    for _ in range(8):
        aging.day()
    aging.trim()
    aging.snapshots[0].unlink()
    aging.trim()
    assert len(aging.snapshots) == 1


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def test_a_snapshot_damaged_beyond_its_header_counts_for_nothing(aging, caplog):
    for _ in range(8):
        aging.day()
    damaged = aging.snapshot(aging.now_us)
    damage(damaged)
    read_header(damaged)
    aging.trim()
    assert aging.start == 8 - DAYS
    assert damaged in aging.snapshots
    assert len(aging.snapshots) == 2
    assert f"{damaged}: damaged or cut" in caplog.text
    aging.trim()
    assert len(aging.snapshots) == 2


def test_a_snapshot_is_read_as_a_whole_once(aging, monkeypatch):
    opened = []
    whole = Snapshot.__init__
    monkeypatch.setattr(Snapshot, "__init__", lambda self, path: opened.append(path) or whole(self, path))
    for _ in range(8):
        aging.day()
    for _ in range(3):
        aging.retention.trim()
        aging.now_us += 10**6
    (taken,) = aging.snapshots
    assert opened == [taken, taken]


def test_no_frame_goes_where_no_whole_snapshot_can_be_taken(aging, monkeypatch):
    """A disk that does not keep what is written to it."""

    def spoiled(folder, created_us, path):
        made = take_snapshot(folder, created_us, path)
        damage(path)
        return made

    monkeypatch.setattr("service.retention.take_snapshot", spoiled)
    for _ in range(8):
        aging.day()
    with pytest.raises(SnapshotError, match="damaged or cut"):
        aging.trim()
    assert aging.start == 0


STEPS = ["day", "day", "day", "fold only", "jump", "future", "past", "damage", "cut", "remove", "other", "trim", "trim"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_snapshots_there_are_doctor_can_recompute_the_state_after_a_trim(seed, tmp_path):
    chosen = random.Random(seed)
    other = take_snapshot_of(fill(tmp_path / "other"))
    aging = Aging(tmp_path / "data")
    for step in [chosen.choice(STEPS) for _ in range(60)]:
        kept = sorted((aging.folder / FOLDER).glob("*"))
        if step in ("day", "fold only"):
            aging.day(checkpoint=step == "day")
        elif step == "jump":
            aging.now_us += chosen.randrange(3 * DAYS) * DAY_US
        elif step in ("future", "past"):
            aging.snapshot(aging.now_us + chosen.randrange(1, 90) * DAY_US * (1 if step == "future" else -1))
        elif step == "other":
            (aging.folder / FOLDER).mkdir(exist_ok=True)
            shutil.copy(other, aging.folder / FOLDER / "other.snapshot")
        elif step == "trim":
            aging.retention.trim()
            assert aging.trim().startswith("the log's first ")
        elif kept and step == "damage":
            damage(chosen.choice(kept))
        elif kept and step == "cut":
            path = chosen.choice(kept)
            path.write_bytes(path.read_bytes()[: chosen.choice([10, 300])])
        elif kept:
            chosen.choice(kept).unlink()
    aging.day()
    aging.now_us += 2 * DAYS * DAY_US
    aging.trim()
    assert aging.start == aging.n_frames
    aging.close()
