"""Signed receipts: what a client brings back so that feedback needs no look-up.

Token: base64url of version u8, key id (4), receipt bytes, the first 16 bytes of HMAC-SHA256 over all before them.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

TOKEN_VERSION = 1
_KEY_ID_BYTES, _MAC_BYTES = 4, 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES
MIN_SECRET_BYTES = 32


class ReceiptError(ValueError):
    """A token that this server did not sign, or not all of it."""


class Signer:
    """Seals receipts with the first secret, opens those of any of them.

    secrets   the current one, then the previous one while keys rotate; at least 32 bytes each
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        for secret in secrets:
            if len(secret) < MIN_SECRET_BYTES:
                raise ValueError(f"a receipt secret needs >= {MIN_SECRET_BYTES} bytes, got {len(secret)}")
        # Copied for each receipt: hmac.digest lets go of the interpreter, which costs 50 us beside a busy fold.
        self._hmacs = {key_id(secret): hmac.new(secret, digestmod=sha256) for secret in secrets}
        self._current = self._hmacs[key_id(secrets[0])]
        self._head = bytes((TOKEN_VERSION,)) + key_id(secrets[0])

    def seal(self, receipt: bytes) -> str:
        signed = self._head + receipt
        return _text(signed + _mac(self._current, signed))

    def open(self, token: str) -> bytes:
        """The receipt bytes of a token; ReceiptError says what is wrong with it."""
        try:
            raw = b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except ValueError as fault:
            raise ReceiptError("receipt is not base64url: it was cut or changed") from fault
        if _text(raw) != token:
            # Padding, or bits of the last character that no byte takes.
            raise ReceiptError("receipt is not the base64url that was given out: it was changed")
        if len(raw) < _HEAD_BYTES + _MAC_BYTES:
            raise ReceiptError(f"receipt is cut: {len(raw)} bytes")
        if raw[0] != TOKEN_VERSION:
            raise ReceiptError(f"receipt has version {raw[0]}, this server reads {TOKEN_VERSION}")
        keyed = self._hmacs.get(raw[1:_HEAD_BYTES])
        if keyed is None:
            raise ReceiptError(
                "receipt is signed with a key that this server does not have: forged, or its key was retired"
            )
        signed, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(_mac(keyed, signed), mac):
            raise ReceiptError("receipt's signature does not fit: forged, cut or changed")
        return signed[_HEAD_BYTES:]


def key_id(secret: bytes) -> bytes:
    """Public id of a secret, 4 bytes."""
    return sha256(b"banditd receipt key" + secret).digest()[:_KEY_ID_BYTES]


def _mac(keyed: hmac.HMAC, signed: bytes) -> bytes:
    code = keyed.copy()
    code.update(signed)
    return code.digest()[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


_TO_URL = bytes.maketrans(b"+/", b"-_")
