"""When each arm of a surface was last served, as far as this process knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt


class LastServed:
    """Finds arms that were not served for ttl_s; with ttl_s = 0 it notes nothing.

    An arm counts as served when this was made: what earlier processes served is not known.
    """

    def __init__(self, ttl_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._clock_s = ttl_s, clock_s
        self._made_s = clock_s()
        self._last_s: dict[int, float] = {}
        self._lock = threading.Lock()

    def note(self, arms: Iterable[int]) -> None:
        """Arms are served now."""
        if self._ttl_s:
            with self._lock:
                self._last_s.update(dict.fromkeys(arms, self._clock_s()))

    def unserved(self, arms: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Those of the arms that were not served for ttl_s; on any thread."""
        since_s = self._clock_s() - self._ttl_s
        if not self._ttl_s or since_s < self._made_s:
            return arms[:0]
        last_s = self._last_s.copy()
        arm = np.fromiter(last_s, np.uint64, len(last_s))
        old = np.fromiter(last_s.values(), np.float64, len(last_s)) <= since_s
        self._forget(arm[old].tolist(), since_s)
        return arms[~np.isin(arms, arm[~old])]

    def _forget(self, arms: Iterable[int], since_s: float) -> None:
        for arm in arms:
            with self._lock:
                if self._last_s[arm] <= since_s:
                    del self._last_s[arm]
