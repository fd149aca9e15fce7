"""Rules between several keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bandits.names import name_hash32
from service.settings.schema import Settings
from service.settings.show import SettingsError, toml
from service.settings.surface import SurfaceSettings, reward_scale

SMALLEST_REWARD_SCALE = 1e-12


def check(settings: Settings) -> None:
    """Raises SettingsError, one line with path, value and rule, where keys do not fit together."""
    _unlike("keys", [key.name for key in settings.keys], str)
    for name, surface in settings.surfaces.items():
        path = f"surfaces.{name}"
        _check_rewards(f"{path}.rewards", surface)
        _check_ad_load(f"{path}.ad_load", surface)
        _check_recovering(f"{path}.recovering", surface)


def _unlike(path: str, names: Sequence[str], hashed: Callable[[str], object]) -> None:
    seen: dict[object, int] = {}
    for i, name in enumerate(names):
        first = seen.setdefault(hashed(name), i)
        if first != i:
            raise SettingsError(f"{path}[{i}].name = {toml(name)}: must differ from {path}[{first}].name")


def _check_rewards(path: str, surface: SurfaceSettings) -> None:
    _unlike(path, [reward.name for reward in surface.rewards], name_hash32)
    if reward_scale(surface.rewards) < SMALLEST_REWARD_SCALE:
        weights = toml([reward.weight for reward in surface.rewards])
        rule = f"the sum of |weight| * max(|lo|, |hi|) must be at least {SMALLEST_REWARD_SCALE:g}"
        raise SettingsError(f"{path}[..].weight = {weights}: {rule}; give one reward a weight")


def _check_ad_load(path: str, surface: SurfaceSettings) -> None:
    ads = surface.ad_load
    if len(ads.logging) != len(ads.loads):
        rule = f"must have one probability for each of the {len(ads.loads)} loads"
        raise SettingsError(f"{path}.logging = {toml(ads.logging)}: {rule} {toml(ads.loads)}")
    if ads.floor > min(ads.logging):
        rule = f"must be at most {min(ads.logging):g}, the least probability in logging"
        raise SettingsError(f"{path}.floor = {ads.floor}: {rule}")


def _check_recovering(path: str, surface: SurfaceSettings) -> None:
    recovering = surface.recovering
    if recovering.reserved and surface.policy != "diag_linucb":
        rule = f'must be 0 with policy "{surface.policy}": positions are reserved in slates of diag_linucb'
        raise SettingsError(f"{path}.reserved = {recovering.reserved}: {rule}")
