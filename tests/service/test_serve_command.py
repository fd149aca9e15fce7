"""banditd serve: a refused start is one line and status 2, an asked-for end is status 0."""

from __future__ import annotations

import os
import signal
import socket

import httpx
import pytest

from service import cli
from service.commands import serve as module
from tests.service.processes import serve, serving


def refusal(arguments, capsys):
    """The one line that a refused start leaves on stderr."""
    assert cli.main(["serve", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("banditd serve: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No variable of banditd is set, and the default data folder is a temporary one."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BANDITD_")]:
        monkeypatch.delenv(name)


def test_help_ends_with_an_example(capsys):
    assert cli.main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--port" in out
    assert module.EXAMPLE in out
    assert module.EXAMPLE.startswith("banditd serve ")


def test_a_port_in_use(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(["--port", str(port)], capsys)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another by --port" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[server]\nport = 70000\n", "server.port"),
        ("[server\n", "bad.toml"),
        ("[surfaces.home]\ncolour = 1\n", "surfaces.home.colour"),
        ("[surfaces.home.sampler]\ntemperature = 0\n", "surfaces.home.sampler.temperature"),
        ('[surfaces.home]\npolicy = "periodic"\n', "surfaces.home.policy"),
        ("[surfaces.home]\nhalf_life_s = 60\n", "surfaces.home.half_life_s"),
        ("[server]\nworkers = 2\n", "server.workers = 2: not in this version; leave it at 1"),
        ('[receipts]\nsecret = "00"\n', "receipts.secret"),
    ],
)
def test_a_bad_configuration(toml, says, tmp_path, capsys):
    (tmp_path / "bad.toml").write_text(toml)
    assert says in refusal(["--config", "bad.toml"], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "x"], "server.port"),
        (["--config", "none.toml"], "none.toml"),
        (["--kafka", "127.0.0.1:9092"], "distributed"),
        (["--redis", "redis://127.0.0.1:6379/0"], "distributed"),
        (["--data", ""], "server.data"),
        (["--colour"], "--colour"),
    ],
)
def test_a_bad_flag(arguments, says, capsys):
    assert says in refusal(arguments, capsys)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_an_address_beyond_loopback(host, capsys, tmp_path):
    line = refusal(["--host", host, "--port", "0"], capsys)
    assert "loopback only" in line
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    for data, says in [(tmp_path / "file", "cannot be used as data directory"), (tmp_path / "file" / "x", "cannot be")]:
        ended = serve("--port", "0", "--data", str(data))
        assert ended.returncode == 2
        assert says in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_second_server_on_one_data_folder(tmp_path):
    with serving(tmp_path / "data") as first:
        ended = serve("--port", "0", "--data", str(tmp_path / "data"))
        assert ended.returncode == 2
        assert ended.stderr.startswith("banditd serve: ")
        assert "another server owns this data directory" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert first.post("/v1/recommend", {"items": ["a"]}).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_end_says_nothing_and_keeps_what_it_answered(tmp_path, number):
    with serving(tmp_path / "data") as server:
        decision = server.post("/v1/recommend", {"items": ["a", "b"]}).json()
        event = {"kind": "reward", "item": "a", "value": 1.0}
        answer = server.post("/v1/feedback", {"receipt": decision["receipt"], "events": [event]})
        assert answer.status_code == 202
        assert server.end(number) == (0, "")
    with serving(tmp_path / "data") as again:
        learned = httpx.get(f"{again.url}/v1/surfaces/default").json()
        assert (learned["impressions"], learned["reward"]) == (2, 1.0)


def test_a_killed_server_keeps_what_it_acknowledged(tmp_path):
    """Feedback is answered once it is in the log: decision and reward are there after a kill -9."""
    with serving(tmp_path / "data") as server:
        for _ in range(20):
            decision = server.post("/v1/recommend", {"items": ["a"]}).json()
            event = {"kind": "reward", "value": 1.0}
            server.post("/v1/feedback", {"receipt": decision["receipt"], "events": [event]})
        server.end(signal.SIGKILL)
    with serving(tmp_path / "data") as again:
        learned = httpx.get(f"{again.url}/v1/surfaces/default").json()
        assert (learned["impressions"], learned["reward"]) == (20, 20.0)


def test_a_log_that_does_not_belong_to_the_state_ends_with_status_4(tmp_path):
    """The log was deleted: what was learned from it cannot be trusted to be all."""
    with serving(tmp_path / "data") as server:
        server.post("/v1/recommend", {"items": ["a"]})
        assert server.end(signal.SIGTERM) == (0, "")
    for path in (tmp_path / "data").glob("log.sqlite*"):
        path.unlink()
    ended = serve("--port", "0", "--data", str(tmp_path / "data"))
    assert ended.returncode == 4
    assert ended.stderr.startswith("halted: state is of log ")
    assert ended.stderr.count("\n") == 1
