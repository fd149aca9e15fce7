"""Folds damaged entries in frames whose checksum fits: `python -m tests.bandits.fuzz_fold CASES`.

The test runs it with NUMBA_BOUNDSCHECK=1, under which a kernel that reads beyond an array raises instead.
"""

from __future__ import annotations

import contextlib
import random
import sys

import numpy as np

from bandits.mirror import Mirror
from bandits.names import arm_key
from bandits.records import (
    ENTRY,
    Details,
    Event,
    Position,
    Receipt,
    ReceiptContext,
    RecordError,
    decode_frame,
    decode_receipt,
    encode_decision,
    encode_events,
    encode_frame,
    encode_receipt,
)

NOW_US = 1_700_000_000_000_000
TOPIC = bytes(16)
EXTREMES = [bytes(8), b"\xff" * 8, b"\x01" + bytes(7), b"\x00\x80", b"\xff\x7f", b"\xff\xff\xff\x7f"]
DETAILS = Details("diag_linucb", "explore", ("greedy", 1.0, 1, 0.0), "", [0.0])


def some_receipt(rng: random.Random) -> Receipt:
    """Any receipt that a server could give, and some that none would."""
    contexts = []
    for _ in range(rng.randrange(1, 4)):
        n = rng.randrange(9)
        slots = np.array([rng.choice((0, 63, 64, rng.randrange(2**32))) for _ in range(n)], "<u4")
        quanta = np.array([rng.randrange(-(2**19), 2**19) for _ in range(n)], "<i4")
        name = rng.choice((None, "feature:x"))
        contexts.append(ReceiptContext(rng.randrange(4), slots.tobytes(), quanta.tobytes(), name, arm_key("feature:x")))
    positions = []
    for _ in range(rng.randrange(5)):
        item, context = rng.choice("abcdé"), rng.randrange(len(contexts))
        mask = rng.randbytes(len(contexts[context].slots) // 32 + 1) if rng.random() < 0.5 else b""
        positions.append(Position(arm_key(item), item, rng.random(), ((context, mask),)))
    issued = NOW_US + rng.choice((0, 1, -86_400_000_000, 7_200_000_000))
    ids = (
        rng.randrange(3),
        rng.randrange(2),
        0,
        rng.randrange(1000),
        rng.randrange(50),
        issued,
        issued + 86_400_000_000,
    )
    names = tuple(rng.randrange(2**32) for _ in range(rng.randrange(5)))
    return Receipt(*ids, 1, "home", names, tuple(contexts), tuple(positions), rng.randrange(4))


def some_entry(rng: random.Random) -> bytes:
    receipt = some_receipt(rng)
    encoded = encode_receipt(receipt)
    if rng.random() < 0.5:
        return encode_decision(encoded, DETAILS)
    places = [255, *range(len(receipt.positions) + 1)]
    events = [
        Event(rng.choice(places), rng.randrange(3), rng.randrange(5), rng.randrange(-(2**31), 2**31), rng.random())
        for _ in range(rng.randrange(4))
    ]
    return encode_events(encoded, events)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The same bytes with flipped bits, a number at its limits, a cut, or some bytes more or twice."""
    changed = bytearray(data)
    at = rng.randrange(len(data))
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.randrange(1, 4)):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        extreme = rng.choice(EXTREMES)
        changed[at : at + len(extreme)] = extreme[: len(data) - at]
    elif kind == 2:
        del changed[at:]
    elif kind == 3:
        changed[at:at] = rng.randbytes(rng.randrange(1, 9))
    else:
        changed[at:at] = changed[rng.randrange(len(data)) :]
    if rng.random() < 0.7 and len(changed) >= ENTRY.size:
        # A length that fits leads deeper into the entry.
        changed[1:5] = (len(changed) - ENTRY.size).to_bytes(4, "little")
    return bytes(changed)


def folded(mirror: Mirror, frame: bytes) -> tuple[dict[bytes, bytes], int]:
    """What one fold changes, and how many entries it could not read."""
    before = mirror.counts["malformed"]
    mirror.fold(frame, NOW_US)
    return mirror.take_changes(), mirror.counts["malformed"] - before


def main(cases: int, seed: int = 0) -> int:
    """Fold so many damaged entries; the number that could still be read."""
    rng, mirror, readable = random.Random(seed), Mirror(), 0
    for _ in range(cases):
        entry = damaged(rng, some_entry(rng))
        frame = encode_frame([entry], TOPIC)
        values, malformed = folded(mirror, frame)
        readable += not malformed
        # What follows an entry that says it is shorter is malformed by itself.
        whole = len(entry) < ENTRY.size or int.from_bytes(entry[1:5], "little") >= len(entry) - ENTRY.size
        assert not (whole and malformed and values), "an entry that cannot be read changed something"
        again, _ = folded(mirror, frame)
        assert not again, "an entry counted twice"
        for decode in (lambda data: list(decode_frame(data)), decode_receipt):
            with contextlib.suppress(RecordError):
                decode(frame if decode is not decode_receipt else entry[ENTRY.size + 4 :])
        if rng.random() < 0.02:
            mirror = Mirror()
    return readable


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
