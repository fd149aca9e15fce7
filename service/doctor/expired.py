"""Keys that had expired and came again: what they hold depends on when their owner deleted them."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from bandits.kernels.fold import HOUR_US
from bandits.mirror import Mirror

EXPIRE_EVERY_US = 60_000_000
"""As often, in the log's time, as what has expired is taken out of the mirror."""
_REVIVES_US = 6 * HOUR_US


class Expired:
    """Takes what expires out of a mirror, beside its fold.

    An owner may delete a key between any two frames once the watermark has passed its expiry by an hour; a key that a
    later frame touches is in `revived` from then on, but for tombstones, which become the same either way.
    """

    def __init__(self, mirror: Mirror) -> None:
        self.revived: set[bytes] = set()
        self._mirror = mirror
        # The watermark at which each was taken out. No entry brings bits of an hour back that are older than that by
        # _REVIVES_US; a boot may come back whenever its process serves again.
        self._taken: dict[bytes, int] = {}
        self._by_time: deque[tuple[int, list[bytes]]] = deque()
        self._before_us = mirror.watermark
        self._take()

    def after_frame(self) -> None:
        """Find what the frame has touched again; take out what has expired, where the watermark moved by a minute."""
        for kind, expiry in enumerate(self._mirror.expiries()):
            self._follow(kind, expiry)
        self._before_us = self._mirror.watermark
        if self._before_us - self._taken_us >= EXPIRE_EVERY_US:
            self._take()

    def _follow(self, kind: int, expiry: npt.NDArray[np.int64]) -> None:
        rows, seen_us = self._due[kind]
        if rows.size:
            now_us = expiry[rows]
            # Whatever touches a row that has expired lasts longer than it.
            again = (now_us != seen_us) & (seen_us < self._before_us - HOUR_US)
            self.revived.update(self._mirror.expiring_keys(kind, rows[again]))
            seen_us[:] = now_us
        added = np.arange(self._n_rows[kind], expiry.size)
        if added.size:
            self._n_rows[kind] = expiry.size
            self.revived.update(self._taken.keys() & set(self._mirror.expiring_keys(kind, added)))
            self._watch(kind, expiry, added)

    def _watch(self, kind: int, expiry: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> None:
        """Remember those rows that can expire before the next _take."""
        rows = rows[expiry[rows] < self._taken_us + EXPIRE_EVERY_US - HOUR_US]
        held, seen_us = self._due[kind]
        if rows.size:
            self._due[kind] = np.concatenate([held, rows]), np.concatenate([seen_us, expiry[rows]])

    def _take(self) -> None:
        now_us = self._taken_us = self._mirror.watermark
        while self._by_time and self._by_time[0][0] < now_us - _REVIVES_US:
            then_us, keys = self._by_time.popleft()
            for key in keys:
                if self._taken.get(key) == then_us:
                    del self._taken[key]
        keys = self._mirror.take_expired(now_us)
        self._taken |= dict.fromkeys(keys, now_us)
        self._by_time.append((now_us, [key for key in keys if key[:1] == b"d"]))
        nothing = np.zeros(0, np.int64)
        self._n_rows = [0, 0]
        self._due = [(nothing, nothing), (nothing, nothing)]
        for kind, expiry in enumerate(self._mirror.expiries()):
            self._n_rows[kind] = expiry.size
            self._watch(kind, expiry, np.arange(expiry.size))
