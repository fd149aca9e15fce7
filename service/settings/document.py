"""docs/configuration.md, written from the schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from service.settings.keys import Entries, Key, members
from service.settings.schema import Settings
from service.settings.show import toml
from service.settings.surface import SurfaceSettings

INTRODUCTION = """\
# Configuration

Written by `banditd config --markdown` from the schema in `service/settings`; a test keeps it current.

One TOML file, named by `--config FILE`; without it no file is read, and every key has its default. Flags win over the
environment, the environment over the file. A value that breaks its rule is refused even where another source overrides
it: one line with the path, the value and what is allowed, exit status 2. `banditd config [--config FILE]` prints every
key with its value and source (`--json`: a list of `{path, value, source}`).

**Environment.** `BANDITD_` and the path in upper case with `__` between its parts: `BANDITD_SERVER__PORT=9000`,
`BANDITD_SURFACES__HOME__SAMPLER__EPSILON=0.05`. Values are TOML; text that is no TOML value is taken as a string
(`BANDITD_SERVER__HOST=0.0.0.0`). Arrays of tables (`[[keys]]`, `[[surfaces.NAME.rewards]]`) stand in the file only.
Any other variable that starts with `BANDITD_` is refused, except those that Kubernetes sets beside a Service named
`banditd`.

**Secrets** never print. `BANDITD_RECEIPT_SECRET`, `BANDITD_RECEIPT_SECRET_PREVIOUS` and `BANDITD_USER_KEY` are read as
they stand, and each, like every key marked *secret*, may come from a file:
`BANDITD_RECEIPT_SECRET_FILE=/run/secrets/receipt`.
`BANDITD_KEYS="shop:decide+feedback:SECRET,..."` (or `BANDITD_KEYS_FILE`) takes the place of all `[[keys]]`.
`BANDITD_KEY` is the key that commands send to a `--url`.

**Flags.** `--host`, `--port`, `--workers` and `--data` set keys of `[server]`; `--kafka`, `--redis` and `--namespace`
those of `[distributed]`.

**Surfaces.** A surface exists once its table or one of its variables does; without any there is one, `default`. Names
are 1 to 128 of `a-z 0-9 _`. A request that names no surface goes to the first one. Sections that a surface's policy
does not use are checked and left alone.

**Not in this version** marks keys that are checked but that this version does not act on. `banditd serve` refuses
values of them that would change what is served: one line, exit status 2.
"""


def markdown() -> str:
    """The whole document: an introduction and one table per section."""
    return "\n".join([INTRODUCTION, *_section(Settings, ""), *_section(SurfaceSettings, "surfaces.NAME")]) + "\n"


def _section(section: type, path: str, brackets: str = "[]", served: bool = True) -> Iterator[str]:
    keys = [member for member in members(section).values() if isinstance(member, Key)]
    if not served:
        keys = [dataclasses.replace(key, served=()) for key in keys]
    if keys:
        yield f"## `{brackets[: len(brackets) // 2]}{path}{brackets[len(brackets) // 2 :]}`\n"
        yield f"{section.__doc__}\n"
        yield "| key | default | allowed | what it does |"
        yield "|---|---|---|---|"
        yield from (_line(key) for key in keys)
        yield ""
    for name, member in members(section).items():
        below = f"{path}.{name}".lstrip(".")
        if isinstance(member, Entries):
            yield from _section(member.entry, below, "[[]]", member.served)
        elif isinstance(member, type):
            yield from _section(member, below)


def _line(key: Key) -> str:
    default = "required" if key.default is dataclasses.MISSING else f"`{toml(key.default)}`"
    secret = " (*secret*)" if key.secret in ("never", "url") else ""
    variable = f"; `{key.variable}`" if key.variable else ""
    cells = (f"`{key.name}`{secret}", default, key.rule.allowed, key.meaning + variable + _limit(key))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _limit(key: Key) -> str:
    if key.served is None:
        return ""
    values = " and ".join(f"`{toml(value)}`" for value in key.served)
    return f". **Not in this version**{f': values other than {values}' if values else ''}"
