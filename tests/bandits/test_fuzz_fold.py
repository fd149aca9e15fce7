"""Damaged entries never crash the fold, and count once if at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_entries_are_skipped_or_count_once_and_no_kernel_reads_beyond_its_arrays(tmp_path, pytestconfig):
    """In a process whose kernels check every index; compiled for it alone, hence the cache of its own."""
    cases = pytestconfig.getoption("cases")
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-m", "tests.bandits.fuzz_fold", str(cases)]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert ended.returncode == 0, ended.stderr
    readable = int(ended.stdout)
    assert 0.02 * cases < readable < 0.9 * cases
