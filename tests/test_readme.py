"""What the README shows is what happens."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from load_tests.server import serve

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
CHANGING = {"decision_id", "receipt", "params_version", "params_age_ms", "id", "propensity"}
CHANGING |= {"graph_version", "slot_key", "generation", "key", "sha256", "reward", "regret", "upper_bound"}
"""Fields whose values differ from run to run."""


def steps() -> list[tuple[str, str]]:
    """The commands in their order, each with the answer shown under it."""
    found = []
    for block in CONSOLE:
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.startswith(("curl", "banditd")):
                found.append((command, shown.strip()))
    return found


def shape(value: object, name: str = "") -> object:
    if isinstance(value, dict):
        return {key: shape(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner, name) for inner in value]
    return type(value).__name__ if name in CHANGING else value


@pytest.fixture
def port(tmp_path):
    with serve(data=tmp_path / "banditd-data") as server:
        yield server.url.rsplit(":", 1)[1]


def write_embeddings(path: Path, n: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    pq.write_table(pa.table({"id": [f"{path.stem}-{i}" for i in range(n)], "embedding": vectors.tolist()}), path)


def test_the_commands_answer_as_shown(port, tmp_path):
    """Every answer has at least the fields shown, and their values where these do not change from run to run."""
    assert len(steps()) >= 4
    write_embeddings(tmp_path / "items.parquet", 500, seed=1)
    write_embeddings(tmp_path / "users.parquet", 2000, seed=2)
    for command, shown in steps():
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(":8080", f":{port}")],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answer, expected = shape(json.loads(ran.stdout)), shape(json.loads(shown))
        assert isinstance(answer, dict)
        assert isinstance(expected, dict)
        assert answer | expected == answer, command


def test_the_first_screen_is_one_sentence_two_commands_two_calls_and_a_diagram():
    first = README.split("\n## ")[0]
    assert re.findall(r"^\$ (make \w+|curl)", first, re.MULTILINE) == ["make serve", "make test", "curl", "curl"]
    assert first.count("```text") == 1


def test_python_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    runner = doctest.DocTestRunner()
    parser = doctest.DocTestParser()
    for block in blocks:
        runner.run(parser.get_doctest(block, {}, "README.md", "README.md", 0))
    assert runner.summarize().failed == 0


def test_every_command_named_is_a_target_or_a_command():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (\w+)`|\$ make (\w+)", README)) <= {(t, "") for t in targets} | {
        ("", t) for t in targets
    }
    scripts = (ROOT / "pyproject.toml").read_text().split('"banditd.commands"]')[1].split("[")[0]
    commands = set(re.findall(r"^(\w+) =", scripts, re.MULTILINE))
    assert set(re.findall(r"banditd (\w+)", " ".join(re.findall(r"`(banditd [^`]*)`", README)))) <= commands


def test_files_and_links_named_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_measured_tables_are_those_that_bench_wrote():
    results = "\n".join(path.read_text() for path in sorted((ROOT / "load_tests" / "results").glob("*.md")))
    measured = README.split("## Measured")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\|\n)+", measured, re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        assert table in results, table
