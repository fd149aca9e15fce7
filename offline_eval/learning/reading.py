"""Ad-load logs from files into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bandits.arrays import F64, Bool
from bandits.errors import UsageError
from offline_eval.actions import Actions
from offline_eval.errors import BadLog
from offline_eval.formats import FORMATS
from offline_eval.formats.chunk import Chunk, ReadOptions, Shard
from offline_eval.learning.log import MAX_FEATURES, AdLoadLog
from offline_eval.learning.reward import COMPONENTS

MAX_ROWS = 2_000_000
"""Learning holds the log in memory: some 100 bytes a row and 8 for each feature and load, and twice that at work."""
CHUNK_ROWS = 131_072


@dataclass
class AdLoadRows:
    """A log as it was read; left_out counts rows by reason."""

    log: AdLoadLog
    left_out: Counter[str] = field(default_factory=Counter)


def read(
    shards: Sequence[Shard],
    options: ReadOptions,
    missing: Mapping[str, float],
    advance: Callable[[int], None] = lambda rows: None,
) -> AdLoadRows:
    """All rows with rewards.

    missing  what satisfaction or revenue counts as where a row lacks it; a row that then lacks both is left out, one
             that lacks the one alone is an error: it may be lacking because of what happened

    Raises BadLog, and UsageError for a log that is not one of ad loads.
    """
    chunks: list[Chunk] = []
    left_out: Counter[str] = Counter()
    rows = 0
    for shard in shards:
        for chunk in FORMATS[shard.format].read(shard, CHUNK_ROWS, options):
            kept = _with_rewards(chunk, missing)
            left_out.update(kept.left_out)
            rows += len(kept)
            if rows > MAX_ROWS:
                raise UsageError(f"LOG: learning reads at most {MAX_ROWS:,} rows into memory; take a sample of users")
            if len(kept):
                chunks.append(kept)
            advance(len(chunk) + sum(chunk.left_out.values()))
    if not chunks:
        raise UsageError(f"LOG: no row has both rewards, satisfaction and revenue{_reasons(left_out)}")
    return AdLoadRows(_joined(chunks), left_out)


def _with_rewards(chunk: Chunk, missing: Mapping[str, float]) -> Chunk:
    filled = {}
    for name in COMPONENTS:
        values = chunk.rewards.get(name, np.full(len(chunk), np.nan))
        filled[name] = np.where(np.isnan(values), missing.get(name, np.nan), values)
    chunk = replace(chunk, rewards=filled)
    lacks = [np.isnan(filled[name]) for name in COMPONENTS]
    one = lacks[0] ^ lacks[1]
    if one.any():
        row = int(np.argmax(one))
        name = COMPONENTS[0] if lacks[0][row] else COMPONENTS[1]
        rule = f"must be there where the other reward is; or say what a missing one counts, as in --missing {name}=0"
        raise BadLog(name, None, rule, place=chunk.place.of(row))
    return chunk.where(~lacks[0], "no rewards") if lacks[0].any() else chunk


def _reasons(left_out: Counter[str]) -> str:
    return "".join(f"; {count:,} rows left out: {reason}" for reason, count in left_out.items())


def _joined(chunks: Sequence[Chunk]) -> AdLoadLog:
    actions = Actions.of(_ids(chunks))
    loads = _loads(actions, chunks[0].place.file)
    # Of many thousand names no one policy file could hold the columns.
    names = sorted({name for chunk in chunks for name in chunk.names})
    if len(names) > MAX_FEATURES:
        raise UsageError(f"LOG: a policy has at most {MAX_FEATURES} features, and the log has {len(names)}")
    n = sum(map(len, chunks))
    allowed, logging = _sets(chunks, actions)
    return AdLoadLog(
        user=_users(chunks),
        timestamp=np.concatenate([_times(chunk) for chunk in chunks]),
        features=np.concatenate([_features(chunk, names) for chunk in chunks]) if names else np.empty((n, 0)),
        names=names,
        action=np.concatenate([actions.columns(chunk.action.names)[chunk.action.code] for chunk in chunks]),
        propensity=np.concatenate([chunk.propensity for chunk in chunks]),
        allowed=allowed,
        satisfaction=np.concatenate([chunk.rewards["satisfaction"] for chunk in chunks]),
        revenue=np.concatenate([chunk.rewards["revenue"] for chunk in chunks]),
        loads=loads,
        logging=logging,
    )


def _ids(chunks: Iterable[Chunk]) -> Iterable[str | int]:
    for chunk in chunks:
        for ids in (chunk.action, chunk.candidates):
            if ids is not None:
                used = np.unique(ids.code)
                yield from (ids.names[code] for code in used[used >= 0].tolist())


def _loads(actions: Actions, file: str) -> tuple[int, ...]:
    bad = next((one for one in actions.ids if not str(one).isdecimal()), None)
    if bad is not None:
        raise BadLog("action", bad, "must be an ad load, a whole number >= 0", place=file)
    return tuple(int(one) for one in actions.ids)


def _users(chunks: Sequence[Chunk]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A number per user, of a row without one of its own."""
    found = []
    for chunk in chunks:
        found.append(np.zeros(len(chunk), np.uint64) if chunk.user is None else chunk.user)
    user = np.concatenate(found)
    number = np.unique(user, return_inverse=True)[1].reshape(-1).astype(np.int64)
    alone = user == 0
    number[alone] = number.max(initial=0) + 1 + np.arange(int(alone.sum()))
    return number


def _times(chunk: Chunk) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if chunk.timestamp is None:
        raise BadLog(
            "timestamp", None, "must not be missing: the policy file tells the log's window", place=chunk.place.file
        )
    return chunk.timestamp


def _features(chunk: Chunk, names: Sequence[str]) -> F64:
    features = np.full((len(chunk), len(names)), np.nan)
    at = {name: i for i, name in enumerate(names)}
    if chunk.names:
        features[:, [at[name] for name in chunk.names]] = chunk.context
    return features


def _sets(chunks: Sequence[Chunk], actions: Actions) -> tuple[Bool, F64 | None]:
    """Allowed loads, all where they are unknown, and the logging distribution, NaN where it is unknown."""
    allowed, logging = [], []
    for chunk in chunks:
        mask = np.zeros((len(chunk), len(actions)), bool)
        share = np.zeros(mask.shape)
        some = chunk.candidates
        if some is None:
            mask[:] = True
            share[:] = np.nan
        else:
            rows = np.repeat(np.arange(len(chunk)), np.diff(some.start))
            columns = actions.columns(some.names)[some.code]
            mask[rows, columns] = True
            share[rows, columns] = np.nan if some.value is None else some.value
            mask[~some.known] = True
            share[~some.known] = np.nan
        allowed.append(mask)
        logging.append(share)
    whole = np.concatenate(logging)
    unknown = np.isnan(whole).any(axis=1)
    whole[unknown] = np.nan
    return np.concatenate(allowed), None if unknown.all() else whole
