"""Which partition of the log a decision belongs to."""

from __future__ import annotations

from bandits.names import key64


def partition_of(user: str, n_partitions: int) -> int:
    """Partition of a user's decisions; decisions without a user go round instead.

    >>> partition_of("u1", 8) == partition_of("u1", 8) < 8
    True
    """
    return key64(user) % n_partitions
