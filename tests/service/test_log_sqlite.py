import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from service.log import LogFull, LogUnavailable, OutOfRange
from service.log_sqlite import SqliteLog
from service.sqlite_file import UnusableFile
from service.store_sqlite import SqliteStore
from tests.contracts import PARTITIONS, FeedbackLogContract


@pytest.fixture
def reopen(tmp_path):
    opened = []

    def open_again(**options):
        for log in opened:
            log.close()
        opened.append(SqliteLog(tmp_path / "log.db", PARTITIONS, **options))
        return opened[-1]

    yield open_again
    for log in opened:
        log.close()


class TestSqliteLog(FeedbackLogContract):
    pass


def test_one_append_has_one_time_taken_from_the_clock(reopen):
    times = iter([1_000, 2_000])
    log = reopen(clock_us=lambda: next(times))
    assert [at.append_us for at in log.append([(0, b"a"), (1, b"b"), (0, b"c")])] == [1_000] * 3
    assert log.append([(1, b"d")])[0].append_us == 2_000
    assert [frame.append_us for frame in log.read(1, 0, 9)] == [1_000, 2_000]


def test_an_append_of_more_frames_than_one_statement_takes_is_whole(reopen):
    log = reopen()
    assert [at.offset for at in log.append([(0, b"%d" % i) for i in range(1203)])] == list(range(1203))
    assert [frame.body for frame in log.read(0, 0, 2000)] == [b"%d" % i for i in range(1203)]


def fill(log):
    while True:
        log.append([(0, bytes(3000)), (1, bytes(3000))])


@pytest.mark.parametrize("n_small", [40, 600])
def test_a_full_log_keeps_none_of_an_append_and_takes_more_once_there_is_room(reopen, n_small):
    """The small frames alone would fit; 600 of them are a statement that succeeds before the one that fails."""
    log = reopen(clock_us=iter(range(10_000)).__next__, max_bytes=400_000)
    with pytest.raises(LogFull, match=r"log\.db: database or disk is full"):
        fill(log)
    kept = log.bounds(0)[1]
    assert kept > 20
    assert log.trim(0, 20) == 20
    small = [(0, b"small")] * n_small
    with pytest.raises(LogFull):
        log.append([*small, (2, bytes(200_000))])
    assert [log.bounds(p) for p in range(3)] == [(20, kept), (0, kept), (0, 0)]
    assert [at.offset for at in log.append(small)] == list(range(kept, kept + n_small))
    assert log.trim(1, 1 << 60) == kept
    assert [(at.partition, at.offset) for at in log.append([(1, bytes(3000)), (2, b"z")])] == [(1, kept), (2, 0)]


def test_trim_deletes_the_frames_before_a_time_and_offsets_go_on(reopen):
    log = reopen(clock_us=iter(range(200)).__next__)
    for i in range(150):
        log.append([(0, b"%d" % i)])
    assert log.trim(0, 100) == 100
    assert log.bounds(0) == (100, 150)
    assert log.read(0, 100, 1)[0].body == b"100"
    with pytest.raises(OutOfRange, match=r"partition 0 holds offsets \[100, 150\), asked for 99"):
        log.read(0, 99, 5)
    assert log.trim(0, 50) == 100
    assert log.bounds(1) == (0, 0)


def test_offsets_go_on_after_all_frames_were_trimmed_and_the_log_reopened(reopen):
    log = reopen(clock_us=lambda: 5)
    log.append([(0, b"a")] * 130)
    assert log.trim(0, 6) == 130
    again = reopen()
    assert again.bounds(0) == (130, 130)
    assert again.read(0, 130, 5) == []
    assert again.append([(0, b"b")])[0].offset == 130
    assert again.bounds(0) == (130, 131)


def test_trim_stops_at_the_first_young_frame_though_the_clock_stepped_back(reopen):
    log = reopen(clock_us=iter([1, 9, 2, 3]).__next__)
    for _ in range(4):
        log.append([(0, b"a")])
    assert log.trim(0, 5) == 1
    assert [frame.append_us for frame in log.read(0, 1, 9)] == [9, 2, 3]


def test_another_number_of_partitions_is_refused(tmp_path, reopen):
    reopen().append([(0, b"a")])
    with pytest.raises(UnusableFile, match=r"log\.db: feedback log made with 3 partitions, 8 asked for; set partitio"):
        SqliteLog(tmp_path / "log.db", 8)
    assert reopen().bounds(0) == (0, 1)


@pytest.mark.parametrize("content", [b"hello", b"x" * 10_000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path, content):
    path = tmp_path / "log.db"
    path.write_bytes(content)
    with pytest.raises(UnusableFile, match=r"log\.db: .*; restore the feedback log from a backup, or move") as caught:
        SqliteLog(path, 1)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["log.db"]


def test_a_foreign_database_is_named_and_left_alone(tmp_path):
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    content = path.read_bytes()
    with pytest.raises(UnusableFile, match=r"log\.db: a SQLite file, but not a feedback log of banditd"):
        SqliteLog(path, 1)
    assert path.read_bytes() == content


def test_a_parameter_store_is_not_a_log(tmp_path):
    SqliteStore(tmp_path / "state.db", 1).close()
    with pytest.raises(UnusableFile, match="not a feedback log of banditd"):
        SqliteLog(tmp_path / "state.db", 1)


def test_a_layout_of_another_version_is_refused(tmp_path):
    path = tmp_path / "log.db"
    SqliteLog(path, 1).close()
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(UnusableFile, match="layout 99, this banditd knows 1; run the banditd that wrote it"):
        SqliteLog(path, 1)


def test_a_damaged_page_is_reported_and_not_read_over(tmp_path, reopen):
    log = reopen()
    for _ in range(40):
        log.append([(0, bytes(3000))])
    log.close()
    path = tmp_path / "log.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises((UnusableFile, LogUnavailable), match=r"log\.db: database disk image is malformed"):
        reopen().read(0, 0, 100)


def test_a_missing_file_beside_its_write_ahead_log_is_not_begun_anew(tmp_path):
    (tmp_path / "log.db-wal").write_bytes(b"frames")
    with pytest.raises(UnusableFile, match=r"missing or empty, while log\.db-wal holds data"):
        SqliteLog(tmp_path / "log.db", 1)
    assert os.listdir(tmp_path) == ["log.db-wal"]


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(UnusableFile, match="check that the directory exists and can be written"):
        SqliteLog(tmp_path / "none" / "log.db", 1)


def test_a_directory_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(UnusableFile, match="unable to open database file; check that the directory exists"):
        SqliteLog(tmp_path, 1)


def test_zero_partitions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="partitions must be >= 1, got 0"):
        SqliteLog(tmp_path / "log.db", 0)


def test_a_closed_log_is_unavailable(reopen):
    log = reopen()
    log.close()
    for call in (lambda: log.append([(0, b"a")]), lambda: log.read(0, 0, 1), lambda: log.bounds(0)):
        with pytest.raises(LogUnavailable, match="closed"):
            call()


def test_a_second_writer_of_the_same_file_is_noticed_and_no_offset_given_twice(tmp_path, reopen):
    first = reopen()
    with closing(SqliteLog(tmp_path / "log.db", PARTITIONS)) as second:
        second.append([(0, b"second")])
        with pytest.raises(LogUnavailable, match="another process appended"):
            first.append([(1, b"x"), (0, b"first")])
        assert first.bounds(1) == (0, 0)
        assert first.append([(0, b"first")])[0].offset == 1
        assert [frame.body for frame in second.read(0, 0, 9)] == [b"second", b"first"]


WRITE_UNTIL_KILLED = """
import sys
from pathlib import Path
from service.log_sqlite import SqliteLog
log = SqliteLog(Path(sys.argv[1]), 2)
while True:
    appended = log.append([(0, bytes(5000)), (1, b"x")])
    print(appended[0].offset, flush=True)
"""


def test_what_was_acknowledged_outlives_kill_9(tmp_path):
    path = tmp_path / "log.db"
    with subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, path], stdout=subprocess.PIPE) as writer:
        for _ in range(300):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    with closing(SqliteLog(path, 2)) as log:
        assert log.bounds(0) == log.bounds(1)
        start, stop = log.bounds(0)
        assert start == 0
        assert acknowledged < stop <= acknowledged + 2
        assert len(log.read(0, 0, stop)) == stop
