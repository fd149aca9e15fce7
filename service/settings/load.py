"""One configuration out of defaults, a file, the environment and flags."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from service.settings.check import check
from service.settings.environment import api_keys, from_environment, from_flags, key_at
from service.settings.keys import Entries, Key, members
from service.settings.schema import Settings
from service.settings.show import SettingsError, fault
from service.settings.surface import SurfaceSettings

REFRESH_WITH_REDIS_MS = 100
SURFACE_NAME = re.compile(r"[a-z0-9_]{1,128}")


@dataclass(frozen=True)
class Loaded:
    """A configuration and where it comes from: path -> default, file, env or flag, in the order of the schema."""

    settings: Settings
    sources: Mapping[str, str]


@dataclass
class Given:
    """What one or more sources give.

    values   path -> value as the settings hold it; for an array of tables the number of its entries
    sources  path -> file, env or flag
    """

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, value: object, source: str) -> None:
        self.values[path] = value
        self.sources[path] = source


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """The configuration: flags win over the environment, the environment over the file at path.

    Every value is checked, also one that another source overrides. Raises SettingsError, one line.
    """
    given = Given()
    if path is not None:
        for place, value in _from_table(Settings, _parse(path), "", path):
            given.add(place, value, "file")
    keys = api_keys(environ)
    if keys is not None:
        given.add("keys", len(keys), "env")
        for i, key in enumerate(keys):
            for name in members(type(key)):
                given.add(f"keys[{i}].{name}", getattr(key, name), "env")
    for source, triples in (("env", from_environment(environ)), ("flag", from_flags(flags))):
        for place, value, origin in triples:
            rule = key_at(place)
            if rule is not None:
                given.add(place, _read(rule, place, value, origin), source)
    return _complete(given)


def _parse(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: byte {error.start} is not UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {_syntax(str(error), text)}") from None
    except RecursionError:
        raise SettingsError(f"{path}: arrays or tables are nested too deeply") from None


def _syntax(message: str, text: str) -> str:
    """tomllib's message with line and column, which it leaves out at the end of the document."""
    line = text.count("\n") + 1
    column = len(text) - (text.rfind("\n") + 1) + 1
    return message.replace("(at end of document)", f"(at line {line}, column {column}, the end)")


def _read(key: Key, path: str, value: object, origin: str) -> object:
    try:
        return key.rule.read(value)
    except ValueError:
        raise fault(path, value, f"must be {key.rule.allowed}", origin, key) from None


def _from_table(section: type, table: object, prefix: str, origin: str) -> Iterator[tuple[str, object]]:
    """Path and checked value of all that a table gives."""
    if not isinstance(table, dict):
        raise fault(prefix.rstrip("."), table, "must be a table", origin)
    known = members(section)
    for name, value in table.items():
        path, member = prefix + name, known.get(name)
        if section is Settings and name == "surfaces":
            yield from _from_surfaces(value, origin)
        elif isinstance(member, Key):
            yield path, _read(member, path, value, origin)
        elif isinstance(member, Entries):
            yield from _from_entries(member, value, path, origin)
        elif member is not None:
            yield from _from_table(member, value, f"{path}.", origin)
        else:
            raise fault(path, value, _unknown(section, name), origin)
    for name, member in known.items():
        if isinstance(member, Key) and member.default is dataclasses.MISSING and name not in table:
            raise SettingsError(f"{prefix}{name} is missing: must be {member.rule.allowed} ({origin})")


def _unknown(section: type, name: str) -> str:
    names = [*members(section), *(["surfaces"] if section is Settings else [])]
    close = get_close_matches(name, names, 1)
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; allowed are {', '.join(names)}"


def _from_surfaces(table: object, origin: str) -> Iterator[tuple[str, object]]:
    if not isinstance(table, dict):
        raise fault("surfaces", table, "must be a table", origin)
    for name, surface in table.items():
        if not SURFACE_NAME.fullmatch(name):
            rule = "a surface's name must be 1 to 128 of a-z 0-9 _"
            raise fault(f"surfaces.{name}", surface, rule, origin)
        yield f"surfaces.{name}", True
        yield from _from_table(SurfaceSettings, surface, f"surfaces.{name}.", origin)


def _from_entries(array: Entries, value: object, path: str, origin: str) -> Iterator[tuple[str, object]]:
    if not isinstance(value, list) or not array.least <= len(value) <= array.most:
        count = f"{array.least} to {array.most:,}"
        raise fault(path, value, f"must be an array of {count} tables", origin)
    yield path, len(value)
    for i, entry in enumerate(value):
        yield from _from_table(array.entry, entry, f"{path}[{i}].", origin)


def _complete(given: Given) -> Loaded:
    """Defaults for all that is not given, then the rules between keys."""
    if given.values.get("distributed.redis"):
        given.values.setdefault("server.refresh_ms", REFRESH_WITH_REDIS_MS)
    sources: dict[str, str] = {}
    settings: Settings = _build(Settings, "", given, sources)
    names = dict.fromkeys(path.split(".")[1] for path in given.values if path.startswith("surfaces."))
    surfaces = {name: _build(SurfaceSettings, f"surfaces.{name}.", given, sources) for name in names or ["default"]}
    settings = dataclasses.replace(settings, surfaces=surfaces)
    check(settings)
    return Loaded(settings, sources)


def _build(section: Any, prefix: str, given: Given, sources: dict[str, str]) -> Any:
    built: dict[str, object] = {}
    for name, member in members(section).items():
        path = prefix + name
        if isinstance(member, Key):
            sources[path] = given.sources.get(path, "default")
            built[name] = given.values.get(path, member.default)
        elif isinstance(member, Entries):
            built[name] = _build_entries(member, path, given, sources)
        else:
            built[name] = _build(member, f"{path}.", given, sources)
    return section(**built)


def _build_entries(array: Entries, path: str, given: Given, sources: dict[str, str]) -> tuple[object, ...]:
    count = given.values.get(path, len(array.default))
    if count == 0:
        sources[path] = given.sources.get(path, "default")
    return tuple(_build(array.entry, f"{path}[{i}].", given, sources) for i in range(int(str(count))))
