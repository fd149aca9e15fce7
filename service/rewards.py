"""What a surface's rewards mean, and the generations whose receipts are still out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandits.names import WEIGHT_UNIT, name_hash32
from service.errors import UsageError
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

    Each surface has current ones, which are scored from; the others only go on learning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_totals: dict[int, Generation] = {}
        self._current: dict[str, list[int]] = {}
        if path.exists():
            try:
                self._load(json.loads(path.read_text()))
            except (ValueError, TypeError, LookupError) as fault:
                rule = "cannot be read; restore it: without it receipts that are out cannot be understood"
                raise UsageError(f"{path}: {rule} ({fault!r})") from fault

    def _load(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            found = _generation(entry)
            self._by_totals[found.totals] = found
            if entry["current"]:
                self._current.setdefault(found.surface, []).append(found.totals)

    def get(self, totals: int) -> Generation | None:
        return self._by_totals.get(totals)

    def of(self, surface: str, *, every: bool = False) -> list[Generation]:
        """A surface's current generations, or every one."""
        if every:
            return [g for g in self._by_totals.values() if g.surface == surface]
        return [self._by_totals[totals] for totals in self._current.get(surface, [])]

    @property
    def surfaces(self) -> list[str]:
        return list(self._current)

    def use(self, surface: str, current: Sequence[Generation]) -> None:
        """Make these a surface's current generations, durably. Clipping follows the settings of today."""
        by_totals = self._by_totals | {g.totals: g for g in current}
        served = self._current | {surface: [g.totals for g in current]}
        entries = [_entry(g, g.totals in served.get(g.surface, [])) for g in by_totals.values()]
        replace_file(self._path, json.dumps(entries, indent=1).encode())
        # Other threads may be reading: they keep the dictionaries they have.
        self._by_totals, self._current = by_totals, served


def _generation(entry: dict[str, Any]) -> Generation:
    rewards = [
        RewardSettings(one["name"], (one["range"][0], one["range"][1]), one["weight"], one["clip"])
        for one in entry["rewards"]
    ]
    table, totals = int(entry["table"], 16), int(entry["totals"], 16)
    return Generation(entry["surface"], entry["learner"], entry["generation"], table, totals, Rewards(rewards))


def _entry(found: Generation, current: bool) -> dict[str, Any]:
    return {
        "surface": found.surface,
        "learner": found.learner,
        "generation": found.key,
        "current": current,
        "table": f"{found.table:016x}",
        "totals": f"{found.totals:016x}",
        "rewards": [
            {"name": one.name, "range": list(one.range), "weight": one.weight, "clip": one.clip}
            for one in found.rewards.settings
        ],
    }
