"""Signed receipts: opened as sealed, by the servers that know the secret, and by nobody with a changed bit."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.receipts import ReceiptError, Signer, key_id

OLD, NEW, FOREIGN = bytes(range(32)), bytes(range(1, 33)), b"f" * 40
TOKEN_ALPHABET = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def raw(token: str) -> bytes:
    return urlsafe_b64decode(token + "=" * (-len(token) % 4))


def token_of(raw_bytes: bytes) -> str:
    return urlsafe_b64encode(raw_bytes).rstrip(b"=").decode()


@given(st.binary(max_size=300))
def test_a_sealed_receipt_opens_to_its_bytes(receipt):
    token = Signer([NEW]).seal(receipt)
    assert set(token) <= TOKEN_ALPHABET
    assert Signer([NEW]).open(token) == receipt


def test_a_token_is_version_key_id_receipt_and_half_a_mac():
    token = raw(Signer([NEW]).seal(b"receipt"))
    assert token[:5] == b"\x01" + key_id(NEW)
    assert token[5:-16] == b"receipt"
    assert len(token) == 1 + 4 + 7 + 16


@given(st.binary(max_size=60), st.data())
def test_a_flipped_bit_is_refused(receipt, data):
    signer = Signer([NEW, OLD])
    changed = bytearray(raw(signer.seal(receipt)))
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ReceiptError):
        signer.open(token_of(bytes(changed)))


@given(st.binary(max_size=60), st.data())
def test_a_cut_or_longer_token_is_refused(receipt, data):
    signer = Signer([NEW])
    token = signer.seal(receipt)
    with pytest.raises(ReceiptError):
        signer.open(token[: data.draw(st.integers(0, len(token) - 1))])
    with pytest.raises(ReceiptError):
        signer.open(token + data.draw(st.text(min_size=1, max_size=8)))


@given(st.text(max_size=80))
def test_any_text_is_refused(text):
    with pytest.raises(ReceiptError):
        Signer([NEW]).open(text)


def test_while_secrets_rotate_both_open_and_the_current_one_seals():
    rotating = Signer([NEW, OLD])
    assert rotating.open(Signer([OLD]).seal(b"old")) == b"old"
    sealed = rotating.seal(b"new")
    assert Signer([NEW]).open(sealed) == b"new"
    with pytest.raises(ReceiptError, match="key that this server does not have"):
        Signer([OLD]).open(sealed)


def test_a_retired_or_foreign_key_is_named():
    for secret in (OLD, FOREIGN):
        with pytest.raises(ReceiptError, match="forged, or its key was retired"):
            Signer([NEW]).open(Signer([secret]).seal(b"receipt"))


def test_a_known_key_id_without_its_secret_is_not_enough():
    forged = bytearray(raw(Signer([FOREIGN]).seal(b"receipt")))
    forged[1:5] = key_id(NEW)
    with pytest.raises(ReceiptError, match="signature does not fit"):
        Signer([NEW]).open(token_of(bytes(forged)))


def test_another_version_is_named():
    later = bytearray(raw(Signer([NEW]).seal(b"receipt")))
    later[0] = 2
    with pytest.raises(ReceiptError, match="version 2, this server reads 1"):
        Signer([NEW]).open(token_of(bytes(later)))


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match=">= 32 bytes, got 31"):
        Signer([NEW, bytes(31)])
