"""banditd doctor beside a running server, after its death, and over HTTP."""

from __future__ import annotations

import json
import signal
import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest

from service import cli
from service.doctor.checks import examine
from service.doctor.registry import SERVER
from service.doctor.server import Server
from tests.service.directories import take_snapshot
from tests.service.harness import running
from tests.service.processes import serving

READY = {"status": "ready", "degraded": [], "halted": []}


def doctor(capsys, *arguments):
    """Exit status and the faults of `banditd doctor --json`."""
    status = cli.main(["doctor", *arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    found = {check["name"]: check["detail"] for check in document["checks"] if not check["ok"]}
    assert status == (0 if document["ok"] else 1)
    assert document["ok"] == (not found)
    return status, found


def details(capsys, *arguments):
    cli.main(["doctor", *arguments, "--json"])
    return {check["name"]: check["detail"] for check in json.loads(capsys.readouterr().out)["checks"]}


def test_beside_a_server_under_load_that_checkpoints_and_trims(tmp_path, capsys):
    """Traffic from another thread the whole time; each turn the state stands elsewhere, and the log is cut."""
    data, ended = tmp_path / "data", threading.Event()
    with running(data, "[server]\npartitions = 2\n") as server:

        def load():
            number = 0
            while not ended.is_set():
                number += 1
                server.reward(server.recommend(items=["a", "b", "c"], user=f"u{number % 50}"), 1.0)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            stands = []
            for turn in range(6):
                while sum(u.meta.next for u in server.node.updaters) < 40 * (turn + 1):
                    ended.wait(0.005)
                server.node.data.store.checkpoint()
                if turn >= 2:
                    snapshot = take_snapshot(data)
                    for partition in range(2):
                        at = server.node.data.store.checkpointed(partition)
                        (frame,) = server.node.data.log.read(partition, at - 1, 1)
                        server.node.data.log.trim(partition, frame.append_us)
                assert doctor(capsys, "--data", str(data)) == (0, {})
                stands.append(details(capsys, "--data", str(data))["state"])
        finally:
            ended.set()
            thread.join()
        assert all(snapshot.suffix in said for said in stands[2:])
        assert len(set(stands)) == 6
    assert doctor(capsys, "--data", str(data)) == (0, {})


def test_after_kill_9(tmp_path, capsys):
    with serving(tmp_path / "data") as server:
        for _ in range(20):
            decision = server.post("/v1/recommend", {"items": ["a"]}).json()
            server.post("/v1/feedback", {"receipt": decision["receipt"], "events": [{"kind": "reward", "value": 1.0}]})
        assert doctor(capsys, "--data", str(tmp_path / "data")) == (0, {})
        server.end(signal.SIGKILL)
    assert doctor(capsys, "--data", str(tmp_path / "data")) == (0, {})
    with serving(tmp_path / "data") as again:
        assert details(capsys, "--data", str(tmp_path / "data"))["owner"] == "a server runs on it"
        assert doctor(capsys, "--url", again.url) == (0, {})
        assert list(details(capsys, "--url", again.url)) == list(SERVER)
        assert again.end(signal.SIGTERM) == (0, "")
    assert doctor(capsys, "--data", str(tmp_path / "data")) == (0, {})
    assert details(capsys, "--data", str(tmp_path / "data"))["state"].endswith("frames give what is stored")


def test_a_server_that_is_not_there(capsys):
    status, found = doctor(capsys, "--url", "http://127.0.0.1:1")
    assert status == 1
    assert set(found) == set(SERVER)
    assert found["live"].startswith("http://127.0.0.1:1")


def test_a_url_that_is_none(capsys):
    assert cli.main(["doctor", "--url", "http://[::"]) == 2
    assert capsys.readouterr().err.startswith("banditd doctor: --url http://[::: ")


def asked(document, status=200, date=None, clock_s=0.0, live=200):
    """What the checks find wrong with a server that answers like this."""

    def answer(request):
        headers = {} if date is None else {"date": date}
        if request.url.path == "/livez":
            return httpx.Response(live, json={"status": "ok"}, headers=headers)
        return httpx.Response(status, content=document if isinstance(document, bytes) else json.dumps(document))

    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://server")
    with client:
        found = examine(SERVER, Server(client, lambda: clock_s))
    return {check.name: check.detail for check in found if not check.ok}


def test_what_a_server_says_of_itself_becomes_checks():
    assert asked(READY) == {}
    starting = READY | {"status": "starting"}
    assert asked(starting, 503) == {"ready": "http://server/readyz: answered 503, starting; wait, or see its messages"}
    assert asked(READY | {"degraded": ["log: appends fail"]}) == {"degraded": "log: appends fail"}
    assert asked(READY | {"halted": ["halted: frame 1 is damaged"]}) == {"halted": "halted: frame 1 is damaged"}
    assert asked(READY, live=500)["live"] == "http://server/livez: answered 500; restart it"


@pytest.mark.parametrize("document", [b"<html>", b"[]", b'{"status": "ok"}'])
def test_something_else_than_banditd(document):
    assert set(asked(document)) == {"ready", "degraded", "halted"}


@pytest.mark.parametrize(("offset_s", "names"), [(300, set()), (-300, set()), (302, {"clock"}), (-302, {"clock"})])
def test_clocks_that_differ(offset_s, names):
    date = format_datetime(datetime.fromtimestamp(1_700_000_000 + offset_s, UTC), usegmt=True)
    found = asked(READY, date=date, clock_s=1_700_000_000.0)
    assert set(found) == names
    assert all(f"the server's clock is {offset_s:+d} s" in detail for detail in found.values())


def test_a_date_that_is_none():
    assert asked(READY, date="yesterday") == {"clock": "the server's Date header cannot be read: 'yesterday'"}
