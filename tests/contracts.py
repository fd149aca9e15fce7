"""What every backend of the feedback log and of the parameter store must do, run unchanged against each of them."""

import random
import threading
from collections.abc import Callable

import pytest

from service.log import Appended, FeedbackLog, Frame, OutOfRange
from service.store import MAX_KEYS, Claim, Fenced, Gap, ParameterStore

PARTITIONS = 3


class FeedbackLogContract:
    """A subclass gives the fixture `reopen`: a function that closes the log it returned before, if any, and opens it.

    The log has PARTITIONS partitions and is empty at first.
    """

    @pytest.fixture
    def log(self, reopen: Callable[[], FeedbackLog]) -> FeedbackLog:
        return reopen()

    def test_a_new_log_is_empty_and_has_an_id(self, log):
        assert log.partitions == PARTITIONS
        assert len(log.topic_id) == 16
        assert [log.bounds(p) for p in range(PARTITIONS)] == [(0, 0)] * PARTITIONS
        assert log.read(0, 0, 10) == []

    def test_offsets_are_dense_from_zero_in_each_partition(self, log):
        appended = log.append([(0, b"a"), (2, b"b"), (0, b"c")]) + log.append([(2, b"d"), (1, b"e")])
        assert [(at.partition, at.offset) for at in appended] == [(0, 0), (2, 0), (0, 1), (2, 1), (1, 0)]
        assert [log.bounds(p) for p in range(PARTITIONS)] == [(0, 2), (0, 1), (0, 2)]

    def test_frames_are_read_in_the_order_of_their_append_byte_for_byte(self, log):
        bodies = [b"", b"\x00" * 70_000, bytes(range(256)), b"last"]
        appended = log.append([(1, body) for body in bodies])
        assert log.read(1, 0, 10) == [
            Frame(at.offset, at.append_us, body) for at, body in zip(appended, bodies, strict=True)
        ]

    def test_all_frames_of_one_append_are_there_when_it_returns(self, log):
        log.append([(p, b"%d-%d" % (p, i)) for i in range(40) for p in range(PARTITIONS)])
        for p in range(PARTITIONS):
            assert [frame.body for frame in log.read(p, 0, 100)] == [b"%d-%d" % (p, i) for i in range(40)]

    def test_a_read_begins_at_start_and_gives_at_most_max_frames(self, log):
        log.append([(0, b"%d" % i) for i in range(10)])
        assert [frame.offset for frame in log.read(0, 3, 4)] == [3, 4, 5, 6]
        assert [frame.offset for frame in log.read(0, 8, 4)] == [8, 9]
        assert log.read(0, 10, 4) == []

    def test_a_read_outside_the_bounds_is_refused(self, log):
        log.append([(0, b"a")])
        with pytest.raises(OutOfRange, match=r"\[0, 1\), asked for 2"):
            log.read(0, 2, 1)

    @pytest.mark.parametrize("partition", [-1, PARTITIONS])
    def test_an_unknown_partition_is_refused_and_nothing_appended(self, log, partition):
        message = rf"partition must be in \[0, {PARTITIONS}\), got {partition}"
        with pytest.raises(ValueError, match=message):
            log.append([(0, b"a"), (partition, b"b")])
        with pytest.raises(ValueError, match=message):
            log.read(partition, 0, 1)
        with pytest.raises(ValueError, match=message):
            log.bounds(partition)
        assert log.bounds(0) == (0, 0)

    def test_appending_nothing_returns_nothing(self, log):
        assert log.append([]) == []

    def test_frames_and_id_outlive_a_reopening(self, log, reopen):
        topic_id = log.topic_id
        appended = log.append([(0, b"a"), (1, b"b")])
        again = reopen()
        assert again.topic_id == topic_id
        assert again.read(1, 0, 9) == [Frame(0, appended[1].append_us, b"b")]
        assert again.append([(0, b"c")])[0].offset == 1

    @pytest.mark.parametrize("seed", range(4))
    def test_random_appends_and_reopenings_match_lists(self, log, reopen, seed):
        rng = random.Random(seed)
        model: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
        for _ in range(40):
            if rng.random() < 0.1:
                log = reopen()
            frames = [(rng.randrange(PARTITIONS), rng.randbytes(rng.randrange(40))) for _ in range(rng.randrange(5))]
            expected = []
            for p, body in frames:
                expected.append((p, len(model[p])))
                model[p].append(body)
            assert [(at.partition, at.offset) for at in log.append(frames)] == expected
            p = rng.randrange(PARTITIONS)
            start, count = rng.randrange(len(model[p]) + 1), rng.randrange(1, 9)
            assert [frame.body for frame in log.read(p, start, count)] == model[p][start : start + count]

    def test_readers_of_other_threads_never_see_a_hole(self, log):
        seen: list[bytes] = []

        def follow() -> None:
            while len(seen) < 200:
                seen.extend(frame.body for frame in log.read(0, len(seen), 7))

        reader = threading.Thread(target=follow)
        reader.start()
        for i in range(200):
            assert log.append([(0, b"%d" % i)]) == [Appended(0, i, log.read(0, i, 1)[0].append_us)]
        reader.join()
        assert seen == [b"%d" % i for i in range(200)]


class ParameterStoreContract:
    """A subclass gives the fixture `store`: an empty store of PARTITIONS partitions."""

    def test_a_partition_never_written_stands_at_zero_without_meta(self, store):
        claim = store.claim(1)
        assert (len(claim.token), claim.next, claim.meta) == (16, 0, None)
        assert store.scan(1) == []

    def test_a_claim_says_where_the_partition_stands_and_its_meta(self, store):
        store.apply(0, store.claim(0).token, {b"m": b"meta", b"k": b"v"}, start=0, stop=7)
        claim = store.claim(0)
        assert (claim.next, claim.meta) == (7, b"meta")
        assert store.claim(1).next == 0

    def test_values_are_absolute_and_come_back_byte_for_byte(self, store):
        token = store.claim(0).token
        store.apply(0, token, {b"\x00": b"", b"\xff\x00": bytes(range(256)), b"": b"empty key"}, start=0, stop=1)
        store.apply(0, token, {b"\x00": b"\x00\x00"}, start=1, stop=2)
        assert store.read(0, [b"\xff\x00", b"absent", b"\x00", b""]) == [
            bytes(range(256)),
            None,
            b"\x00\x00",
            b"empty key",
        ]

    def test_partitions_do_not_see_each_other(self, store):
        for p in range(PARTITIONS):
            store.apply(p, store.claim(p).token, {b"k": b"%d" % p}, start=0, stop=p + 1)
        assert [store.read(p, [b"k"]) for p in range(PARTITIONS)] == [[b"0"], [b"1"], [b"2"]]
        assert [store.claim(p).next for p in range(PARTITIONS)] == [1, 2, 3]

    def test_a_new_claim_fences_off_every_older_token(self, store):
        old = [store.claim(0).token, store.claim(0).token]
        current = store.claim(0)
        store.apply(0, current.token, {b"k": b"v"}, start=0, stop=1)
        for token in [*old, store.claim(1).token, b"", b"\x00" * 16]:
            with pytest.raises(Fenced):
                store.apply(0, token, {b"k": b"stale", b"j": b"stale"}, start=1, stop=2)
            with pytest.raises(Fenced):
                store.delete(0, token, [b"k"], at=1)
        assert store.scan(0) == [(b"k", b"v")]
        store.apply(0, current.token, {}, start=1, stop=2)

    def test_nobody_holds_a_partition_that_was_never_claimed(self, store):
        with pytest.raises(Fenced):
            store.apply(0, b"", {b"k": b"v"}, start=0, stop=1)
        assert store.scan(0) == []

    @pytest.mark.parametrize("start", [0, 4, 6])
    def test_a_write_from_another_offset_changes_nothing(self, store, start):
        token = store.claim(0).token
        store.apply(0, token, {b"k": b"v"}, start=0, stop=5)
        with pytest.raises(Gap, match=f"partition 0 stands at offset 5, writer expected {start}"):
            store.apply(0, token, {b"k": b"w", b"j": b"w"}, start=start, stop=start + 1)
        with pytest.raises(Gap):
            store.delete(0, token, [b"k"], at=start)
        assert store.scan(0) == [(b"k", b"v")]
        assert store.claim(0).next == 5

    def test_the_same_apply_sent_twice_counts_once(self, store):
        token = store.claim(0).token
        store.apply(0, token, {b"k": b"v"}, start=0, stop=1)
        with pytest.raises(Gap):
            store.apply(0, token, {b"k": b"v"}, start=0, stop=1)
        assert store.claim(0).next == 1

    def test_a_stale_token_at_a_wrong_offset_is_fenced(self, store):
        token = store.claim(0).token
        store.claim(0)
        with pytest.raises(Fenced):
            store.apply(0, token, {}, start=9, stop=9)

    def test_delete_removes_keys_and_leaves_the_offset(self, store):
        token = store.claim(0).token
        store.apply(0, token, {b"a": b"1", b"b": b"2", b"m": b"meta"}, start=0, stop=3)
        store.delete(0, token, [b"a", b"absent", b"m"], at=3)
        assert store.scan(0) == [(b"b", b"2")]
        claim = store.claim(0)
        assert (claim.next, claim.meta) == (3, None)

    def test_the_largest_write_is_kept_whole_and_a_larger_one_refused(self, store):
        token = store.claim(0).token
        values = {b"%d" % i: b"v%d" % i for i in range(MAX_KEYS)}
        store.apply(0, token, values, start=0, stop=1)
        assert dict(store.scan(0)) == values
        assert len(store.scan(0)) == MAX_KEYS
        with pytest.raises(ValueError, match="at most 3500 keys, got 3501"):
            store.apply(0, token, {**values, b"more": b""}, start=1, stop=2)
        with pytest.raises(ValueError, match="at most 3500 keys, got 3501"):
            store.delete(0, token, [*values, b"more"], at=1)
        store.delete(0, token, list(values), at=1)
        assert store.scan(0) == []

    @pytest.mark.parametrize(("start", "stop"), [(-1, 0), (2, 1)])
    def test_a_move_backwards_is_refused(self, store, start, stop):
        with pytest.raises(ValueError, match="0 <= start <= stop"):
            store.apply(0, store.claim(0).token, {}, start=start, stop=stop)

    @pytest.mark.parametrize("partition", [-1, PARTITIONS])
    def test_an_unknown_partition_is_refused(self, store, partition):
        calls: list[Callable[[], object]] = [
            lambda: store.claim(partition),
            lambda: store.read(partition, [b"k"]),
            lambda: store.scan(partition),
            lambda: store.apply(partition, b"", {}, start=0, stop=0),
            lambda: store.delete(partition, b"", [], at=0),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=rf"partition must be in \[0, {PARTITIONS}\), got {partition}"):
                call()

    def test_reads_of_other_threads_see_whole_applies(self, store):
        """Both keys are always written together, so no read may find them different."""
        token = store.claim(0).token
        store.apply(0, token, {b"a": b"0", b"b": b"0"}, start=0, stop=1)
        done = threading.Event()
        torn: list[object] = []
        reads = 0

        def look() -> None:
            nonlocal reads
            while not done.is_set() or not reads:
                a, b = store.read(0, [b"a", b"b"])
                scanned = dict(store.scan(0))
                if a != b or scanned[b"a"] != scanned[b"b"]:
                    torn.append((a, b, scanned))
                reads += 1

        reader = threading.Thread(target=look)
        reader.start()
        for i in range(1, 150):
            store.apply(0, token, {b"a": b"%d" % i, b"b": b"%d" % i}, start=i, stop=i + 1)
        done.set()
        reader.join()
        assert torn == []
        assert reads > 0

    @pytest.mark.parametrize("seed", range(5))
    def test_random_operations_match_a_dictionary(self, store, seed):
        rng = random.Random(seed)
        keys = [b"%d" % i for i in range(12)]
        tokens = [store.claim(0).token]
        model: dict[bytes, bytes] = {}
        at = 0
        for _ in range(120):
            kind, token = rng.random(), rng.choice([tokens[-1]] * 4 + tokens)
            start = at if rng.random() < 0.8 else at + rng.choice([-1, 1])
            expected = Fenced if token != tokens[-1] else Gap if start != at else None
            if kind < 0.1:
                claim = store.claim(0)
                tokens.append(claim.token)
                assert claim == Claim(claim.token, at, model.get(b"m"))
            elif kind < 0.6:
                values = {key: rng.randbytes(5) for key in rng.sample([*keys, b"m"], rng.randrange(6))}
                stop = start + rng.randrange(3)
                if start < 0:
                    continue
                if expected is None:
                    store.apply(0, token, values, start=start, stop=stop)
                    model.update(values)
                    at = stop
                else:
                    with pytest.raises(expected):
                        store.apply(0, token, values, start=start, stop=stop)
            elif kind < 0.8:
                gone = rng.sample(keys, rng.randrange(4))
                if start < 0:
                    continue
                if expected is None:
                    store.delete(0, token, gone, at=start)
                    for key in gone:
                        model.pop(key, None)
                else:
                    with pytest.raises(expected):
                        store.delete(0, token, gone, at=start)
            asked = rng.choices(keys, k=4)
            assert store.read(0, asked) == [model.get(key) for key in asked]
            assert sorted(store.scan(0)) == sorted(model.items())
        assert len(tokens) > 1
        assert at > 0


class DurableStoreContract(ParameterStoreContract):
    """A subclass gives `reopen`: a function that closes the store it returned before, if any, and opens it again."""

    @pytest.fixture
    def store(self, reopen: Callable[[], ParameterStore]) -> ParameterStore:
        return reopen()

    def test_values_and_offset_outlive_a_reopening(self, store, reopen):
        token = store.claim(0).token
        store.apply(0, token, {b"m": b"meta", b"k": b"v", b"gone": b"x"}, start=0, stop=4)
        store.delete(0, token, [b"gone"], at=4)
        again = reopen()
        assert dict(again.scan(0)) == {b"m": b"meta", b"k": b"v"}
        claim = again.claim(0)
        assert (claim.next, claim.meta) == (4, b"meta")
        again.apply(0, claim.token, {b"k": b"w"}, start=4, stop=5)
        assert reopen().read(0, [b"k"]) == [b"w"]
