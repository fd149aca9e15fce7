import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from load_tests.client import Client
from load_tests.load import Plan, loader
from load_tests.server import ServerFailed, run, serve

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def url():
    with serve() as server:
        yield server.url


@contextmanager
def scripted(*connections: bytes) -> Iterator[str]:
    """A server that answers the first request of each connection with the bytes given, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def play() -> None:
            for answer in connections:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        thread = Thread(target=play)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_a_client_talks_to_a_server_over_one_connection(url):
    with Client(url) as client:
        assert client.get("/livez")[0] == 200
        status, content = client.post("/v1/recommend", {"items": ["a"], "n": 1})
        assert status == 200
        decision = json.loads(content)
        event = {"item": "a", "kind": "reward", "value": 1.0}
        assert client.post("/v1/feedback", {"receipt": decision["receipt"], "events": [event]}) == (
            202,
            b'{"accepted":1}',
        )
        assert client.post("/v1/recommend", b"{")[0] == 422
        assert client.put("/v1/surfaces/default/graph", b"no graph")[0] == 422


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    with scripted(OK, OK) as url, Client(url) as client:
        assert [client.get("/"), client.get("/")] == [(200, b"ok"), (200, b"ok")]


def test_an_answer_that_ends_early_is_an_error_and_not_asked_for_again():
    with (
        scripted(OK[:-1]) as url,
        Client(url) as client,
        pytest.raises(ConnectionError, match=r"GET http://.*/x: .*closed the connection within its answer"),
    ):
        client.get("/x")


def test_a_closed_connection_without_an_answer_is_an_error():
    with scripted(b"") as url, Client(url) as client, pytest.raises(ConnectionError, match="without an answer"):
        client.get("/x")


def test_bytes_that_are_not_http_are_an_error():
    with scripted(b"hello\r\n\r\n") as url, Client(url) as client, pytest.raises(ConnectionError, match="GET http"):
        client.get("/x")


def test_a_server_that_does_not_answer_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, timeout_s=0.05) as client, pytest.raises(TimeoutError, match=r"no answer within 0.05 s"):
            client.get("/x")


def test_other_addresses_than_plain_http_are_refused():
    with pytest.raises(ValueError, match="must be http://HOST:PORT, got 'https://localhost'"):
        Client("https://localhost")


def test_the_load_process_counts_answers_and_errors_by_status(url):
    with loader() as load:
        good = load.run(Plan(url, "/v1/recommend", ['{"items":["a","b"]}'], connections=4, requests=50))
        bad = load.run(Plan(url, "/v1/recommend", ['{"items":["a"]}', '{"n":0}'], connections=3, requests=10))
    assert (good.requests, good.errors) == (50, {})
    assert 0 < good.p50_ms <= good.p99_ms
    assert good.answer_bytes > 100
    assert (bad.requests, bad.errors) == (10, {"422": 5})


def test_a_server_that_refuses_to_start_says_why():
    story = r"(?s)ended with status 2 before it was ready.*server\.nonsense"
    with pytest.raises(ServerFailed, match=story), serve(config="[server]\nnonsense = 1\n"):
        pass


def test_a_server_that_ends_badly_is_reported():
    program = "import sys; print('it serves on http://127.0.0.1:1', file=sys.stderr, flush=True); sys.exit(3)"
    with pytest.raises(ServerFailed, match="ended with status 3"), run([sys.executable, "-c", program]) as server:
        server.process.wait()
