"""The environment and the flags as values of keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

from service.settings.keys import Key, members
from service.settings.schema import KeySettings, Settings
from service.settings.show import SettingsError, escaped, fault
from service.settings.surface import SurfaceSettings

PREFIX = "BANDITD_"
SURFACES = f"{PREFIX}SURFACES__"
CLIENT_KEY = f"{PREFIX}KEY"
SERVER_KEYS = f"{PREFIX}KEYS"
# Variables that Kubernetes sets in every container beside a Service named banditd.
SERVICE_LINK = re.compile(r"BANDITD_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)")


def keys_below(section: type, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Path and key of everything in a section that a single value sets; arrays of tables are left out."""
    for name, member in members(section).items():
        if isinstance(member, Key):
            yield prefix + name, member
        elif isinstance(member, type):
            yield from keys_below(member, f"{prefix}{name}.")


def _variable(path: str) -> str:
    return path.upper().replace(".", "__")


SERVER_PATHS = dict(keys_below(Settings))
SURFACE_PATHS = dict(keys_below(SurfaceSettings))
BY_VARIABLE = {PREFIX + _variable(path): path for path in SERVER_PATHS}
BY_OWN_VARIABLE = {key.variable: path for path, key in SERVER_PATHS.items() if key.variable}
SURFACE_ENDINGS = sorted(((f"__{_variable(path)}", path) for path in SURFACE_PATHS), key=lambda pair: -len(pair[0]))


def key_at(path: str) -> Key | None:
    """The key at a path that a single value sets, for any surface's name."""
    if path.startswith("surfaces."):
        return SURFACE_PATHS.get(path.split(".", 2)[-1])
    return SERVER_PATHS.get(path)


def _path_of(variable: str) -> str | None:
    if variable.startswith(SURFACES):
        for ending, path in SURFACE_ENDINGS:
            surface = variable[len(SURFACES) : -len(ending)]
            if variable.endswith(ending) and re.fullmatch("[A-Z0-9_]+", surface):
                return f"surfaces.{surface.lower()}.{path}"
        return None
    return BY_OWN_VARIABLE.get(variable) or BY_VARIABLE.get(variable)


def _decode(text: str) -> object:
    """The value that text is in TOML, or the text itself where it is none."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if list(parsed) == ["value"] else text


def _file_text(variable: str, name: str) -> str:
    try:
        return Path(name).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise SettingsError(f"{variable}: must be the name of a readable file: {reason}") from None


def _unknown(variable: str) -> SettingsError:
    if variable.startswith(f"{PREFIX}KEYS__") or re.match(rf"{SURFACES}\w+__REWARDS(__|$)", variable):
        return SettingsError(f"{escaped(variable)} is no variable of banditd: arrays of tables stand in the file only")
    known = [*BY_VARIABLE, *BY_OWN_VARIABLE, CLIENT_KEY, SERVER_KEYS]
    if variable.startswith(SURFACES):
        surface = variable.split("__")[1]
        known = [f"{SURFACES}{surface}{ending}" for ending, _ in SURFACE_ENDINGS]
    close = get_close_matches(variable, known, 1)
    hint = f"; did you mean {close[0]}?" if close else f": names are {PREFIX}SECTION__KEY"
    return SettingsError(f"{escaped(variable)} is no variable of banditd{hint}")


def from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    """Path, raw value and variable of every BANDITD_ variable, except the API keys. Raises SettingsError."""
    given: dict[str, str] = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        text = environ[variable]
        base = variable.removesuffix("_FILE")
        if base in (CLIENT_KEY, SERVER_KEYS) or _service_link(variable, text):
            continue
        path = _path_of(variable)
        if path is None and base != variable:
            path = _path_of(base)
            if path is None or not _may_be_filed(path):
                raise _unknown(variable)
            text = _file_text(variable, text)
        if path is None:
            raise _unknown(variable)
        if path in given:
            raise SettingsError(f"{path} is given twice, by {given[path]} and {variable}: leave one of them")
        given[path] = variable
        yield path, _value_of(path, variable, text), variable


def _service_link(variable: str, text: str) -> bool:
    if variable == f"{PREFIX}PORT":
        return text.startswith(("tcp://", "udp://"))
    return SERVICE_LINK.fullmatch(variable) is not None


def _may_be_filed(path: str) -> bool:
    key = key_at(path)
    return key is not None and key.secret in ("never", "url")


def _value_of(path: str, variable: str, text: str) -> object:
    if variable in BY_OWN_VARIABLE or variable.endswith("_FILE"):
        return text.strip()
    value = _decode(text)
    if _may_be_filed(path):
        return value if isinstance(value, str) else text
    if value == text and text.startswith(('"', "'")):
        raise fault(path, text, "must be TOML, or text without quotes", variable)
    return value


def api_keys(environ: Mapping[str, str]) -> tuple[KeySettings, ...] | None:
    """The API keys of BANDITD_KEYS or BANDITD_KEYS_FILE; None without either or where it is empty.

    NAME:SCOPE+SCOPE:SECRET, several with commas. Nothing of a wrong entry is printed: it may be the secret.
    """
    variable = f"{SERVER_KEYS}_FILE"
    if SERVER_KEYS not in environ and variable not in environ:
        return None
    if SERVER_KEYS in environ and variable in environ:
        raise SettingsError(f"keys are given twice, by {SERVER_KEYS} and {variable}: leave one of them")
    if SERVER_KEYS in environ:
        variable, text = SERVER_KEYS, environ[SERVER_KEYS].strip()
    else:
        text = _file_text(variable, environ[variable])
    return tuple(_api_key(variable, i, entry.strip()) for i, entry in enumerate(text.split(","))) if text else None


def _api_key(variable: str, index: int, entry: str) -> KeySettings:
    name, _, rest = entry.partition(":")
    scopes, _, secret = rest.partition(":")
    rules = {one: key.rule for one, key in members(KeySettings).items() if isinstance(key, Key)}
    try:
        read = {
            "name": rules["name"].read(name),
            "scopes": rules["scopes"].read(scopes.split("+")),
            "sha256": rules["sha256"].read(sha256(secret.encode()).hexdigest() if secret else ""),
        }
    except ValueError:
        raise SettingsError(
            f"{variable} entry {index}: must be NAME:SCOPE[+SCOPE]:SECRET with scopes decide, feedback or admin"
        ) from None
    return KeySettings(**read)  # type: ignore[arg-type]


def from_flags(flags: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    """Path, value and flag of every flag that is given: a mapping from path to value."""
    for path, value in flags.items():
        if key_at(path) is None:
            raise fault(path, value, "no such key", "flag")
        yield path, value, f"--{path.rpartition('.')[2]}"
