import asyncio
import threading
from collections.abc import Sequence

import pytest

from service.log import Appended, LogFull, LogUnavailable
from service.log_sqlite import SqliteLog
from service.log_writer import LogWriter, QueueFull, gather

TOPIC_ID = bytes(range(16))


def join(entries, topic_id):
    assert topic_id == TOPIC_ID
    return b"|".join(entries)


class GatedLog:
    """A log in memory whose appends wait at a gate, and fail while `error` is set."""

    topic_id = TOPIC_ID
    partitions = 4

    def __init__(self):
        self.appends: list[list[tuple[int, bytes]]] = []
        self.error: Exception | None = None
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.lengths = [0] * self.partitions

    def append(self, frames: Sequence[tuple[int, bytes]]) -> list[Appended]:
        self.entered.release()
        self.gate.acquire()
        if self.error is not None:
            raise self.error
        self.appends.append(list(frames))
        appended = []
        for partition, _ in frames:
            appended.append(Appended(partition, self.lengths[partition], 1))
            self.lengths[partition] += 1
        return appended

    def open_gate(self):
        self.gate.release(5_000)


@pytest.fixture
def log():
    return GatedLog()


@pytest.fixture
def make_writer(log):
    writers = []

    def make(**options):
        writers.append(LogWriter(log, join, **{"max_queued_bytes": 1 << 20, "gather_s": 0.0, **options}))
        return writers[-1]

    yield make
    log.open_gate()
    for writer in writers:
        writer.close()


def test_an_idle_writer_appends_at_once_and_what_waits_goes_together(log, make_writer):
    writer = make_writer()
    first = writer.submit_from_thread(0, b"a", 1)
    log.entered.acquire()
    second = writer.submit_from_thread(1, b"b", 1)
    assert writer.offer(0, b"c", 1)
    third = writer.submit_from_thread(1, b"d", 1)
    log.open_gate()
    assert third.result() == second.result() == Appended(1, 0, 1)
    assert first.result() == Appended(0, 0, 1)
    assert log.appends == [[(0, b"a")], [(1, b"b|d"), (0, b"c")]]
    assert (writer.commits, writer.frames, writer.entries) == (2, 3, 4)


def test_the_order_within_a_partition_is_kept_over_appends_and_frames(log, make_writer):
    writer = make_writer()
    log.open_gate()
    for i in range(3000):
        assert writer.offer(i % 4, b"%d" % i, 1)
    writer.close()
    for partition in range(4):
        entries = [
            entry for frames in log.appends for p, body in frames if p == partition for entry in body.split(b"|")
        ]
        assert entries == [b"%d" % i for i in range(partition, 3000, 4)]
    assert writer.entries == 3000


def test_after_an_append_more_is_gathered_until_gather_s_has_passed_or_close(log, make_writer):
    writer = make_writer(gather_s=3600.0)
    log.open_gate()
    writer.submit_from_thread(0, b"a", 1).result()
    log.entered.acquire()
    waiting = [writer.submit_from_thread(0, b"%d" % i, 1) for i in range(5)]
    assert not log.entered.acquire(timeout=0.05)
    writer.close()
    assert {waiter.result() for waiter in waiting} == {Appended(0, 1, 1)}
    assert log.appends == [[(0, b"a")], [(0, b"0|1|2|3|4")]]


def test_gathering_ends_when_gather_s_has_passed(log, make_writer):
    writer = make_writer(gather_s=0.01)
    log.open_gate()
    offsets = [writer.submit_from_thread(0, b"a", 1).result().offset for _ in range(3)]
    assert offsets == [0, 1, 2]


@pytest.mark.parametrize(
    ("sizes", "n_keys", "expected"),
    [
        ([1] * 600, 1, [256, 256, 88]),
        ([1] * 7, 1000, [3, 3, 1]),
        ([1] * 3, 3000, [1, 1, 1]),
        ([256 * 1024] * 3, 1, [2, 1]),
        ([256 * 1024 + 1] * 3, 1, [1, 1, 1]),
    ],
)
def test_a_frame_closes_at_its_bounds(sizes, n_keys, expected):
    frames = gather([(2, bytes(size), n_keys, None) for size in sizes])
    assert [len(frame.entries) for frame in frames] == expected
    assert {frame.partition for frame in frames} == {2}


def test_entries_of_partitions_do_not_share_frames():
    frames = gather([(p, b"%d" % i, 1, None) for i, p in enumerate([0, 1, 0, 2, 1])])
    assert [(frame.partition, frame.entries) for frame in frames] == [(0, [b"0", b"2"]), (1, [b"1", b"4"]), (2, [b"3"])]


def test_the_queue_is_bounded_by_bytes_with_those_being_appended(log, make_writer):
    writer = make_writer(max_queued_bytes=10)
    assert writer.offer(0, bytes(4), 1)
    log.entered.acquire()
    assert writer.offer(0, bytes(6), 1)
    assert writer.queued_bytes == 10
    assert not writer.offer(0, b"x", 1)
    with pytest.raises(QueueFull, match="10 bytes wait for the log, of at most 10"):
        writer.submit_from_thread(0, b"x", 1)
    assert writer.refused == 2
    log.open_gate()
    writer.close()
    assert writer.queued_bytes == 0
    assert [body for frames in log.appends for _, body in frames] == [bytes(4), bytes(6)]


def test_an_error_of_the_log_reaches_all_who_wait_and_the_writer_goes_on(log, make_writer):
    writer = make_writer()
    log.error = LogFull("no room")
    first = writer.submit_from_thread(0, b"a", 1)
    log.entered.acquire()
    both = [writer.submit_from_thread(0, b"b", 1), writer.submit_from_thread(1, b"c", 1)]
    assert writer.offer(0, b"d", 1)
    log.gate.release()
    with pytest.raises(LogFull, match="no room"):
        first.result()
    log.entered.acquire()
    log.gate.release()
    for waiter in both:
        with pytest.raises(LogFull, match="no room"):
            waiter.result()
    log.error = None
    log.open_gate()
    assert writer.submit_from_thread(0, b"e", 1).result() == Appended(0, 0, 1)
    assert (writer.failed_commits, writer.lost, writer.entries) == (2, 1, 1)
    writer.close()
    assert writer.queued_bytes == 0


def test_an_error_in_framing_reaches_those_who_wait(log):
    def broken(entries, topic_id):
        raise OverflowError("too long")

    log.open_gate()
    writer = LogWriter(log, broken, max_queued_bytes=100, gather_s=0.0)
    with pytest.raises(OverflowError, match="too long"):
        writer.submit_from_thread(0, b"a", 1).result()
    writer.close()
    assert writer.failed_commits == 1


def test_close_appends_what_is_queued_and_takes_no_more(log, make_writer):
    writer = make_writer()
    assert writer.offer(0, b"a", 1)
    log.entered.acquire()
    waiting = [writer.submit_from_thread(1, b"%d" % i, 1) for i in range(50)]
    log.open_gate()
    writer.close()
    assert {waiter.result() for waiter in waiting} == {Appended(1, 0, 1)}
    assert not writer.offer(0, b"b", 1)
    with pytest.raises(LogUnavailable, match="closed"):
        writer.submit_from_thread(0, b"b", 1)
    writer.close()


def test_callbacks_get_every_commit_and_may_fail(log, make_writer):
    commits, seconds = [], []

    def notify(appended):
        commits.append(appended)
        if len(commits) == 1:
            raise KeyError("broken callback")

    writer = make_writer(on_commit=notify, observe_commit_s=seconds.append)
    log.open_gate()
    writer.submit_from_thread(2, b"a", 1).result()
    writer.submit_from_thread(2, b"b", 1).result()
    writer.close()
    assert commits == [[Appended(2, 0, 1)], [Appended(2, 1, 1)]]
    assert len(seconds) == 1
    assert seconds[0] > 0


@pytest.mark.parametrize(
    ("partition", "entry", "n_keys", "message"),
    [
        (4, b"a", 1, r"partition must be in \[0, 4\), got 4"),
        (-1, b"a", 1, r"partition must be in \[0, 4\), got -1"),
        (0, bytes(512 * 1024 + 1), 1, "got 524289 and 1"),
        (0, b"a", 3001, "got 1 and 3001"),
    ],
)
def test_an_entry_that_no_frame_can_hold_is_refused(make_writer, partition, entry, n_keys, message):
    writer = make_writer()
    with pytest.raises(ValueError, match=message):
        writer.offer(partition, entry, n_keys)
    assert writer.queued_bytes == 0


def test_submit_without_a_loop_is_refused(make_writer):
    with pytest.raises(RuntimeError, match="submit needs the loop"):
        make_writer().submit(0, b"a", 1)


def test_one_commit_wakes_the_loop_once(log, make_writer):
    async def run():
        loop = asyncio.get_running_loop()
        writer = make_writer(loop=loop)
        calls = []
        threadsafe = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: (calls.append(args), threadsafe(*args))[1]
        first = writer.submit(0, b"a", 1)
        await asyncio.to_thread(log.entered.acquire)
        others = [writer.submit(i % 4, b"%d" % i, 1) for i in range(100)]
        others[0].cancel()
        calls.clear()
        log.open_gate()
        assert await first == Appended(0, 0, 1)
        assert {at.partition for at in await asyncio.gather(*others[1:])} == {0, 1, 2, 3}
        loop.call_soon_threadsafe = threadsafe
        assert others[0].cancelled()
        return [len(args[1]) for args in calls]

    assert asyncio.run(run()) == [1, 100]


def test_futures_of_a_loop_raise_what_the_log_raised(log, make_writer):
    async def run():
        writer = make_writer(loop=asyncio.get_running_loop())
        log.error = LogUnavailable("gone")
        log.open_gate()
        with pytest.raises(LogUnavailable, match="gone"):
            await writer.submit(0, b"a", 1)
        log.error = None
        assert await writer.submit(0, b"a", 1) == Appended(0, 0, 1)

    asyncio.run(run())


def test_a_cancelled_future_of_a_thread_does_not_stop_the_writer(log, make_writer):
    writer = make_writer()
    writer.offer(0, b"a", 1)
    log.entered.acquire()
    gone = writer.submit_from_thread(0, b"b", 1)
    assert gone.cancel()
    stays = writer.submit_from_thread(0, b"c", 1)
    log.open_gate()
    assert stays.result() == Appended(0, 1, 1)


def test_a_loop_that_has_closed_does_not_stop_the_writer(log, make_writer):
    loop = asyncio.new_event_loop()
    writer = make_writer(loop=loop)
    writer.submit(0, b"a", 1)
    log.entered.acquire()
    loop.close()
    log.open_gate()
    assert writer.submit_from_thread(0, b"b", 1).result() == Appended(0, 1, 1)


def test_entries_of_many_threads_all_arrive_in_a_file(tmp_path):
    sqlite = SqliteLog(tmp_path / "log.db", 4)
    writer = LogWriter(sqlite, lambda entries, _: b"|".join(entries), max_queued_bytes=1 << 20, gather_s=0.0005)

    def give(thread):
        for i in range(100):
            writer.submit_from_thread(thread, b"%d-%d" % (thread, i), 1).result()

    threads = [threading.Thread(target=give, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    for p in range(4):
        entries = [entry for frame in sqlite.read(p, 0, 1000) for entry in frame.body.split(b"|")]
        assert entries == [b"%d-%d" % (p, i) for i in range(100)]
    sqlite.close()
