"""Store keys and values in words."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_SUMS = ("weight_sq_sum", "weight_sum", "reward_sum")
_CELLS = struct.Struct("<cQQI")
_TABLE = struct.Struct("<cQ")
_DEDUPE = struct.Struct("<cQII")
_TOMBSTONE = struct.Struct("<cQQB")
_SIZES = {b"c": _CELLS.size, b"t": _TABLE.size, b"n": _TABLE.size, b"b": _TABLE.size, b"d": _DEDUPE.size}
_SIZES[b"x"] = _TOMBSTONE.size


class Words:
    """Says which key it is and how its values differ.

    surfaces   surface of each table key
    values     keys and values of the partition, which hold the texts of arms
    """

    def __init__(self, surfaces: Mapping[int, str], values: Mapping[bytes, bytes]) -> None:
        self._surfaces, self._values = surfaces, values

    def difference(self, key: bytes, stored: bytes | None, given: bytes | None) -> str:
        """How a stored value differs from what the log gives."""
        name = self.key(key)
        if stored is None:
            return f"{name}: missing, the log gives {len(given or b'')} bytes"
        if given is None:
            return f"{name}: stored, but the log does not give it"
        if key[:1] == b"c" and (sums := _sums(key, stored, given)):
            return f"{name}: {sums}"
        at = next(
            (i for i, (a, b) in enumerate(zip(stored, given, strict=False)) if a != b), min(len(stored), len(given))
        )
        return f"{name}: differs from what the log gives from byte {at} on"

    def key(self, key: bytes) -> str:
        """What a key stands for."""
        kind = key[:1]
        if _SIZES.get(kind) != len(key):
            return f"unknown key {key.hex()}"
        if kind == b"c":
            _, table, arm, chunk = _CELLS.unpack(key)
            return f"cells of {self._table(table)}, {self._arm(arm)}, slots {64 * chunk} to {64 * chunk + 63}"
        if kind == b"d":
            _, boot, chunk, hour = _DEDUPE.unpack(key)
            return f"dedupe bits {256 * chunk} to {256 * chunk + 255} of boot {boot:016x}, hour {hour}"
        if kind == b"x":
            _, table, arm, whole = _TOMBSTONE.unpack(key)
            return f"tombstone of {self._table(table)}" + ("" if whole else f", {self._arm(arm)}")
        _, number = _TABLE.unpack(key)
        if kind == b"t":
            return f"totals of {self._table(number)}"
        return f"ordinals of boot {number:016x}" if kind == b"b" else f"text of {self._arm(number)}"

    def _table(self, table: int) -> str:
        surface = self._surfaces.get(table)
        return f"table {table:016x}" + (f" (surface {surface})" if surface else "")

    def _arm(self, arm: int) -> str:
        text = self._values.get(_TABLE.pack(b"n", arm))
        return f"arm {arm:016x}" if text is None else f"arm {text.decode(errors='replace')!r}"


def _sums(key: bytes, stored: bytes, given: bytes) -> str:
    """The first cell whose sums differ; empty where that does not say it."""
    first = 64 * _CELLS.unpack(key)[3]
    if len(stored) % 24 != 16 or stored[:8] != given[:8]:
        return ""
    held, wanted = _cells(stored), _cells(given)
    for slot in sorted(held.keys() | wanted.keys()):
        if slot not in wanted:
            return f"slot {first + slot} is stored, but the log does not give it"
        if slot not in held:
            return f"slot {first + slot} is missing"
        for name, a, b in zip(_SUMS, held[slot], wanted[slot], strict=True):
            if a != b:
                return f"{name} of slot {first + slot} is {a}, the log gives {b}"
    return ""


def _cells(value: bytes) -> dict[int, tuple[int, ...]]:
    mask = int.from_bytes(value[8:16], "little")
    slots = [bit for bit in range(64) if mask >> bit & 1]
    return dict(zip(slots, struct.iter_unpack("<3q", value[16:]), strict=False))
