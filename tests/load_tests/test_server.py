"""Server processes of tests and measurements: what is said where one ends too early."""

from __future__ import annotations

import sys

import pytest

from load_tests.client import Client
from load_tests.server import ServerFailed, run

DYING = """
import socket, sys, time
listening = socket.create_server(("127.0.0.1", 0))
print(f"it serves on http://127.0.0.1:{listening.getsockname()[1]}", file=sys.stderr, flush=True)
listening.accept()[0].close()
listening.close()
time.sleep(0.3)
sys.exit("out of luck")
"""
LIVING = DYING.replace("time.sleep(0.3)", "time.sleep(600)")


def test_a_request_that_fails_as_the_server_ends_shows_its_stderr():
    """The connection is lost 0.3 s before the process ends with status 1."""
    with (
        pytest.raises(ServerFailed, match=r"ended with status 1 while in use; its stderr:\n(.*\n)*out of luck"),
        run([sys.executable, "-c", DYING]) as server,
        Client(server.url) as client,
    ):
        client.get("/")


def test_a_fault_of_its_own_is_raised_while_the_server_lives():
    with (
        pytest.raises(ConnectionError),
        run([sys.executable, "-c", LIVING]) as server,
        Client(server.url) as client,
    ):
        client.get("/")


def test_a_server_that_does_not_start_shows_its_stderr():
    with (
        pytest.raises(ServerFailed, match=r"ended with status 1 before it was ready; its stderr:\nno port"),
        run([sys.executable, "-c", "import sys; sys.exit('no port')"]),
    ):
        pytest.fail("it was ready")
