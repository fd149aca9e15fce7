"""What a dataclass field of the settings says about its key: rule, meaning, secrecy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from service.settings.values import Rule

T = TypeVar("T")


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    name      as it stands in its table
    rule      what it may hold
    meaning   what it does, one line
    default   its value where nothing gives one; dataclasses.MISSING where it has to be given
    secret    "never": its value is not printed; "url": nor is the user information in it; "wrong": printed, but not in
              errors, where a secret may stand by mistake; "": printed
    variable  an environment variable of its own, read as it stands, beside BANDITD_SECTION__KEY
    served    the values that this version serves; empty: it does nothing with the key; None: it serves every value
    """

    name: str
    rule: Rule
    meaning: str
    default: object
    secret: str
    variable: str
    served: tuple[object, ...] | None


@dataclass(frozen=True)
class Entries:
    """An array of tables: every entry is of one dataclass. `served`: whether this version does anything with them."""

    name: str
    entry: type
    least: int
    most: int
    meaning: str
    default: tuple[object, ...]
    served: bool


def setting(
    default: T,
    rule: Rule,
    meaning: str,
    *,
    secret: str = "",
    variable: str = "",
    served: tuple[object, ...] | None = None,
) -> T:
    """A field with a default."""
    metadata = {"rule": rule, "meaning": meaning, "secret": secret, "variable": variable, "served": served}
    field: T = dataclasses.field(default=default, repr=secret not in ("never", "url"), metadata=metadata)
    return field


def required(rule: Rule, meaning: str, *, secret: str = "") -> Any:
    """A field that has to be given."""
    metadata = {"rule": rule, "meaning": meaning, "secret": secret, "variable": "", "served": None}
    return dataclasses.field(metadata=metadata)


def entries(
    default: tuple[T, ...], entry: type[T], least: int, most: int, meaning: str, *, served: bool = True
) -> tuple[T, ...]:
    """A field that is an array of tables."""
    metadata = {"entry": entry, "least": least, "most": most, "meaning": meaning, "default": default, "served": served}
    field: tuple[T, ...] = dataclasses.field(default=default, metadata=metadata)
    return field


def members(section: type) -> Mapping[str, Key | Entries | type]:
    """By name: the keys, arrays of tables and tables (dataclasses) of a section, in order; not the surfaces."""
    found: dict[str, Key | Entries | type] = {}
    for field in dataclasses.fields(section):
        about = field.metadata
        if "entry" in about:
            found[field.name] = Entries(field.name, **about)
        elif "rule" in about:
            found[field.name] = Key(field.name, default=field.default, **about)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = type(field.default)
    return found
