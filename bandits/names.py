"""Keys of arms, tables, feature slots and generations: blake2b and SHA-256 of their texts.

Every key is the little-endian integer of the digest, so that all machines and later versions agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256

WEIGHT_UNIT = 2.0**-15
MAX_WEIGHT = 16.0
MAX_ID_CHARACTERS = 128


def key64(text: str) -> int:
    """64-bit key of a text: blake2b with an 8-byte digest over its UTF-8 bytes."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def arm_key(item: str) -> int:
    """Key of the arm named item, uint64."""
    return key64(item)


def table_key(surface: str, learner: str, generation: str) -> int:
    """Key of the table that holds one learner's cells of one generation of a surface, uint64."""
    return key64(f"{surface}/{learner}/{generation}")


def feature_slot(name: str, salt: str = "", bits: int = 18) -> int:
    """Slot of a named context feature: its salted hash modulo 2**bits."""
    return key64(salt + name) & ((1 << bits) - 1)


def name_hash32(name: str) -> int:
    """32-bit hash of a reward's name, as receipts carry it."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "little")


def generation(slot_key: str, rewards: Sequence[Mapping[str, object]], half_life_s: int) -> str:
    """Generation as hex: SHA-256 of all that gives slots and sums their meaning.

    slot_key    what gives slots their meaning (a graph's slot_key, or "hash/BITS/SALT")
    rewards     name, range and weight of each reward, in order
    """
    meaning = json.dumps([slot_key, list(rewards), half_life_s], sort_keys=True, separators=(",", ":"))
    return sha256(meaning.encode()).hexdigest()


def printable_id(text: str) -> bool:
    """Whether text may name an item, a user or an event: 1 to 128 printable characters."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()
