"""What a surface's rewards mean, and the generations whose receipts are still out."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandits.errors import UsageError
from bandits.names import WEIGHT_UNIT, name_hash32
from service.files import replace_file
from service.settings.surface import RewardSettings, reward_scale


class RewardError(ValueError):
    """A value that the reward of this name does not take."""


class Rewards:
    """Named rewards, and their fold to one number in [-1, 1].

    An event of reward k adds weight_k * value / scale, so the sum over all names stays within [-1, 1];
    scale as reward_scale has it. Rewards are scaled, never shifted: no reward stays 0.
    """

    def __init__(self, settings: Sequence[RewardSettings]) -> None:
        self.settings = tuple(settings)
        self.scale = reward_scale(self.settings)
        self.hashes = tuple(name_hash32(one.name) for one in settings)
        self._place = {one.name: i for i, one in enumerate(settings)}

    @property
    def generation_spec(self) -> list[Mapping[str, object]]:
        """What of the rewards gives sums their meaning."""
        return [{"name": one.name, "range": list(one.range), "weight": one.weight} for one in self.settings]

    def place(self, name: str | None) -> int:
        """Index of a name; the first where none is given. Raises RewardError for an unknown one."""
        if name is None:
            return 0
        found = self._place.get(name)
        if found is None:
            raise RewardError(f"unknown reward {name!r}; this decision has {', '.join(self._place)}")
        return found

    def weigh(self, place: int, value: float) -> tuple[float, int, bool]:
        """(raw value, weighted value in units of 2**-15, whether it was clipped); RewardError beyond the range."""
        one = self.settings[place]
        low, high = one.range
        clipped = not low <= value <= high
        if clipped:
            if not one.clip:
                raise RewardError(f"must lie in [{low:g}, {high:g}], got {value:g}")
            value = min(max(value, low), high)
        return value, round(one.weight * value / self.scale / WEIGHT_UNIT), clipped


@dataclass(frozen=True, slots=True)
class Generation:
    """One meaning of a surface's slots and sums; receipts name it by its totals table."""

    surface: str
    learner: str
    key: str
    table: int
    totals: int
    rewards: Rewards


class Generations:
    """All generations that receipts may still name, kept in one file that is replaced atomically.

    Each surface has current ones, which are scored from; the others only go on learning, until they are retired. Then
    their receipts are refused, and they are known only to those who read old entries. One that is prepared is about to
    be current: it is not retired, and where it never becomes current it is forgotten. Any thread may call any method.
    """

    def __init__(self, path: Path, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._path, self._clock_us = path, clock_us
        self._lock = threading.Lock()
        self._by_totals: dict[int, Generation] = {}
        self._current: dict[str, list[int]] = {}
        self._last_us: dict[int, int] = {}
        # Whether each prepared one is new, so that nothing can be of it yet.
        self._prepared: dict[int, bool] = {}
        # Refused already, but in the file until the log says that they are retired.
        self._retiring: dict[int, Generation] = {}
        self._retired: dict[int, Generation] = {}
        if path.exists():
            try:
                self._load(json.loads(path.read_text()))
            except (ValueError, TypeError, LookupError) as fault:
                rule = "cannot be read; restore it: without it receipts that are out cannot be understood"
                raise UsageError(f"{path}: {rule} ({fault!r})") from fault

    def _load(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            found = _generation(entry)
            known = self._retired if entry.get("retired", False) else self._by_totals
            known[found.totals] = found
            self._last_us[found.totals] = entry.get("last_current_us", 0)
            if entry.get("prepared", False):
                self._prepared[found.totals] = True
            if entry["current"]:
                self._current.setdefault(found.surface, []).append(found.totals)

    def get(self, totals: int) -> Generation | None:
        """The generation whose receipts are accepted."""
        return self._by_totals.get(totals)

    def known(self, totals: int) -> Generation | None:
        """A generation that the log may still have entries of, also a retired one."""
        return self._by_totals.get(totals) or self._retiring.get(totals) or self._retired.get(totals)

    def of(self, surface: str, *, every: bool = False) -> list[Generation]:
        """A surface's current generations, or every one."""
        if every:
            return [g for g in self._by_totals.values() if g.surface == surface]
        return [self._by_totals[totals] for totals in self._current.get(surface, [])]

    @property
    def surfaces(self) -> list[str]:
        return list(self._current)

    def prepare(self, found: Generation) -> None:
        """Let receipts of a generation count before it becomes current, durably."""
        with self._lock:
            prepared = self._prepared | {found.totals: found.totals not in self._by_totals}
            by_totals = self._by_totals | {found.totals: found}
            last_us = {found.totals: 0} | self._last_us
            self._write(by_totals | self._retiring, self._retired, self._current, last_us, prepared)
            self._by_totals, self._last_us, self._prepared = by_totals, last_us, prepared

    def take_back(self, found: Generation) -> None:
        """Forget that a generation was prepared; without room for the file the next one that is written says so."""
        with self._lock:
            if self._prepared.get(found.totals, False):
                self._by_totals = {totals: g for totals, g in self._by_totals.items() if totals != found.totals}
            self._prepared = {totals: new for totals, new in self._prepared.items() if totals != found.totals}
            self._write(self._by_totals | self._retiring, self._retired, self._current, self._last_us, self._prepared)

    def use(self, surface: str, current: Sequence[Generation]) -> None:
        """Make these a surface's current generations, durably. Clipping follows the settings of today."""
        with self._lock:
            served = self._current | {surface: [g.totals for g in current]}
            ended = {totals for totals in self._prepared if self._by_totals[totals].surface == surface}
            unused = {totals for totals in ended if self._prepared[totals]}
            kept = {totals: g for totals, g in self._by_totals.items() if totals not in unused}
            by_totals = kept | {g.totals: g for g in current}
            prepared = {totals: new for totals, new in self._prepared.items() if totals not in ended}
            seen = {*self._current.get(surface, []), *served[surface]}
            last_us = self._last_us | dict.fromkeys(seen, self._clock_us())
            retiring = {totals: g for totals, g in self._retiring.items() if totals not in served[surface]}
            retired = {totals: g for totals, g in self._retired.items() if totals not in served[surface]}
            self._write(by_totals | retiring, retired, served, last_us, prepared)
            # Other threads may be reading: they keep the dictionaries they have.
            self._by_totals, self._current, self._last_us, self._prepared = by_totals, served, last_us, prepared
            self._retiring, self._retired = retiring, retired

    def retire(self, surface: str, kept: int, append: Callable[[Sequence[Generation]], None]) -> list[Generation]:
        """Let a surface's generations go but for the current ones and so many that were current last.

        append puts their retire entries into the log; only then does the file call them retired. Whatever it raises
        goes on to the caller: their receipts are refused all the same, and the next call tries again.
        """
        with self._lock:
            needed = {*self._current.get(surface, []), *self._prepared}
            old = [g for g in self.of(surface, every=True) if g.totals not in needed]
            old.sort(key=lambda g: self._last_us[g.totals])
            leaving = {g.totals: g for g in old[: max(0, len(old) - kept)]}
            self._by_totals = {totals: g for totals, g in self._by_totals.items() if totals not in leaving}
            self._retiring |= leaving
            found = [g for g in self._retiring.values() if g.surface == surface]
            if found:
                append(found)
                retiring = {totals: g for totals, g in self._retiring.items() if g.surface != surface}
                retired = self._retired | {g.totals: g for g in found}
                self._write(self._by_totals | retiring, retired, self._current, self._last_us, self._prepared)
                self._retiring, self._retired = retiring, retired
            return found

    def forget(self, before_us: int) -> None:
        """Let retired generations leave the file that were current last before a time, UTC microseconds."""
        with self._lock:
            retired = {totals: g for totals, g in self._retired.items() if self._last_us[totals] >= before_us}
            if len(retired) < len(self._retired):
                known = self._by_totals | self._retiring
                self._write(known, retired, self._current, self._last_us, self._prepared)
                self._retired = retired

    def _write(
        self,
        kept: Mapping[int, Generation],
        retired: Mapping[int, Generation],
        served: Mapping[str, Sequence[int]],
        last_us: Mapping[int, int],
        prepared: Mapping[int, bool],
    ) -> None:
        entries = []
        for totals, g in kept.items():
            entry = _entry(g, totals in served.get(g.surface, []), last_us[totals])
            entries.append(entry | {"prepared": True} if prepared.get(totals, False) else entry)
        entries += [_entry(g, False, last_us[g.totals]) | {"retired": True} for g in retired.values()]
        replace_file(self._path, json.dumps(entries, indent=1).encode())


def _generation(entry: dict[str, Any]) -> Generation:
    rewards = [
        RewardSettings(one["name"], (one["range"][0], one["range"][1]), one["weight"], one["clip"])
        for one in entry["rewards"]
    ]
    table, totals = int(entry["table"], 16), int(entry["totals"], 16)
    return Generation(entry["surface"], entry["learner"], entry["generation"], table, totals, Rewards(rewards))


def _entry(found: Generation, current: bool, last_us: int) -> dict[str, Any]:
    return {
        "surface": found.surface,
        "learner": found.learner,
        "generation": found.key,
        "current": current,
        "last_current_us": last_us,
        "table": f"{found.table:016x}",
        "totals": f"{found.totals:016x}",
        "rewards": [
            {"name": one.name, "range": list(one.range), "weight": one.weight, "clip": one.clip}
            for one in found.rewards.settings
        ],
    }
