"""The command `banditd`: finds the command that is named, runs it, and turns faults into one line and a status."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any, NoReturn

from bandits.errors import UsageError

__all__ = ["UsageError", "commands", "main"]

GROUP = "banditd.commands"
INTERRUPTED = 130
EXAMPLE = "example:\n  banditd serve --port 8080"


class Parser(argparse.ArgumentParser):
    """A parser whose faults are one line, like all others, and that takes -1e3 and -1,1 for values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def commands() -> dict[str, EntryPoint]:
    """The commands by name: each a module with HELP, EXAMPLE, add_arguments(parser) and run(args) -> exit status."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (sys.argv without it) and return its exit status.

    2 bad input, a refused start or a standard output that cannot be written, one line on stderr; 130 Ctrl-C; a closed
    pipe ends quietly.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    status = 0
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except UsageError as fault:
        name = f" {arguments[0]}" if arguments and not arguments[0].startswith("-") else ""
        print(f"banditd{name}: {_printable(' '.join(str(fault).splitlines()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as fault:
        # Commands turn the faults of files that they name into their own line.
        if fault.filename is not None or fault.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            raise
        _give_up_stdout()
        print(f"banditd {arguments[0]}: standard output: {fault.strerror}; nothing more is printed", file=sys.stderr)
        return 2
    return status


def _printable(text: str) -> str:
    """Without characters that steer a terminal, which ids of a file may hold."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def _give_up_stdout() -> None:
    """Let nothing more be written: the interpreter flushes once more when it ends, and would report the fault then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if name == "--version":
        print(f"banditd {version('banditd')}")
        return 0
    known = commands()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"commands are {', '.join(known)}"
        raise UsageError(f"no such command; {hint}")
    module = known[name].load()
    parser = Parser(
        prog=f"banditd {name}",
        description=module.HELP,
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        args = parser.parse_args(arguments[1:])
    except SystemExit as ended:  # --help, which argparse has printed
        return int(ended.code or 0)
    status: int = module.run(args)
    return status


def _overview() -> str:
    lines = [f"  {name:<12}{point.load().HELP}" for name, point in commands().items()]
    usage = "usage: banditd [--help] [--version] COMMAND ..."
    return "\n".join([usage, "", "commands:", *lines, "", "banditd COMMAND --help describes one", "", EXAMPLE])


if __name__ == "__main__":
    sys.exit(main())
