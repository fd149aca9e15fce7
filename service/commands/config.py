"""`banditd config`: every key with its value and where the value comes from."""

from __future__ import annotations

import argparse
import json

from service.commands.flags import add_server_flags, load_settings
from service.settings import rows
from service.settings.document import markdown

HELP = "print every key of the configuration with its value and source"
EXAMPLE = "example:\n  BANDITD_SERVER__PORT=9000 banditd config --config banditd.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the server's flags, --json and --markdown."""
    add_server_flags(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a list of {path, value, source}")
    output.add_argument("--markdown", action="store_true", help="print the reference of all keys instead")


def run(args: argparse.Namespace) -> int:
    """Print the configuration. Raises UsageError where it is refused."""
    if args.markdown:
        print(markdown(), end="")
        return 0
    listed = list(rows(load_settings(args)))
    if args.json:
        print(json.dumps([{"path": row.path, "value": row.value, "source": row.source} for row in listed], indent=1))
    else:
        print("\n".join(row.line for row in listed))
    return 0
