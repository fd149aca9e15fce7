"""What a configuration asks for that this version does not do."""

from __future__ import annotations

from collections.abc import Iterator

from service.settings.keys import Entries, Key, members
from service.settings.schema import Settings
from service.settings.show import public, toml


def unserved(settings: Settings) -> list[str]:
    """One line for every value that this version would wrongly ignore: path, value and what to leave it at.

    Keys that only come into play by such a value, as ad_load.* by a policy, are left alone.
    """
    found = [*_unserved(settings, "")]
    for name, surface in settings.surfaces.items():
        found += _unserved(surface, f"surfaces.{name}.")
    return found


def _unserved(section: object, prefix: str) -> Iterator[str]:
    for name, member in members(type(section)).items():
        path, value = prefix + name, getattr(section, name)
        if isinstance(member, Key):
            if member.served and value not in member.served:
                rest = " or ".join(map(toml, member.served))
                yield f"{path} = {toml(public(member, value))}: not in this version; leave it at {rest}"
        elif not isinstance(member, Entries):
            yield from _unserved(value, f"{path}.")
        elif value and not member.served:
            yield f"{path} = [{{..}}]: not in this version; leave it at {toml(member.default)}"
