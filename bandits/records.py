"""Receipts, log entries and frames as bytes: what the fold reads, and what evaluation needs.

All integers are little-endian and unaligned. The fold kernel parses the same layouts (bandits/kernels/fold.py).

receipt   header (HEADER), names u32 each, surface u8 length + UTF-8,
          contexts (table u64, arm u64, name length u16, name, slots u16, slot u32 each, q i32 each),
          positions (arm u64, propensity f64, id length u16, id, references u8,
          each reference: context u16, mask bytes u8, mask; no mask bytes: all slots)
entry     kind u8, body length u32, body; every body begins with receipt length u32, receipt
decision  body ends with the details (msgpack), which the fold does not read
events    body ends with count u16, events (position u8, kind u8, name u8, v i32, raw f64)
retire    alone in its frame; its receipt is empty; until i64, count u16, rows (table u64, arm u64, all u8) follow
frame     magic, version u16, checksum u64 of what follows, topic id (16), original append time i64 or -1, entries u16
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

RECEIPT_VERSION = 1
FRAME_VERSION = 1
FOLD_VERSION = 1
"""Changes when f would give another state for the same log."""

DEFERRED, NOLEARN = 1, 2
DECISION, EVENTS, RETIRE = 1, 2, 3
IMPRESSION, REWARD = 0, 1
NO_POSITION = 255
NULL_PROPENSITY = -1.0
"""Stands in records for a propensity that is not computable."""

MAX_POSITIONS = 100
MAX_REWARD_NAMES = 4
MAX_FRAME_ENTRIES = 256
MAX_FRAME_BYTES = 512 * 1024
MAX_FRAME_KEYS = 3000
MAX_ENTRY_BYTES = 256 * 1024
MAX_RECEIPT_BYTES = 32 * 1024
MAX_DECISION_KEYS = 2048
MAX_RETIRED = 2000
"""Rows of a retire entry: each makes one store key."""

HEADER = struct.Struct("<BBBBHHQIIQqqQ")
CONTEXT = struct.Struct("<QQH")
POSITION = struct.Struct("<QdH")
REFERENCE = struct.Struct("<HB")
EVENT = struct.Struct("<BBBid")
RETIRED = struct.Struct("<QQB")
_RETIRE_HEAD = struct.Struct("<IqH")
ENTRY = struct.Struct("<BI")
FRAME = struct.Struct("<2sHQ16sqH")
FRAME_MAGIC = b"BF"
ENTRY_RECEIPT_AT = ENTRY.size + 4
"""Where the receipt begins in a decision's or events' entry."""
_FRAME_SUMMED_FROM = 12
_ORDINAL_AT = struct.calcsize("<BBBBHHQII")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")


class RecordError(ValueError):
    """Bytes that are no record of this version."""


# Not frozen: a frozen dataclass takes twice as long to make, and ten of these are made for every slate.
@dataclass(slots=True, unsafe_hash=True)
class ReceiptContext:
    """Slots and weights that positions refer to.

    table   table key
    name    text of the arm all positions share (`feature:NAME`), or None: each position's own item
    slots   n uint32, little-endian bytes
    quanta  n int32 weights in units of 2**-15, little-endian bytes
    """

    table: int
    slots: bytes
    quanta: bytes
    name: str | None = None
    arm: int = 0


@dataclass(slots=True, unsafe_hash=True)
class Position:
    """One served item: its key, id, propensity given the earlier positions, and what its cells are.

    references   (index of a context, edge mask); an empty mask stands for all slots of the context
    """

    arm: int
    item: str
    propensity: float
    references: tuple[tuple[int, bytes], ...] = ((0, b""),)


@dataclass(slots=True, unsafe_hash=True)
class Receipt:
    """All that learning from a decision needs; its encoding is signed and handed to the client.

    The decision id is (boot, hour, partition, bit); bit is the first of the 1 + n * (1 + names) dedupe bits it owns.
    issued_us and expires_us are UTC microseconds; names are 32-bit hashes of the rewards' names, in order.
    """

    boot: int
    hour: int
    partition: int
    bit: int
    ordinal: int
    issued_us: int
    expires_us: int
    totals: int
    surface: str
    names: tuple[int, ...]
    contexts: tuple[ReceiptContext, ...] = ()
    positions: tuple[Position, ...] = ()
    flags: int = 0

    @property
    def decision_id(self) -> str:
        return f"{self.boot:016x}-{self.hour:x}-{self.partition:x}-{self.bit:x}"

    @property
    def deferred(self) -> bool:
        return bool(self.flags & DEFERRED)

    @property
    def nolearn(self) -> bool:
        return bool(self.flags & NOLEARN)


def encode_context(context: ReceiptContext) -> bytes:
    name = b"" if context.name is None else context.name.encode()
    count = _U16.pack(len(context.slots) // 4)
    return CONTEXT.pack(context.table, context.arm, len(name)) + name + count + context.slots + context.quanta


def encode_receipt(receipt: Receipt) -> bytes:
    """Bytes of a receipt, without its signature."""
    surface = receipt.surface.encode()
    parts = [
        HEADER.pack(
            RECEIPT_VERSION,
            receipt.flags,
            len(receipt.positions),
            len(receipt.names),
            len(receipt.contexts),
            receipt.partition,
            receipt.boot,
            receipt.hour,
            receipt.bit,
            receipt.ordinal,
            receipt.issued_us,
            receipt.expires_us,
            receipt.totals,
        ),
        struct.pack(f"<{len(receipt.names)}IB", *receipt.names, len(surface)),
        surface,
    ]
    parts += map(encode_context, receipt.contexts)
    for position in receipt.positions:
        item = position.item.encode()
        parts += (POSITION.pack(position.arm, position.propensity, len(item)), item, bytes((len(position.references),)))
        for context, mask in position.references:
            parts += (REFERENCE.pack(context, len(mask)), mask)
    return b"".join(parts)


def decode_receipt(data: bytes) -> Receipt:
    """The receipt that data encodes; RecordError where it encodes none."""
    try:
        return _decode_receipt(data)
    except (struct.error, IndexError, UnicodeDecodeError) as fault:
        raise RecordError(f"not a receipt of version {RECEIPT_VERSION}: {fault}") from fault


def _decode_receipt(data: bytes) -> Receipt:
    version, flags, n_positions, n_names, n_contexts, *numbers = HEADER.unpack_from(data)
    if version != RECEIPT_VERSION:
        raise RecordError(f"receipt has version {version}, this server reads {RECEIPT_VERSION}")
    partition, boot, hour, bit, ordinal, issued_us, expires_us, totals = numbers
    at = HEADER.size
    names = struct.unpack_from(f"<{n_names}I", data, at)
    at += 4 * n_names
    surface_end = at + 1 + data[at]
    surface = data[at + 1 : surface_end].decode()
    at = surface_end
    contexts = []
    for _ in range(n_contexts):
        table, arm, length = CONTEXT.unpack_from(data, at)
        at += CONTEXT.size
        name = data[at : at + length].decode() if length else None
        (count,) = _U16.unpack_from(data, at + length)
        at += length + 2
        contexts.append(
            ReceiptContext(table, data[at : at + 4 * count], data[at + 4 * count : at + 8 * count], name, arm)
        )
        at += 8 * count
    positions = []
    for _ in range(n_positions):
        arm, propensity, length = POSITION.unpack_from(data, at)
        at += POSITION.size + length
        item = data[at - length : at].decode()
        n_references = data[at]
        at += 1
        references = []
        for _ in range(n_references):
            context, size = REFERENCE.unpack_from(data, at)
            at += REFERENCE.size + size
            references.append((context, data[at - size : at]))
        positions.append(Position(arm, item, propensity, tuple(references)))
    if at != len(data):
        raise RecordError(f"receipt is {len(data)} bytes long, its content {at}")
    ids = (boot, hour, partition, bit, ordinal, issued_us, expires_us, totals)
    return Receipt(*ids, surface, names, tuple(contexts), tuple(positions), flags)


class Details(msgspec.Struct, array_like=True, frozen=True):
    """What evaluation reads of a decision beyond its receipt.

    candidates    ids at the first position, or None where graph and exclude give them
    scores        of each served item, in reward units
    distribution  of the first position over at most 64 candidates, else None
    versions      parameters, plan and policy that were used
    """

    policy: str
    mode: str
    sampler: tuple[str, float, int, float]
    parameters: str
    scores: list[float]
    user: bytes | None = None
    event_id: str | None = None
    candidates: list[str] | None = None
    graph: str | None = None
    exclude: list[str] = msgspec.field(default_factory=list)
    distribution: list[float] | None = None
    features: dict[str, float] | None = None
    item_features: list[dict[str, float] | None] | None = None
    plan: str | None = None
    policy_version: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An impression or a reward of one position.

    position  index in the receipt, or NO_POSITION: an impression of all positions
    value     weighted reward in units of 2**-15; raw as the client sent it
    """

    position: int
    kind: int
    name: int = 0
    value: int = 0
    raw: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A decoded log entry."""

    kind: int
    receipt: Receipt
    details: Details | None = None
    events: tuple[Event, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Retired:
    """What leaves: one arm of a table, or where arm is None all of it."""

    table: int
    arm: int | None = None


@dataclass(frozen=True, slots=True)
class Retire:
    """A retire entry: what receipts issued until then, which expire by until_us, say of these no longer counts."""

    rows: tuple[Retired, ...]
    until_us: int


_encode_details = msgspec.msgpack.Encoder().encode
_decode_details = msgspec.msgpack.Decoder(Details).decode


def encode_decision(receipt: bytes, details: Details) -> bytes:
    """Log entry of a decision; receipt as encode_receipt gives it."""
    tail = _encode_details(details)
    return b"".join((ENTRY.pack(DECISION, 4 + len(receipt) + len(tail)), _U32.pack(len(receipt)), receipt, tail))


def encode_events(receipt: bytes, events: Sequence[Event]) -> bytes:
    """Log entry of events that share one receipt."""
    packed = b"".join([EVENT.pack(e.position, e.kind, e.name, e.value, e.raw) for e in events])
    size = 4 + len(receipt) + 2 + len(packed)
    return b"".join((ENTRY.pack(EVENTS, size), _U32.pack(len(receipt)), receipt, _U16.pack(len(events)), packed))


def encode_retire(rows: Sequence[Retired], until_us: int) -> bytes:
    """Log entry that retires 1 to 2,000 arms or tables, see Retire; it takes a frame of its own."""
    if not 1 <= len(rows) <= MAX_RETIRED:
        raise ValueError(f"a retire entry has 1 to {MAX_RETIRED} rows, got {len(rows)}")
    packed = b"".join([RETIRED.pack(row.table, row.arm or 0, row.arm is None) for row in rows])
    body = _RETIRE_HEAD.pack(0, until_us, len(rows)) + packed
    return ENTRY.pack(RETIRE, len(body)) + body


def decode_retire(frame: bytes) -> Retire | None:
    """The retire entry that a frame consists of; None where it is any other frame."""
    if len(frame) < FRAME.size + ENTRY.size + _RETIRE_HEAD.size or frame[FRAME.size] != RETIRE:
        return None
    _, size = ENTRY.unpack_from(frame, FRAME.size)
    body = frame[FRAME.size + ENTRY.size :]
    length, until_us, count = _RETIRE_HEAD.unpack_from(body)
    wanted = _RETIRE_HEAD.size + RETIRED.size * count
    if not len(body) == size == wanted or length or until_us < 0 or not 1 <= count <= MAX_RETIRED:
        return None
    rows = list(RETIRED.iter_unpack(body[_RETIRE_HEAD.size :]))
    if any(whole > 1 or (whole and arm) for _, arm, whole in rows):
        return None
    return Retire(tuple(Retired(table, None if whole else arm) for table, arm, whole in rows), until_us)


def set_ordinal(record: bytearray, receipt_at: int, ordinal: int) -> None:
    """Give the receipt that begins at a byte of a record its ordinal."""
    at = receipt_at + _ORDINAL_AT
    record[at : at + 8] = ordinal.to_bytes(8, "little")


def entry_keys(positions: Sequence[Position], contexts: Sequence[ReceiptContext]) -> int:
    """Bound on the store keys that folding an entry of this decision can touch."""
    slots = sum(len(contexts[context].slots) // 4 for p in positions for context, _ in p.references)
    return slots + len(positions) + sum(c.name is not None for c in contexts) + 10


def encode_frame(entries: Sequence[bytes], topic_id: bytes, original_append_us: int = -1) -> bytes:
    """A log record of 1 to 256 entries of one partition."""
    head = FRAME.pack(FRAME_MAGIC, FRAME_VERSION, 0, topic_id, original_append_us, len(entries))
    summed = b"".join((head[_FRAME_SUMMED_FROM:], *entries))
    return head[:4] + blake2b(summed, digest_size=8).digest() + summed


def frame_checksum(frame: bytes) -> int:
    """The checksum that a frame carries; RecordError where its bytes do not give it."""
    if len(frame) < FRAME.size or frame[:2] != FRAME_MAGIC:
        raise RecordError(f"not a frame: {len(frame)} bytes beginning {frame[:4]!r}")
    _, version, checksum, _, _, _ = FRAME.unpack_from(frame)
    if version != FRAME_VERSION:
        raise RecordError(f"frame has version {version}, this fold reads {FRAME_VERSION}")
    found = int.from_bytes(blake2b(memoryview(frame)[_FRAME_SUMMED_FROM:], digest_size=8).digest(), "little")
    if found != checksum:
        raise RecordError(f"frame's checksum is {checksum:016x}, its bytes give {found:016x}")
    return int(checksum)


def frame_topic(frame: bytes) -> bytes:
    """Topic id that the frame's writer saw, 16 bytes."""
    return frame[_FRAME_SUMMED_FROM : _FRAME_SUMMED_FROM + 16]


def frame_append_us(frame: bytes, log_append_us: int) -> int:
    """The frame's append time: an imported frame keeps its original one. RecordError where it is cut."""
    if len(frame) < FRAME.size:
        raise RecordError(f"not a frame: {len(frame)} bytes beginning {frame[:4]!r}")
    original = int(FRAME.unpack_from(frame)[4])
    return log_append_us if original < 0 else original


def decode_frame(frame: bytes) -> Iterator[Entry | Retire]:
    """The entries of a frame; RecordError at the first that cannot be read."""
    retire = decode_retire(frame)
    try:
        yield from [retire] if retire else _entries(frame)
    except (struct.error, IndexError, UnicodeDecodeError, msgspec.DecodeError) as fault:
        raise RecordError(f"an entry cannot be read: {fault}") from fault


def _entries(frame: bytes) -> Iterator[Entry]:
    n_entries = FRAME.unpack_from(frame)[5]
    at = FRAME.size
    for _ in range(n_entries):
        kind, size = ENTRY.unpack_from(frame, at)
        body = frame[at + ENTRY.size : at + ENTRY.size + size]
        at += ENTRY.size + size
        (length,) = _U32.unpack_from(body)
        receipt, tail = decode_receipt(body[4 : 4 + length]), body[4 + length :]
        if kind == DECISION:
            yield Entry(kind, receipt, details=_decode_details(tail))
        elif kind == EVENTS:
            events = [Event(*EVENT.unpack_from(tail, 2 + i * EVENT.size)) for i in range(_U16.unpack_from(tail)[0])]
            yield Entry(kind, receipt, events=tuple(events))
        else:
            raise RecordError(f"entry has kind {kind}, this version reads {DECISION} and {EVENTS}")
