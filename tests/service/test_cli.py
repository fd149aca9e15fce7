"""The command line: finding commands, exit statuses, one line per fault."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import SimpleNamespace

import pytest

import service.commands
from bandits.errors import UsageError
from service import cli
from tests.service.harness import running
from tests.service.processes import command, environment

ROOT = Path(__file__).parents[2]


class Point:
    """An entry point that counts how often it is loaded."""

    def __init__(self, name, run):
        self.name, self.loads = name, 0
        self.module = SimpleNamespace(
            HELP=f"does {name}", EXAMPLE=f"example:\n  banditd {name}", add_arguments=self.arguments, run=run
        )

    @staticmethod
    def arguments(parser):
        parser.add_argument("--count", type=int, default=0)

    def load(self):
        self.loads += 1
        return self.module


def raising(fault):
    def run(args):
        raise fault

    return run


@pytest.fixture
def points(monkeypatch):
    runs = {
        "count": lambda args: args.count,
        "refuse": raising(UsageError("a.toml: two\nlines")),
        "stop": raising(KeyboardInterrupt()),
        "fail": raising(RuntimeError("a defect")),
    }
    known = {name: Point(name, run) for name, run in runs.items()}
    monkeypatch.setattr(cli, "commands", lambda: known)
    return known


def test_only_the_named_command_is_loaded_and_its_status_returned(points):
    assert cli.main(["count", "--count", "3"]) == 3
    assert {name: point.loads for name, point in points.items()} == {"count": 1, "refuse": 0, "stop": 0, "fail": 0}


def test_arguments_come_from_the_process(points, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["banditd", "count", "--count", "4"])
    assert cli.main() == 4


def test_help_lists_every_command(points, capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name:<12}does {name}\n" in out for name in points)
    assert cli.main([]) == 2


def test_help_of_a_command_ends_with_its_example(points, capsys):
    assert cli.main(["count", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: banditd count")
    assert out.endswith("example:\n  banditd count\n")


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"banditd {version('banditd')}\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["refuse"], "banditd refuse: a.toml: two lines"),
        (["cuont"], "banditd cuont: no such command; did you mean count?"),
        (["zzz"], "banditd zzz: no such command; commands are count, refuse, stop, fail"),
        (["--wrong"], "banditd: no such command; commands are count, refuse, stop, fail"),
        (
            ["count", "--count", "x"],
            "banditd count: argument --count: invalid int value: 'x' (see banditd count --help)",
        ),
        (["count", "--cou", "1"], "banditd count: unrecognized arguments: --cou 1 (see banditd count --help)"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_status_2(words, line, points, capsys):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{line}\n")


def test_ctrl_c_is_130(points):
    assert cli.main(["stop"]) == 130


def test_a_defect_is_not_hidden(points):
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["fail"])


def test_a_closed_pipe_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from service.cli import main; sys.exit(main(['--version']))"
    ended = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, timeout=60)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["banditd.commands"]


@pytest.mark.parametrize("name", LISTED)
def test_every_entry_point_is_a_command_with_help_and_example(name):
    module = EntryPoint(name, LISTED[name], "banditd.commands").load()
    assert module.HELP
    assert "\n" not in module.HELP
    assert f"banditd {name}" in module.EXAMPLE
    module.add_arguments(argparse.ArgumentParser())
    assert callable(module.run)


def test_every_command_module_is_an_entry_point():
    found = {f"service.commands.{info.name}" for info in pkgutil.iter_modules(service.commands.__path__)}
    commands = {name for name in found if hasattr(importlib.import_module(name), "run")}
    assert {value for value in LISTED.values() if value.startswith("service.")} == commands


def test_a_standard_output_that_is_full_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command("config"), stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    assert ended.returncode == 2
    assert ended.stderr == "banditd config: standard output: No space left on device; nothing more is printed\n"


def test_a_table_into_a_closed_pipe_ends_quietly(tmp_path):
    with running(tmp_path / "data") as server:
        server.recommend(items=[f"item{i}" for i in range(50)])
        server.settle()
    words = command("cells", "--data", str(tmp_path / "data"))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        ended = subprocess.run(words, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment())
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("key", ["ké", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key, monkeypatch, capsys):
    monkeypatch.setenv("BANDITD_KEY", key)
    for name in ("cells", "doctor"):
        assert cli.main([name, "--url", "http://127.0.0.1:9"]) == 2
        assert capsys.readouterr().err.endswith(
            "BANDITD_KEY: must be printable ASCII, as `banditd keys new` prints it\n"
        )
