"""The settings as a flat list: path, value, source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.settings.keys import Entries, Key, members
from service.settings.load import Loaded
from service.settings.show import public, toml


@dataclass(frozen=True)
class Row:
    """One key: its path (array of tables: path[i].key), its value with secrets hidden, and where it comes from."""

    path: str
    value: object
    source: str

    @property
    def line(self) -> str:
        """`path = value  # source`."""
        return f"{self.path} = {toml(self.value)}  # {self.source}"


def rows(loaded: Loaded) -> Iterator[Row]:
    """Every key, in the order of the schema; an array of tables without entries is one row."""
    yield from _rows(loaded.settings, "", loaded.sources)
    for name, surface in loaded.settings.surfaces.items():
        yield from _rows(surface, f"surfaces.{name}.", loaded.sources)


def _rows(section: object, prefix: str, sources: Mapping[str, str]) -> Iterator[Row]:
    for name, member in members(type(section)).items():
        path, value = prefix + name, getattr(section, name)
        if isinstance(member, Key):
            shown = public(member, value)
            yield Row(path, list(shown) if isinstance(shown, tuple) else shown, sources[path])
        elif not isinstance(member, Entries):
            yield from _rows(value, f"{path}.", sources)
        elif not value:
            yield Row(path, [], sources[path])
        else:
            for i, entry in enumerate(value):
                yield from _rows(entry, f"{path}[{i}].", sources)
