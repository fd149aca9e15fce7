"""Imports point down, files stay short, and what is pure stays pure."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bandits", "service", "offline_eval", "load_tests")
MAY_IMPORT = {
    "bandits": {"bandits"},
    "service": {"service", "bandits"},
    "offline_eval": {"offline_eval", "bandits"},
    "load_tests": {"load_tests", "bandits", "offline_eval"},
}
"""load_tests speaks HTTP."""
IMPURE = {"socket", "asyncio", "threading", "time", "datetime", "random", "os", "pathlib", "subprocess", "logging"}
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports(path) if name.split(".")[0] in PACKAGES}
    up = {name for name in ours if name.split(".")[0] not in MAY_IMPORT[package]}
    assert up <= set()


@pytest.mark.parametrize("path", sorted((ROOT / "bandits").rglob("*.py")), ids=lambda path: path.name)
def test_bandits_knows_no_socket_file_or_clock(path):
    assert {name.split(".")[0] for name in imports(path)} & IMPURE == set()


def test_cupy_is_imported_in_one_place():
    with_cupy = [path.name for path in CODE if "cupy" in path.read_text() and "import_module" in path.read_text()]
    direct = [path for path in CODE if any(name.split(".")[0] == "cupy" for name in imports(path))]
    assert {path.name for path in direct} | set(with_cupy) == {"backend.py"}


def test_no_file_is_longer_than_400_lines():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, check=True
    )
    files = [ROOT / name for name in listed.stdout.decode().split()]
    assert {str(path): n for path in files if path.exists() and (n := path.read_text().count("\n")) > 400} == {}


def test_the_locks_name_no_index():
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "--index" not in text
