"""Frames of a log read again, mostly in order."""

from __future__ import annotations

from service.log import FeedbackLog

_TOGETHER = 16


class Frames:
    """Keeps the last two runs of 16 frames, at most 16 MiB a partition: decisions lie in the log nearly by time."""

    def __init__(self, log: FeedbackLog, partition: int) -> None:
        self._log, self._partition = log, partition
        self._runs: dict[int, dict[int, bytes]] = {}

    def body(self, offset: int) -> bytes:
        """One frame's bytes; OutOfRange where the log does not hold it any more."""
        run = offset // _TOGETHER
        if run not in self._runs:
            if len(self._runs) == 2:
                del self._runs[next(iter(self._runs))]
            start = max(run * _TOGETHER, self._log.bounds(self._partition)[0])
            frames = self._log.read(self._partition, min(start, offset), (run + 1) * _TOGETHER - min(start, offset))
            self._runs[run] = {frame.offset: frame.body for frame in frames}
        return self._runs[run][offset]
