"""kill -9 under load: what was acknowledged counts exactly once, and the test notices a server where it does not."""

from __future__ import annotations

import json
import random
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.log_sqlite import SqliteLog
from tests.ledger import Contents, Ledger, contents
from tests.service.crashing import Crashing, Player
from tests.service.processes import ROOT, command, environment

EVENTS_S, PLAYERS = 2000, 2


def play(server: Crashing, kills: int, seed: int) -> Ledger:
    """Load over so many kills at random moments, some of them while the server is still starting."""
    rng, ledger = random.Random(seed), Ledger()
    players = [Player(server.url, ledger, seed + i, EVENTS_S / PLAYERS) for i in range(PLAYERS)]
    for player in players:
        player.start()
    for number in range(kills):
        time.sleep(rng.uniform(0.3, 1.5))
        server.kill()
        server.start()
        if number % 3 == 1:
            time.sleep(rng.uniform(0.0, 2.5))
            server.kill()
            server.start()
        server.wait_ready()
    for player in players:
        player.stop()
    return ledger


def account(server: Crashing) -> tuple[dict[str, Any], int]:
    """The server's own account once everything is folded: its cells and its count of lost decisions."""
    with httpx.Client(base_url=server.url) as client:
        while True:
            learned = client.get("/v1/surfaces/default/cells?limit=100000").json()
            if all(at["next"] == at["end"] for at in learned["partitions"]):
                break
        metrics = client.get("/metrics").text
    (lost,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("banditd_decisions_lost_total"))
    return learned, int(float(lost))


def sums(learned: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells without the names of their features, which a server has from requests since its start."""
    return [cell | {"feature": None} for cell in learned["cells"]]


def in_log(data: Path, partitions: int) -> Contents:
    with closing(SqliteLog(data / "log.sqlite", partitions)) as log:
        return contents(log)


def doctor(data: Path) -> tuple[int, dict[str, Any]]:
    words = command("doctor", "--data", str(data), "--json")
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=120)
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def test_every_acknowledged_event_counts_exactly_once_over_ten_kills(tmp_path, pytestconfig):
    with Crashing(tmp_path / "data") as server:
        ledger = play(server, kills=pytestconfig.getoption("kills"), seed=4)
        learned, lost = account(server)
        status, beside = doctor(server.data)
        assert (status, beside["ok"]) == (0, True), beside
        server.kill()
        status, killed = doctor(server.data)
        assert (status, killed["ok"]) == (0, True), killed
        server.start()
        server.wait_ready()
        assert sums(account(server)[0]) == sums(learned)
        assert server.stop() == 0
    assert doctor(server.data)[0] == 0
    found = in_log(server.data, len(learned["partitions"]))
    assert ledger.differences(found, learned, lost) == []
    print({**ledger.counts, "lost": lost})
    assert ledger.counts["resent"] > 0
    assert ledger.counts["acknowledged"] == ledger.counts["posted"]


@pytest.mark.parametrize("fault", ["early", "forgetful"])
def test_a_server_with_a_fault_is_noticed(tmp_path, fault):
    with Crashing(tmp_path / "data", fault) as server:
        ledger = play(server, kills=4, seed=4)
        learned, lost = account(server)
        assert server.stop() == 0
    found = in_log(server.data, len(learned["partitions"]))
    assert ledger.differences(found, learned, lost) != []
