"""Off-policy evaluation in memory and streamed from Parquet: time, rate and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offline_eval import BanditLog, evaluate

N_ACTIONS = 10
FILE_ROWS = 10_000_000
ROW_GROUP = 1_000_000
FIRST_US = 1_700_000_000_000_000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ESTIMATORS = ("ips", "snips", "dr")


class Row(TypedDict):
    """One evaluation of IPS, SNIPS and DR with Cressie-Read intervals and every diagnosis.

    read      arrays: in memory, q given; parquet: a folder of files, which are read once for the survey, once for the
              cross-fitted ridge where DR is asked for, and once for the estimates
    seconds   arrays: median of evaluate(); parquet: of the whole command
    peak_mib  largest resident memory of the process, inputs included; of the largest one where there are several
    """

    read: str
    estimators: str
    rounds: int
    jobs: int
    seconds: float
    rounds_s: float
    peak_mib: float


def ope(
    in_memory: int = 1_000_000,
    streamed: Sequence[int] = (1_000_000, 10_000_000, 100_000_000),
    repeats: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Evaluate logs of so many rounds over 10 actions, each in a process of its own."""
    rows = [_in_memory(in_memory, repeats)]
    progress(f"in memory: {rows[0]['seconds']:.2f} s, peak {rows[0]['peak_mib']:.0f} MiB")
    with tempfile.TemporaryDirectory(prefix="banditd-ope-") as folder:
        for n in streamed:
            path = Path(folder) / str(n)
            write_log(path, n)
            plans = [("ips,snips", 1), ("ips,snips,dr", 1)]
            for estimators, jobs in [*plans, ("ips,snips,dr", 2)] if n == streamed[-1] else plans:
                rows.append(_streamed(path, n, estimators, jobs))
                progress("{read}, {estimators}, {rounds:,} rounds: {rounds_s:,.0f} a second".format(**rows[-1]))
    return rows


def write_log(folder: Path, n: int) -> None:
    """A log of n rounds as Parquet files of at most FILE_ROWS rows: users, times, two features, skewed propensities."""
    folder.mkdir()
    for number, start in enumerate(range(0, n, FILE_ROWS)):
        rng = np.random.default_rng(number)
        rows = min(FILE_ROWS, n - start)
        with pq.ParquetWriter(folder / f"{number:04d}.parquet", _batch(rng, 0, 0).schema) as writer:
            for at in range(0, rows, ROW_GROUP):
                writer.write_table(_batch(rng, start + at, min(ROW_GROUP, rows - at)))


def _batch(rng: np.random.Generator, start: int, n: int) -> pa.Table:
    share = np.arange(1.0, N_ACTIONS + 1)
    share /= share.sum()
    action = np.searchsorted(share.cumsum()[:-1], rng.random(n), side="right")
    features = rng.random((2, n))
    reward = (rng.random(n) < 0.05 + 0.1 * features[0] * (action % 3)).astype(np.float64)
    return pa.table(
        {
            "timestamp": pa.array(FIRST_US + 1000 * (start + np.arange(n)), pa.timestamp("us", tz="UTC")),
            "user": rng.integers(1 << 40, size=n),
            "action": action,
            "propensity": share[action],
            "reward": reward,
            "recency": features[0],
            "depth": features[1],
        }
    )


def _streamed(path: Path, n: int, estimators: str, jobs: int) -> Row:
    command = [str(Path(sys.executable).with_name("banditd")), "evaluate", str(path), "--policy", "uniform"]
    begin = time.perf_counter()
    peak = _run([*command, "--estimators", estimators, "--jobs", str(jobs), "--json"])[1]
    return _row("parquet", estimators, n, jobs, time.perf_counter() - begin, peak)


def _in_memory(n: int, repeats: int) -> Row:
    code = f"from load_tests.ope import in_memory; in_memory({n}, {repeats})"
    printed, peak = _run([sys.executable, "-c", code])
    return _row("arrays", ",".join(ESTIMATORS), n, 1, float(json.loads(printed)), peak)


def in_memory(n: int, repeats: int) -> None:
    """Print the median seconds of evaluate on n rounds; the first call, which loads the kernels, does not count."""
    rng = np.random.default_rng(0)
    logging, target, q = (rng.random((n, N_ACTIONS)) + floor for floor in (0.1, 0.05, 0.0))
    logging /= logging.sum(axis=1, keepdims=True)
    target /= target.sum(axis=1, keepdims=True)
    action = (logging.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, N_ACTIONS - 1)
    rows = np.arange(n)
    reward = (rng.random(n) < q[rows, action]).astype(np.float64)
    log = BanditLog(None, action, reward, logging[rows, action], N_ACTIONS, logging=logging)
    seconds = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        evaluate(log, target, ESTIMATORS, reward_model=q)
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(median(seconds[1:])))


def _run(command: Sequence[str]) -> tuple[str, float]:
    """Standard output and peak resident MiB of a command and the processes that it waited for."""
    with tempfile.TemporaryFile("w+") as printed:
        child = subprocess.Popen(command, stdout=printed, env=os.environ | ONE_THREAD)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)} exited with {child.returncode}")
        printed.seek(0)
        return printed.read(), usage.ru_maxrss / 1024


def _row(read: str, estimators: str, n: int, jobs: int, seconds: float, peak: float) -> Row:
    return Row(
        read=read, estimators=estimators, rounds=n, jobs=jobs, seconds=seconds, rounds_s=n / seconds, peak_mib=peak
    )
