"""Decision ids whose dedupe bits are never used twice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

HOUR_US = 3_600_000_000


@dataclass(slots=True)
class DecisionId:
    """boot, hour, partition and first of the bits a decision owns."""

    boot: int
    hour: int
    partition: int
    bit: int

    def __str__(self) -> str:
        return f"{self.boot:016x}-{self.hour:x}-{self.partition:x}-{self.bit:x}"


class DecisionIds:
    """Gives out ids of one process. Make a new one after a fork: boot is drawn here.

    idle_us   a partition without a decision for so long begins a new boot: the fold forgets a boot once its receipts
              have expired, and would take its next ordinal for so many lost decisions

    A clock that steps back keeps the later hour, so that bits of an hour are given once.
    """

    def __init__(self, n_partitions: int, idle_us: int) -> None:
        self._idle_us = idle_us
        self._hour = self._round = 0
        self._used_us = [0] * n_partitions
        self._ordinals: dict[tuple[int, int], int] = {}
        self.boot = 0
        self._begin()

    def _begin(self) -> None:
        # Decisions drawn under the boot before may still be on their way to the log.
        self._ordinals = {key: n for key, n in self._ordinals.items() if key[0] == self.boot}
        self.boot = secrets.randbits(64)
        self._bits = [0] * len(self._used_us)

    def next_partition(self) -> int:
        """Partitions in turn, for decisions without a user."""
        self._round = (self._round + 1) % len(self._bits)
        return self._round

    def take(self, partition: int, n_bits: int, now_us: int) -> DecisionId:
        """The next id of a partition."""
        hour = now_us // HOUR_US
        if hour > self._hour:
            self._hour = hour
            self._bits = [0] * len(self._bits)
        if 0 < self._used_us[partition] < now_us - self._idle_us:
            self._used_us = [0] * len(self._bits)
            self._begin()
        self._used_us[partition] = max(now_us, self._used_us[partition])
        bit = self._bits[partition]
        self._bits[partition] = bit + n_bits
        return DecisionId(self.boot, self._hour, partition, bit)

    def ordinal(self, boot: int, partition: int) -> int:
        """Ordinal of the next decision that goes to the log, dense per boot and partition."""
        return self._ordinals.get((boot, partition), 0)

    def logged(self, boot: int, partition: int) -> None:
        """Count a decision that went to the log."""
        self._ordinals[boot, partition] = self.ordinal(boot, partition) + 1
