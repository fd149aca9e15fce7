"""Values as TOML text, without their secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bandits.errors import UsageError
from service.settings.keys import Key

HIDDEN = "***"
LONGEST = 80
SECRET_NAME = re.compile(r"secr|pass|token|key|sha", re.IGNORECASE)
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class SettingsError(UsageError):
    """A configuration that is refused: one line with the path, the value and what is allowed."""


def escaped(text: str) -> str:
    """Text with what cannot be printed, quotes and backslashes escaped as in a TOML basic string."""
    return "".join(ESCAPES.get(c) or (c if c.isprintable() else _code_point(c)) for c in text)


def _code_point(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def toml(value: object) -> str:
    """A value decoded from TOML, or held by the settings, as TOML text on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{escaped(value)}"'
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml(name)} = {toml(item)}" for name, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)


def public(key: Key, value: object) -> object:
    """The value of a key with its secrets hidden; an empty secret shows as empty."""
    if key.secret == "never" and value:
        return HIDDEN
    if key.secret == "url" and isinstance(value, str):
        return re.sub(r"://[^@,]*@", f"://{HIDDEN}@", value)
    return value


def fault(path: str, value: object, rule: str, origin: str, key: Key | None = None) -> SettingsError:
    """The refusal of the value at a path: rule in words, origin a file, a variable or a flag."""
    text = HIDDEN if _hidden(path, value, key) else re.sub("://.*@", f"://{HIDDEN}@", _short(value))
    return SettingsError(f"{escaped(path)} = {text}: {rule} ({escaped(origin)})")


def _hidden(path: str, value: object, key: Key | None) -> bool:
    """Whether value may be a secret: by its key, or at an unknown key by the path."""
    if key is None:
        return path.startswith("keys") or SECRET_NAME.search(path.rpartition(".")[2]) is not None
    return key.secret in ("never", "wrong") or (key.secret == "url" and re.search("[@?]", str(value)) is not None)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "{..}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[{..}]" if isinstance(value[0], dict) else "[[..]]"
    text = toml(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + ".."
