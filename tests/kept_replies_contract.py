"""What every backend of kept replies must do, run unchanged against each of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.kept_replies import Kept, KeptReplies

NOW_US = 1_800_000_000_000_000
TTL_US = 3_600_000_000


def kept(event_id: str, reply: bytes, surface: str = "home", expires_us: int = NOW_US + TTL_US) -> Kept:
    return Kept((surface, event_id), expires_us, reply)


class KeptRepliesContract:
    """A subclass gives the fixture `reopen`: a function that closes what it returned before, if any, and opens it.

    Nothing is kept at first. The clock of a backend that has its own stands near NOW_US.
    """

    @pytest.fixture
    def replies(self, reopen: Callable[[], KeptReplies]) -> KeptReplies:
        return reopen()

    def test_nothing_is_found_at_first(self, replies):
        assert replies.find([("home", "e1"), ("home", "e2")], NOW_US) == [None, None]
        assert replies.find([], NOW_US) == []
        assert replies.keep([], NOW_US) == []

    def test_a_reply_is_found_byte_for_byte_and_in_the_order_asked(self, replies):
        body = bytes(range(256)) * 300
        assert replies.keep([kept("e1", b"one"), kept("e2", body), kept("e3", b"")], NOW_US) == [b"one", body, b""]
        keys = [("home", "e3"), ("home", "e2"), ("home", "nope"), ("home", "e1"), ("home", "e2")]
        assert replies.find(keys, NOW_US) == [b"", body, None, b"one", body]

    def test_an_earlier_reply_wins_and_others_of_the_call_are_kept(self, replies):
        replies.keep([kept("e1", b"first")], NOW_US)
        assert replies.keep([kept("e2", b"new"), kept("e1", b"second")], NOW_US) == [b"new", b"first"]
        assert replies.find([("home", "e1"), ("home", "e2")], NOW_US) == [b"first", b"new"]

    def test_the_first_of_one_call_wins_too(self, replies):
        twice = [kept("e1", b"first"), kept("e1", b"second"), kept("e1", b"first")]
        assert replies.keep(twice, NOW_US) == [b"first"] * 3
        assert replies.find([("home", "e1")], NOW_US) == [b"first"]

    def test_an_event_id_is_of_its_surface(self, replies):
        replies.keep([kept("e1", b"home"), kept("e1", b"shop", surface="shop")], NOW_US)
        assert replies.find([("shop", "e1"), ("home", "e1"), ("other", "e1")], NOW_US) == [b"shop", b"home", None]

    def test_any_printable_id_is_taken_as_it_is(self, replies):
        ids = ["a", "A", "a ", "a/b", "b", "ä", "a\u0308", "%", "_", "'", "\U00020000" * 128]
        replies.keep([kept(one, str(i).encode()) for i, one in enumerate(ids)], NOW_US)
        assert replies.find([("home", one) for one in ids], NOW_US) == [str(i).encode() for i in range(len(ids))]

    def test_an_expired_reply_is_not_found_and_gives_its_place_away(self, replies):
        replies.keep([kept("e1", b"old")], NOW_US)
        assert replies.find([("home", "e1")], NOW_US + TTL_US - 1) == [b"old"]
        later = NOW_US + TTL_US
        assert replies.find([("home", "e1")], later) == [None]
        assert replies.keep([kept("e1", b"new", expires_us=later + TTL_US)], later) == [b"new"]
        assert replies.find([("home", "e1")], later) == [b"new"]

    def test_only_what_has_expired_is_removed(self, replies):
        old = [kept(f"old{i}", b"x") for i in range(1200)]
        replies.keep([*old, kept("new", b"y", expires_us=NOW_US + TTL_US + 1)], NOW_US)
        assert replies.expire(NOW_US + TTL_US - 1) == 0
        while replies.expire(NOW_US + TTL_US):
            pass
        assert replies.find([("home", "new")], NOW_US) == [b"y"]
        assert replies.find([one.key for one in old], NOW_US) == [None] * 1200

    def test_more_than_a_statement_holds(self, replies):
        many = [kept(f"e{i}", b"%d" % i) for i in range(1300)]
        assert replies.keep(many, NOW_US) == [one.reply for one in many]
        assert replies.find([one.key for one in reversed(many)], NOW_US) == [one.reply for one in reversed(many)]

    def test_replies_outlive_a_reopening(self, replies, reopen):
        replies.keep([kept("e1", b"one")], NOW_US)
        again = reopen()
        assert again.find([("home", "e1")], NOW_US) == [b"one"]
        assert again.keep([kept("e1", b"two")], NOW_US) == [b"one"]

    def test_of_many_at_once_one_wins(self, replies):
        with ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(replies.keep, [kept("e1", b"%d" % i), kept(f"own{i}", b"o")], NOW_US) for i in range(64)
            ]
            winners = {call.result()[0] for call in calls}
        assert len(winners) == 1
        assert replies.find([("home", "e1")], NOW_US) == list(winners)
