"""Kept replies in SQLite: bounded, and nothing foreign is ever written to."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.kept_replies import RepliesFull, RepliesUnavailable
from service.kept_sqlite import EXPIRE_ROWS, SqliteReplies
from service.sqlite_file import UnusableFile, open_file
from tests.kept_replies_contract import NOW_US, TTL_US, KeptRepliesContract, kept


@pytest.fixture
def reopen(tmp_path):
    opened = []

    def open_again(**given):
        for replies in opened:
            replies.close()
        opened.append(SqliteReplies(tmp_path / "replies.sqlite", **given))
        return opened[-1]

    yield open_again
    for replies in opened:
        replies.close()


class TestSqliteReplies(KeptRepliesContract):
    pass


steps = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=2)), max_size=4)),
        st.tuples(st.just("wait"), st.integers(1, 6)),
        st.tuples(st.just("expire"), st.just(0)),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(steps)
def test_it_does_as_a_dictionary_with_times_would(taken):
    """Replies live for 5 us here."""
    with TemporaryDirectory() as folder, closing(SqliteReplies(Path(folder) / "replies.sqlite")) as replies:
        model, now_us = {}, NOW_US
        for what, given_ in taken:
            if what == "wait":
                now_us += given_
            elif what == "expire":
                replies.expire(now_us)
            else:
                expected = []
                for event_id, reply in given_:
                    if event_id not in model or model[event_id][0] <= now_us:
                        model[event_id] = (now_us + 5, reply)
                    expected.append(model[event_id][1])
                assert replies.keep([kept(e, r, expires_us=now_us + 5) for e, r in given_], now_us) == expected
            held = [model[e][1] if e in model and model[e][0] > now_us else None for e in "abc"]
            assert replies.find([("home", e) for e in "abc"], now_us) == held


def test_expired_replies_are_removed_a_few_at_a_time(reopen):
    replies = reopen()
    replies.keep([kept(f"e{i}", b"x") for i in range(2 * EXPIRE_ROWS + 1)], NOW_US)
    assert [replies.expire(NOW_US + TTL_US) for _ in range(4)] == [EXPIRE_ROWS, EXPIRE_ROWS, 1, 0]


def fill(replies):
    """Keep replies of 4 kB until one is refused; their keys."""
    keys = []
    with suppress(RepliesFull):
        for i in range(80):
            replies.keep([kept(f"e{i}", bytes(4000))], NOW_US)
            keys.append(("home", f"e{i}"))
    return keys


def test_a_full_file_keeps_nothing_of_a_call_and_goes_on_when_some_have_expired(reopen):
    """64 pages of 4 KiB hold fewer than 80 replies of 4 kB."""
    replies = reopen(max_bytes=64 * 4096)
    kept_ids = fill(replies)
    assert 20 < len(kept_ids) < 64
    with pytest.raises(RepliesFull, match=r"replies\.sqlite: database or disk is full"):
        replies.keep([kept(f"more{i}", bytes(4000)) for i in range(60)], NOW_US)
    assert replies.find([("home", f"more{i}") for i in range(60)], NOW_US) == [None] * 60
    assert replies.find(kept_ids, NOW_US) == [bytes(4000)] * len(kept_ids)
    while replies.expire(NOW_US + TTL_US):
        pass
    assert replies.keep([kept("again", b"x")], NOW_US) == [b"x"]


def test_a_closed_file_is_unavailable(reopen):
    replies = reopen()
    replies.close()
    for call in (
        lambda: replies.find([("home", "e")], NOW_US),
        lambda: replies.keep([kept("e", b"x")], NOW_US),
        lambda: replies.expire(NOW_US),
    ):
        with pytest.raises(RepliesUnavailable, match="closed"):
            call()


def test_a_locked_file_is_waited_for_a_second_at_most(tmp_path, monkeypatch):
    opened = []

    def noting(*given):
        opened.append(open_file(*given))
        return opened[-1]

    monkeypatch.setattr("service.kept_sqlite.open_file", noting)
    with closing(SqliteReplies(tmp_path / "replies.sqlite")):
        assert opened[0].execute("PRAGMA busy_timeout").fetchone() == (1000,)


def test_a_foreign_or_damaged_file_is_named_and_left_alone(tmp_path):
    path = tmp_path / "replies.sqlite"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE theirs (x)")
    for content, says in [
        (path.read_bytes(), "not a file of kept replies of banditd"),
        (b"x" * 5000, "not a database"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UnusableFile, match=says):
            SqliteReplies(path)
        assert path.read_bytes() == content
