"""`banditd keys new`: an API key and its entry of the configuration."""

from __future__ import annotations

import argparse
import json
import secrets
from hashlib import sha256

from bandits.errors import UsageError
from service.settings import Key, KeySettings, members, toml

HELP = "make an API key"
EXAMPLE = "example:\n  banditd keys new shop --scopes decide,feedback"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command `new`."""
    commands = parser.add_subparsers(dest="keys_command", metavar="COMMAND", required=True)
    new = commands.add_parser(
        "new",
        help="print a new key once, and its entry of the configuration",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.add_argument("name", metavar="NAME", help="whose key it is")
    new.add_argument(
        "--scopes", default="decide,feedback", metavar="LIST", help="of decide, feedback, admin (decide,feedback)"
    )
    new.add_argument("--json", action="store_true", help="print {key, name, sha256, scopes}")


def run(args: argparse.Namespace) -> int:
    """Print a key of 256 random bits, which nothing keeps, and the [[keys]] entry with its hash."""
    secret = f"banditd_{secrets.token_urlsafe(32)}"
    given = {"name": args.name, "sha256": sha256(secret.encode()).hexdigest(), "scopes": args.scopes.split(",")}
    for name, member in members(KeySettings).items():
        if isinstance(member, Key):
            _check(member, given[name])
    if args.json:
        print(json.dumps({"key": secret, **given}))
        return 0
    entry = "\n".join(f"{name} = {toml(value)}" for name, value in given.items())
    print(f"{secret}\n\n[[keys]]\n{entry}")
    return 0


def _check(key: Key, value: object) -> None:
    try:
        key.rule.read(value)
    except ValueError:
        raise UsageError(f"{key.name} = {toml(value)}: must be {key.rule.allowed}") from None
