"""What a surface's rewards mean, and the generations whose receipts are still out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bandits.names import WEIGHT_UNIT, name_hash32
from service.settings.surface import RewardSettings


class RewardError(ValueError):
    """A value that the reward of this name does not take."""


class Rewards:
    """Named rewards, and their fold to one number in [-1, 1].

    An event of reward k adds weight_k * value / scale, so the sum over all names stays within [-1, 1];
    scale = sum of |weight| * max(|lo|, |hi|). Rewards are scaled, never shifted: no reward stays 0.
    """

    def __init__(self, settings: Sequence[RewardSettings]) -> None:
        self.settings = tuple(settings)
        self.scale = sum(abs(one.weight) * max(map(abs, one.range)) for one in settings)
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
    """All generations that receipts may still name, kept in one file that is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_totals: dict[int, Generation] = {}
        if path.exists():
            for entry in json.loads(path.read_text()):
                settings = [
                    RewardSettings(r["name"], tuple(r["range"]), r["weight"], r["clip"]) for r in entry["rewards"]
                ]
                table, totals = int(entry["table"], 16), int(entry["totals"], 16)
                found = Generation(
                    entry["surface"], entry["learner"], entry["generation"], table, totals, Rewards(settings)
                )
                self._by_totals[totals] = found

    def __iter__(self) -> Iterator[Generation]:
        return iter(self._by_totals.values())

    def get(self, totals: int) -> Generation | None:
        return self._by_totals.get(totals)

    def add(self, found: Generation) -> bool:
        """Remember a generation, durably; whether it is new. Clipping follows the settings of today."""
        old = self._by_totals.get(found.totals)
        if old is not None and old.rewards.settings == found.rewards.settings:
            return False
        self._by_totals[found.totals] = found
        entries = [
            {
                "surface": g.surface,
                "learner": g.learner,
                "generation": g.key,
                "table": f"{g.table:016x}",
                "totals": f"{g.totals:016x}",
                "rewards": [
                    {"name": r.name, "range": list(r.range), "weight": r.weight, "clip": r.clip}
                    for r in g.rewards.settings
                ],
            }
            for g in self._by_totals.values()
        ]
        replace_file(self._path, json.dumps(entries, indent=1).encode())
        return old is None


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that it is either the old one or the whole new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
