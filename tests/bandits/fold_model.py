"""The fold once more, in dictionaries: slow, readable, written from the specification alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from bandits.records import DECISION, IMPRESSION, NO_POSITION, REWARD, Entry, Receipt, Retire

HOUR_US = 3_600_000_000


@dataclass
class FoldModel:
    """Cells, totals, dedupe bits, ordinals, names and tombstones of one partition."""

    cells: dict[tuple[int, int, int], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0]))
    totals: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    bits: set[tuple[int, int, int]] = field(default_factory=set)
    ordinals: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, -1]))
    names: dict[int, str] = field(default_factory=dict)
    retired: dict[tuple[int, int | None], tuple[int, int]] = field(default_factory=dict)
    watermark: int = 0

    def fold(self, entries: list[Entry], append_us: int) -> None:
        self.watermark = max(self.watermark, append_us)
        for entry in entries:
            self._entry(entry)

    def retire(self, entry: Retire, append_us: int) -> None:
        self.watermark = max(self.watermark, append_us)
        for row in entry.rows:
            _, until_us = self.retired.get((row.table, row.arm), (-1, -1))
            self.retired[row.table, row.arm] = self.watermark, max(until_us, entry.until_us)
            for table, arm, slot in list(self.cells):
                if table == row.table and row.arm in (None, arm):
                    del self.cells[table, arm, slot]
            if row.arm is None:
                self.totals.pop(row.table, None)
        with_cells = {arm for _, arm, _ in self.cells}
        self.names = {arm: name for arm, name in self.names.items() if arm in with_cells}

    def _counts(self, receipt: Receipt, table: int, arm: int | None = None) -> bool:
        retired_us = max(self.retired.get(key, (-1, -1))[0] for key in ((table, None), (table, arm)))
        return receipt.issued_us > retired_us

    def _entry(self, entry: Entry) -> None:
        receipt = entry.receipt
        if receipt.issued_us > self.watermark + HOUR_US or self.watermark > receipt.expires_us + HOUR_US:
            return
        if self._first(receipt, 0):
            seen = self.ordinals[receipt.boot]
            self.ordinals[receipt.boot] = [seen[0] + 1, max(seen[1], receipt.ordinal)]
            if not receipt.deferred:
                for p in range(len(receipt.positions)):
                    self._add(receipt, p, None)
        if entry.kind == DECISION:
            return
        for event in entry.events:
            named = range(len(receipt.positions)) if event.position == NO_POSITION else [event.position]
            for p in named:
                first_bit = 1 + p * (1 + len(receipt.names))
                if receipt.deferred and event.kind in (IMPRESSION, REWARD) and self._first(receipt, first_bit):
                    self._add(receipt, p, None)
                rewarded = event.kind == REWARD and event.position != NO_POSITION
                if rewarded and self._first(receipt, first_bit + 1 + event.name):
                    self._add(receipt, p, event.value)

    def _first(self, receipt: Receipt, bit: int) -> bool:
        key = (receipt.boot, receipt.hour, receipt.bit + bit)
        new = key not in self.bits
        self.bits.add(key)
        return new

    def _add(self, receipt: Receipt, p: int, value: int | None) -> None:
        position = receipt.positions[p]
        for index, mask in position.references:
            context = receipt.contexts[index]
            arm = position.arm if context.name is None else context.arm
            if not self._counts(receipt, context.table, arm):
                continue
            if not mask or any(mask):
                self.names[position.arm] = position.item
            if context.name is not None:
                self.names[arm] = context.name
            slots, quanta = np.frombuffer(context.slots, "<u4").tolist(), np.frombuffer(context.quanta, "<i4").tolist()
            for i, (slot, q) in enumerate(zip(slots, quanta, strict=True)):
                if mask and not mask[i // 8] >> (i % 8) & 1:
                    continue
                cell = self.cells[context.table, arm, slot]
                if value is None:
                    cell[0] += q * q
                    cell[1] += q
                else:
                    cell[2] += q * value
        if not self._counts(receipt, receipt.totals):
            return
        total = self.totals[receipt.totals]
        if value is None:
            total[0] += 1
        else:
            total[1] += value
