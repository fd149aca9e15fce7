"""Rows of one decision: what was served, by what law, and what came of it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from bandits.names import WEIGHT_UNIT
from bandits.own_log import VERSION, Row
from bandits.records import (
    ENTRY,
    ENTRY_RECEIPT_AT,
    NO_POSITION,
    NULL_PROPENSITY,
    Details,
    Position,
    Receipt,
    RecordError,
    decode_receipt,
)
from service.export.index import Found
from service.rewards import Generations, Rewards
from service.settings import SurfaceSettings

Events = Sequence[tuple[int, int, float]]
"""(position, code, raw) of one decision's events; see scan.EVENT_OF."""

_U32 = struct.Struct("<I")
_decode_details = msgspec.msgpack.Decoder(Details).decode


class RowMaker:
    """Turns entries and their events into rows, and counts decisions that have none.

    now_us  a decision older than the surface's wait window then has its default reward
    """

    def __init__(
        self, generations: Generations, settings: SurfaceSettings, now_us: int, left_out: Counter[str]
    ) -> None:
        self._generations, self._left_out = generations, left_out
        self._default, self._waited_us = settings.default_reward, now_us - settings.wait_window_s * 10**6

    def rows(self, found: Found, frame: bytes, events: Events) -> list[Row]:
        """A row for each position that was shown; none where the decision cannot be exported, which is counted."""
        issued, name, _, _, at, deferred, _, _ = found
        if deferred and not events:
            return self._leave("deferred_not_activated")
        try:
            receipt, details = _decode(frame, at)
        except (RecordError, msgspec.MsgspecError):
            return self._leave("malformed")
        generation = self._generations.known(receipt.totals)
        if generation is None or generation.rewards.hashes != receipt.names:
            return self._leave("unknown_generation")
        if not receipt.positions:
            return self._leave("without_items")
        raws = _by_position(events, generation.rewards)
        shown = list(range(len(receipt.positions)))
        if deferred and all(position != NO_POSITION for position, _, _ in events):
            shown = sorted({position for position, _, _ in events})
        user = None if details.user is None else details.user.hex()
        default = self._default if issued <= self._waited_us else None
        rows, contexts = [], _Contexts(receipt)
        for p in shown:
            position, rewards = receipt.positions[p], raws.get(p, {})
            slots, weights = contexts.of(position)
            row = Row(
                version=VERSION,
                decision_id=name,
                timestamp=issued,
                surface=receipt.surface,
                user=user,
                policy=details.policy,
                mode=details.mode,
                position=p,
                item=position.item,
                propensity=None if position.propensity == NULL_PROPENSITY else position.propensity,
                score=details.scores[p] if p < len(details.scores) else None,
                reward=weighted_sum(rewards, generation.rewards) if rewards else default,
                rewards=rewards,
                candidates=None,
                graph=None,
                exclude=None,
                distribution=None,
                features=details.features,
                item_features=None,
                slots=slots,
                weights=weights,
            )
            rows.append(row)
        first = rows[0]
        first.candidates, first.graph, first.exclude = details.candidates, details.graph, details.exclude
        first.distribution, first.item_features = details.distribution, details.item_features
        return rows

    def _leave(self, reason: str) -> list[Row]:
        self._left_out[reason] += 1
        return []


def _decode(frame: bytes, at: int) -> tuple[Receipt, Details]:
    receipt = at + ENTRY_RECEIPT_AT
    tail = receipt + _U32.unpack_from(frame, receipt - 4)[0]
    stop = at + ENTRY.size + ENTRY.unpack_from(frame, at)[1]
    return decode_receipt(frame[receipt:tail]), _decode_details(frame[tail:stop])


def _by_position(events: Events, rewards: Rewards) -> dict[int, dict[str, float]]:
    """Raw value by name of each position that has any."""
    raws: dict[int, dict[str, float]] = {}
    for position, code, raw in events:
        if code:
            raws.setdefault(position, {})[rewards.settings[code - 1].name] = raw
    return raws


def weighted_sum(raws: dict[str, float], rewards: Rewards) -> float:
    """The one number that is maximised, in reward units; a name that has not come adds nothing."""
    return sum(one.weight * raws[one.name] for one in rewards.settings if one.name in raws)


class _Contexts:
    """Slots and weights of a receipt's contexts, each unpacked once: most positions share one."""

    def __init__(self, receipt: Receipt) -> None:
        self._contexts = receipt.contexts
        self._unpacked: dict[int, tuple[list[int], list[float]]] = {}

    def of(self, position: Position) -> tuple[list[int], list[float]]:
        """Of a position's first context; empty where it refers to none."""
        if not position.references:
            return [], []
        place = position.references[0][0]
        if place not in self._unpacked:
            context = self._contexts[place]
            slots: list[int] = np.frombuffer(context.slots, "<u4").tolist()
            weights: list[float] = (np.frombuffer(context.quanta, "<i4") * WEIGHT_UNIT).tolist()
            self._unpacked[place] = slots, weights
        return self._unpacked[place]
