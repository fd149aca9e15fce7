"""Receipts over HTTP: taken as they were given out, while they live, by servers that have their key."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.records import Position, ReceiptContext, decode_receipt, encode_receipt
from service.receipts import Signer
from tests.service.harness import SURFACES, answered, refused, running

OLD, NEW = "0a" * 32, "0b" * 32
FRESH = f'[receipts]\nsecret = "{NEW}"\n'
ROTATING = f'[receipts]\nsecret = "{NEW}"\nsecret_previous = "{OLD}"\n'
SIGNER = Signer([bytes.fromhex(NEW)])
IMPRESSION = [{"kind": "impression"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("receipts") / "data", FRESH + SURFACES) as server:
        yield server


@pytest.fixture(scope="module")
def token(server):
    return server.recommend(surface="shop", items=["a", "b"], features={"x": 1.0, "y": 0.5})["receipt"]


def post(server, token, **more):
    return server.post("/v1/feedback", {"receipt": token, "events": IMPRESSION} | more)


def raw(token):
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


def text(raw_bytes):
    return urlsafe_b64encode(raw_bytes).rstrip(b"=").decode()


def test_secrets_rotate_over_restarts(tmp_path):
    """Old alone, then both, then the new one alone: receipts of the old one count until it is dropped."""
    data = tmp_path / "data"
    with running(data, f'[receipts]\nsecret = "{OLD}"\n') as server:
        old = server.recommend(items=["a"], event_id="e1")["receipt"]
        answered(post(server, old), 202)
    with running(data, ROTATING) as server:
        new = server.recommend(items=["b"])["receipt"]
        assert raw(new)[:5] == raw(SIGNER.seal(b""))[:5] != raw(old)[:5]
        for one in (old, new):
            answered(post(server, one), 202)
        answered(server.post("/v1/feedback", {"event_id": "e1", "events": IMPRESSION}), 202)
    with running(data, FRESH) as server:
        answered(post(server, new), 202)
        for body in ({"receipt": old}, {"event_id": "e1"}):
            problem = refused(server.post("/v1/feedback", body | {"events": IMPRESSION}), 400)
            assert "its key was retired" in problem["detail"]
        assert server.cells()["surface"]["impressions"] == 2


def test_a_flipped_bit_in_any_byte_is_refused(server, token):
    before = len(server.frames())
    whole = raw(token)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        refused(post(server, text(bytes(changed))), 400)
    assert len(server.frames()) == before


def test_a_flipped_bit_in_any_character_is_refused(server, token):
    """In the last one too, some of whose bits stand for nothing."""
    flipped = {
        token[:at] + chr(ord(token[at]) ^ 1 << bit) + token[at + 1 :] for at in range(len(token)) for bit in (0, 6)
    }
    flipped |= {token[:-1] + chr(ord(token[-1]) ^ 1 << bit) for bit in range(7)}
    for one in sorted(flipped):
        refused(post(server, one), 400)
    for padded in (token + "=", token + "==", token + "\n", token.replace("-", "+").replace("_", "/") + "A"):
        refused(post(server, padded), 400)


def test_every_cut_is_refused(server, token):
    for length in range(len(token)):
        problem = refused(post(server, token[:length]), 400)
        assert "cut" in problem["detail"] or "changed" in problem["detail"]


def test_it_lives_until_it_expires_and_no_longer(server, token, monkeypatch):
    expires_us = decode_receipt(SIGNER.open(token)).expires_us
    monkeypatch.setattr("service.feedback.time", SimpleNamespace(time_ns=lambda: 1000 * expires_us))
    answered(post(server, token), 202)
    monkeypatch.setattr("service.feedback.time", SimpleNamespace(time_ns=lambda: 1000 * (expires_us + 1)))
    assert "expired" in refused(post(server, token), 400)["detail"]


def test_the_life_is_ttl_s(tmp_path):
    with running(tmp_path / "data", FRESH + "ttl_s = 100\n") as server:
        receipt = decode_receipt(SIGNER.open(server.recommend(items=["a"])["receipt"]))
    assert receipt.expires_us - receipt.issued_us == 100 * 10**6
    assert abs(receipt.issued_us / 1e6 - time.time()) < 3600


def test_of_another_surface_is_refused(server, token):
    answered(post(server, token, surface="shop"), 202)
    assert "is of surface 'shop', not 'home'" in refused(post(server, token, surface="home"), 400)["detail"]


class TestSignedButMalformed:
    """Only a fault of a server that has the key makes these: 400 all the same, and no trace."""

    @pytest.fixture
    def good(self, token):
        return SIGNER.open(token)

    @pytest.fixture(autouse=True)
    def untouched(self, server):
        before = len(server.frames())
        yield
        assert len(server.frames()) == before

    def refused(self, server, body):
        assert "signed, but" in refused(post(server, SIGNER.seal(body)), 400)["detail"]

    def test_cut_before_it_was_signed(self, server, good):
        for length in range(len(good)):
            self.refused(server, good[:length])
        self.refused(server, good + b"\0")

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_any_bytes(self, server, data):
        """Never a fault of the server, whatever was signed."""
        body = data.draw(st.binary(max_size=200))
        assert post(server, SIGNER.seal(body)).status_code == 400

    def test_a_position_that_refers_to_no_context(self, server, good):
        receipt = decode_receipt(good)
        receipt.positions = (Position(1, "a", 1.0, ((7, b""),)),)
        self.refused(server, encode_receipt(receipt))

    def test_more_keys_or_bytes_than_any_decision_has(self, server, good):
        receipt = decode_receipt(good)
        receipt.contexts = (ReceiptContext(1, bytes(4 * 3000), bytes(4 * 3000)),)
        self.refused(server, encode_receipt(receipt))
        receipt = decode_receipt(good)
        receipt.positions = tuple(Position(i, "x" * 500, 1.0, ()) for i in range(100))
        self.refused(server, encode_receipt(receipt))

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_a_changed_byte_is_no_fault_of_the_server(self, server, token, data):
        """Some changes leave a receipt that counts, such as one in a weight: deferred events without any are sent."""
        body = bytearray(SIGNER.open(token))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        response = server.post("/v1/feedback", {"receipt": SIGNER.seal(bytes(body)), "events": []})
        assert response.status_code in (202, 400)
