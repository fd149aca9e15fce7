"""Receipts, entries and frames survive their encoding, and damage is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.records import (
    Position,
    Receipt,
    ReceiptContext,
    RecordError,
    decode_frame,
    decode_receipt,
    encode_frame,
    encode_receipt,
    entry_keys,
    frame_append_us,
    frame_checksum,
    frame_topic,
)
from tests.bandits.strategies import encode_entry, logs, receipts

TOPIC = bytes(range(16))


@given(receipts())
def test_a_receipt_survives_its_encoding(receipt):
    assert decode_receipt(encode_receipt(receipt)) == receipt


@given(receipts(), st.data())
def test_a_cut_receipt_is_refused(receipt, data):
    encoded = encode_receipt(receipt)
    with pytest.raises(RecordError):
        decode_receipt(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(logs())
def test_entries_survive_a_frame(log):
    assert list(decode_frame(encode_frame([encode_entry(e) for e in log], TOPIC))) == log


@given(logs(), st.data())
def test_any_flipped_bit_of_a_frame_is_noticed(log, data):
    frame = bytearray(encode_frame([encode_entry(e) for e in log], TOPIC))
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(RecordError):
        frame_checksum(bytes(frame))


def test_a_frame_names_its_topic_and_keeps_an_imported_time():
    frame = encode_frame([], TOPIC)
    assert frame_topic(frame) == TOPIC
    assert frame_append_us(frame, 17) == 17
    assert frame_append_us(encode_frame([], TOPIC, original_append_us=5), 17) == 5


def test_keys_of_an_entry_by_hand():
    """Two positions, both in a context of 3 slots, one also in a named one of 2: 6 + 2 cells, 2 + 1 names, 10."""
    shared = ReceiptContext(1, b"\0" * 12, b"\0" * 12)
    feature = ReceiptContext(2, b"\0" * 8, b"\0" * 8, name="feature:x", arm=9)
    positions = (Position(1, "a", 1.0, ((0, b""), (1, b""))), Position(2, "b", 1.0, ((0, b""),)))
    assert entry_keys(positions, (shared, feature)) == 3 + 2 + 3 + 2 + 1 + 10


def test_the_bytes_of_a_receipt_are_fixed():
    """A released format: these bytes may only change together with RECEIPT_VERSION."""
    context = ReceiptContext(2, b"\1\0\0\0", b"\0\x80\0\0")
    receipt = Receipt(1, 2, 3, 4, 5, 6, 7, 8, "s", (9,), (context,), (Position(10, "i", 0.5),))
    header = "0100010101000300010000000000000002000000040000000500000000000000"
    header += "060000000000000007000000000000000800000000000000090000000173"
    body = "02000000000000000000000000000000000001000100000000800000"
    position = "0a00000000000000000000000000e03f01006901000000"
    assert encode_receipt(receipt).hex() == header + body + position
