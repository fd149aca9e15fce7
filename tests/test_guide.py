"""What docs/off-policy-evaluation.md shows is what happens."""

from __future__ import annotations

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from load_tests.server import serve
from offline_eval.estimators import ESTIMATORS
from offline_eval.intervals import METHODS

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "off-policy-evaluation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")
DRAWN = re.compile("[├─●┤┊]")


@dataclass(frozen=True)
class Ran:
    """A command of the guide, what is shown under it, and what it did."""

    command: str
    shown: str
    status: int
    output: str


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-uo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def played(block: str, folder: Path) -> list[Ran]:
    ran = []
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        done = bash(command, folder)
        ran.append(Ran(command, shown, done.returncode, done.stdout))
    return ran


def checked(block: str, names: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The names after a block of Python, and how many of its lines answered otherwise than shown."""
    test = doctest.DocTestParser().get_doctest(block, names, "guide", "off-policy-evaluation.md", 0)
    failed = doctest.DocTestRunner().run(test, clear_globs=False).failed
    return test.globs, failed


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """The folder in which all blocks ran in their order, the commands, and the failures of the Python."""
    folder = tmp_path_factory.mktemp("guide")
    shutil.copytree(ROOT / "tests" / "data" / "obd", folder / "obd")
    ran: list[Ran] = []
    names: dict[str, Any] = {}
    failures = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, block in BLOCKS:
            if language == "console":
                ran += played(block, folder)
            elif language == "python":
                names, failed = checked(block, names)
                failures += failed
    return folder, ran, failures


def masked(text: str) -> str:
    """Without what is drawn, every number as #, any white space as one blank."""
    return " ".join(NUMBER.sub("#", DRAWN.sub(" ", text)).split())


def missing(line: str, output: str) -> bool:
    """Whether any part of a shown line, cut at its `...`, is not in what was printed."""
    return any(masked(part) not in masked(output) for part in line.split("..."))


def test_the_commands_end_and_answer_as_shown(guide):
    """Numbers may differ from those shown, nothing else may."""
    _, ran, _ = guide
    assert len(ran) >= 15
    for one in ran:
        wanted = re.findall(r"^# exit (\d+)$", one.shown, re.MULTILINE)
        assert one.status == int(wanted[0] if wanted else 0), (one.command, one.output)
        lines = [line for line in one.shown.splitlines() if not line.startswith("# exit ")]
        assert [line for line in lines if missing(line, one.output)] == [], (one.command, one.output)


def test_a_line_that_was_not_printed_is_missed_whatever_its_numbers():
    assert not missing("ips  0.5  [0.1, 0.9]", "logged 1\nips 0.52 [0.11, 0.93] ├──●──┤")
    assert not missing("refused: ... few rows: ...", "refused: the log; few rows: 3\n")
    assert missing("gate passed", "gate failed")


def test_the_python_answers_as_shown(guide):
    assert guide[2] == 0


def test_every_command_begins_with_banditd(guide):
    assert {one.command.split()[0] for one in guide[1]} == {"banditd"}


def test_the_policy_learned_is_served_as_shown(guide):
    folder = guide[0]
    config = next(block for language, block in BLOCKS if language == "toml")
    script = next(block for language, block in BLOCKS if language == "sh" and "serve" in block)
    (folder / "banditd.toml").write_text(config, encoding="utf-8")
    started, rest = script.split("\n", 1)
    assert started.startswith("banditd serve")
    with serve(data=folder / "banditd-data", config=config) as server:
        done = bash("set -e\n" + rest.replace("http://127.0.0.1:8080", server.url), folder)
    assert done.returncode == 0, done.stdout
    uploaded, decided, exported = re.findall(r"\{.*?\}(?=\{|ads-|\n|$)|ads-served.*", done.stdout)
    learned = json.loads((folder / "policy.json").read_bytes())
    assert json.loads(uploaded)["estimate"] == learned["estimate"]
    assert json.loads(decided)["policy_version"] == json.loads(uploaded)["policy_version"]
    assert 0.02 <= json.loads(decided)["propensity"] <= 1
    assert exported == "ads-served.parquet: 1 rows of 1 decisions"


def test_the_gate_in_ci_tells_bad_input_from_a_failed_gate(guide):
    script = next(block for language, block in BLOCKS if language == "sh" and "--gate" in block)
    done = bash(script, guide[0])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (2, "bad input")


def test_every_estimator_and_interval_has_its_row():
    rows = " ".join(line for line in GUIDE.splitlines() if line.startswith("|"))
    assert {name for name in [*ESTIMATORS, *METHODS] if f"`{name}`" not in rows} == set()


def test_links_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target
