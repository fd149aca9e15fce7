"""Bodies of the hot routes, decoded and encoded by msgspec; their JSON schemas go into /openapi.json."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=128, description="1 to 128 printable characters")]
EventId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="1 to 128 printable characters. Within event_ttl_s every request of the surface with it gets the "
        "first reply, whatever its body",
    ),
]
MAX_BATCH = 100_000
"""Decisions whose events one feedback request may bring."""
ItemFeatures = dict[str, float]


class Item(Struct, forbid_unknown_fields=True):
    """An explicit candidate with features of its own."""

    id: Id
    features: ItemFeatures | None = None


class RecommendRequest(Struct, forbid_unknown_fields=True):
    """One request for a slate."""

    surface: str | None = None
    user: Id | None = None
    event_id: EventId | None = None
    embedding: list[float] | None = None
    features: dict[str, float] | None = None
    items: list[Id | Item] | None = None
    exclude: Annotated[list[Id], Meta(max_length=1000)] | None = None
    n: Annotated[int, Meta(ge=1, le=100)] | None = None
    deferred: bool | None = None
    explain: bool | None = None


class RecommendBatch(Struct, forbid_unknown_fields=True):
    """Up to 1,024 requests, answered in order."""

    requests: Annotated[list[RecommendRequest], Meta(max_length=1024)]


class RawBatch(Struct, forbid_unknown_fields=True):
    """A batch of which requests are read one by one."""

    requests: Annotated[list[msgspec.Raw], Meta(max_length=1024)]


class EventKey(Struct):
    """What a reply is kept by, read of a request that is wrong otherwise."""

    surface: str | None = None
    event_id: EventId | None = None


class KeptReceipt(Struct):
    """What feedback needs of a kept reply."""

    receipt: str


class Contribution(Struct):
    """What one slot adds to a mean, in reward units."""

    slot: int
    weight: float
    value: float


class ServedItem(Struct):
    """An item of a slate; propensity given the earlier positions, null where it is not computable."""

    id: str
    position: int
    propensity: float | None
    score: float | UnsetType = UNSET
    mean: float | UnsetType = UNSET
    bonus: float | UnsetType = UNSET
    contributions: list[Contribution] | UnsetType = UNSET


class Decision(Struct):
    """A slate, and the receipt that its feedback must carry."""

    decision_id: str
    surface: str
    policy: str
    mode: Literal["explore", "exploit", "holdout"]
    items: list[ServedItem]
    receipt: str
    n_candidates: int
    params_version: str
    params_age_ms: int
    graph_version: str | UnsetType = UNSET


class Decisions(Struct):
    decisions: list[Decision]


class AdLoadRequest(Struct, forbid_unknown_fields=True):
    """One request for an ad load; features and allowed loads as the surface's policy knows them."""

    surface: str | None = None
    user: Id | None = None
    event_id: EventId | None = None
    features: Annotated[
        dict[str, float] | None,
        Meta(
            description="By name, as they are: the policy standardises them. One that it lacks is logged and ignored, "
            "one that is missing counts as its mean"
        ),
    ] = None
    allowed: Annotated[list[int] | None, Meta(description="Loads to choose among, all of the surface's without it")] = (
        None
    )
    explain: bool | None = None


class LoadShare(Struct):
    """A load that might have been served; score of the policy, null where none chose."""

    ad_load: int
    propensity: float
    score: float | None


class AdLoadDecision(Struct):
    """An ad load, and the receipt that its feedback must carry; explain adds the last three.

    policy_version   null before a policy is uploaded
    """

    decision_id: str
    surface: str
    policy: str
    mode: Literal["explore", "exploit", "holdout"]
    ad_load: int
    propensity: float
    receipt: str
    policy_version: str | None
    distribution: list[LoadShare] | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET
    unknown: list[str] | UnsetType = UNSET


class EventIn(Struct, forbid_unknown_fields=True):
    """An impression or a reward of one item of a decision."""

    kind: Literal["impression", "reward"]
    item: Id | None = None
    value: float | None = None
    name: Id | None = None


class FeedbackOne(Struct, forbid_unknown_fields=True):
    """Events of one decision."""

    events: list[EventIn]
    receipt: str | None = None
    event_id: Id | None = None
    surface: str | None = None


class FeedbackRequest(Struct, forbid_unknown_fields=True):
    """Events of one decision, or a batch of up to 100,000 such."""

    events: list[EventIn] | None = None
    receipt: str | None = None
    event_id: Id | None = None
    surface: str | None = None
    batch: Annotated[list[FeedbackOne], Meta(max_length=MAX_BATCH)] | None = None


class Accepted(Struct):
    """All events are in the log and count exactly once; those of nolearn receipts are acknowledged only."""

    accepted: int
    not_learned: int | UnsetType = UNSET


encode = msgspec.json.Encoder().encode
