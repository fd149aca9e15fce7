"""The thread between log and scores outlives a log or a disk that fails for a while."""

from __future__ import annotations

import threading
import time

import pytest

from bandits.mirror import decode_meta
from service.log import LogUnavailable
from service.updater import Halt
from tests.service.harness import running


def test_a_log_that_cannot_be_read_for_a_while_is_folded_afterwards(tmp_path, monkeypatch):
    with running(tmp_path / "data") as server:
        log, failures = server.node.data.log, iter(range(3))
        bounds = log.bounds

        def failing(partition):
            if threading.current_thread() is server.node.pipeline and next(failures, None) is not None:
                raise LogUnavailable("the disk is away")
            return bounds(partition)

        monkeypatch.setattr(log, "bounds", failing)
        server.reward(server.recommend(items=["a"]), 1.0)
        assert server.cells("default")["surface"]["reward"] == 1.0
        assert next(failures, None) is None


def test_the_log_is_trimmed_to_its_retention_but_never_beyond_the_checkpoint(tmp_path):
    with running(tmp_path / "data", "[server]\npartitions = 1\nretention_s = 1\n") as server:
        retention, log = server.node.retention, server.node.data.log
        server.reward(server.recommend(items=["a"]), 1.0)
        stop = log.bounds(0)[1]
        time.sleep(1.1)
        retention.trim()
        assert log.bounds(0) == (0, stop)
        server.node.data.store.checkpoint()
        retention.trim()
        assert log.bounds(0) == (stop, stop)
        server.reward(server.recommend(items=["a"]), 1.0)
    with running(tmp_path / "data", "[server]\npartitions = 1\nretention_s = 1\n") as server:
        assert server.cells("default")["surface"]["reward"] == 2.0


def test_a_trim_that_fails_does_not_end_the_fold(tmp_path, monkeypatch):
    with running(tmp_path / "data", "[server]\nretention_s = 1\n") as server:

        def failing(partition, before_us):
            raise LogUnavailable("database is locked")

        monkeypatch.setattr(server.node.data.log, "trim", failing)
        monkeypatch.setattr("service.pipeline.CHECKPOINT_EVERY_S", 0.0)
        monkeypatch.setattr("service.pipeline.TRIM_EVERY_S", 0.0)
        for rewards in range(1, 101):
            server.reward(server.recommend(items=["a"]), 1.0)
            assert server.cells("default")["surface"]["reward"] == rewards
            if 'banditd_checkpoints_total{outcome="failed"}' in server.get("/metrics").text:
                break
        else:
            pytest.fail("no trim failed")
        assert server.node.fault is None


def test_a_damaged_frame_ends_a_running_server_with_its_reason_and_leaves_the_state_as_it_was(tmp_path):
    with running(tmp_path / "data") as server:
        server.reward(server.recommend(items=["a"], user="u"), 1.0)
        server.settle()
        store = server.node.data.store
        before = [dict(store.scan(p)) for p in range(8)]
        server.node.pipeline.committed(server.node.data.log.append([(0, b"no frame at all")]))
        server.join()
        assert isinstance(server.node.fault, Halt)
        assert str(server.node.fault).startswith("halted: frame ")
        assert "damaged" in str(server.node.fault)
        after = [dict(store.scan(p)) for p in range(8)]
        assert decode_meta(after[0].pop(b"m")).halt.startswith("frame 0 is damaged")
        before[0].pop(b"m", None)
        assert after == before
