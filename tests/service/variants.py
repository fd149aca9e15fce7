"""Servers for the crash test, `python -m tests.service.variants sound|FAULT serve ..`, that checkpoint all the time."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from typing import Any

from bandits.mirror import Mirror
from service import pipeline
from service.cli import main
from service.log import Appended
from service.log_writer import LogWriter


def acknowledge_early() -> None:
    """Answer 202 as soon as an event is queued, before it is in the log."""

    def submit(self: LogWriter, partition: int, entry: bytes, keys: int) -> asyncio.Future[Appended]:
        waiter: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        assert self.offer(partition, entry, keys)
        waiter.set_result(Appended(partition, 0, time.time_ns() // 1000))
        return waiter

    LogWriter.submit = submit  # type: ignore[method-assign]


def forget_what_came() -> None:
    """Keep the sums and the offset over a restart, but not which events they hold."""
    load = Mirror.load

    def without_dedupe(self: Mirror, values: Iterable[tuple[bytes, bytes]], watermark: int, *rest: Any) -> Any:
        return load(self, [(key, value) for key, value in values if key[:1] != b"d"], watermark, *rest)

    Mirror.load = without_dedupe  # type: ignore[method-assign]


FAULTS = {"early": acknowledge_early, "forgetful": forget_what_came}
CHECKPOINT_EVERY_S = 0.2
"""Of 30 seconds: else no kill of a short test would find one under way."""

if __name__ == "__main__":
    pipeline.CHECKPOINT_EVERY_S = CHECKPOINT_EVERY_S
    if sys.argv[1] != "sound":
        FAULTS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
