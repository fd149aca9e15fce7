"""The JSON of a policy file: its fields and types, and their faults by place."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from bandits.ad_load.models import LinearModel
from bandits.ad_load.rules import PolicyError

if TYPE_CHECKING:
    from bandits.ad_load.policy import AdLoadPolicy

MAX_BYTES = 8 << 20
_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$")
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(?P<field>.*)`$")
_ARRAYS = ("feature", "threshold", "left", "right", "value")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class FeatureDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    mean: float
    scale: float


class LinearDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="linear"):
    weights: list[list[float]]
    bias: list[float]


class TreeDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    value: list[list[float]]


class TreesDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="tree"):
    trees: list[TreeDocument]
    bias: list[float]


class EstimateDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    estimator: str
    value: float
    interval: tuple[float, float]
    ess: float
    n: int


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A policy file as it is written; bandits.ad_load.AdLoadPolicy says what the fields mean."""

    version: Literal[1]
    kind: Literal["ad_load"]
    loads: list[int]
    features: list[FeatureDocument]
    model: LinearDocument | TreesDocument
    temperature: float
    floor: float
    logging: list[float]
    window: tuple[str, str]
    estimate: EstimateDocument
    objective: str | None = None
    reward: dict[str, float | str] | None = None


T = TypeVar("T")


def decode(data: bytes) -> Document:
    """Read a policy file of at most 8 MiB; types are checked, values are not.

    Raises PolicyError at the first fault.
    """
    if len(data) > MAX_BYTES:
        raise PolicyError("policy", f"must be at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        document = msgspec.json.decode(data, type=Document)
        json.loads(data, object_pairs_hook=_once)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from None
    except _UNREADABLE as error:
        raise PolicyError("policy", f"must be JSON: {error}") from None
    return document


def encode(document: Document) -> bytes:
    """The bytes of a policy file: one line, always the same for the same values."""
    return msgspec.json.encode(document) + b"\n"


def of(policy: AdLoadPolicy) -> Document:
    """The document of a policy."""
    model: LinearDocument | TreesDocument
    if isinstance(policy.model, LinearModel):
        model = LinearDocument(policy.model.weights.tolist(), policy.model.bias.tolist())
    else:
        trees = [TreeDocument(*(getattr(one, name).tolist() for name in _ARRAYS)) for one in policy.model.trees]
        model = TreesDocument(trees, policy.model.bias.tolist())
    given = policy.estimate
    interval = (float(given.interval[0]), float(given.interval[1]))
    return Document(
        version=1,
        kind="ad_load",
        loads=[int(load) for load in policy.loads],
        features=[FeatureDocument(one.name, float(one.mean), float(one.scale)) for one in policy.features],
        model=model,
        temperature=float(policy.temperature),
        floor=float(policy.floor),
        logging=policy.logging.tolist(),
        window=policy.window,
        estimate=EstimateDocument(given.estimator, float(given.value), interval, float(given.ess), int(given.n)),
        objective=policy.objective,
        reward=None if policy.reward is None else dict(policy.reward),
    )


def _once(pairs: list[tuple[str, T]]) -> dict[str, T]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PolicyError("policy", f"must give each field once, got {twice!r} twice")
    return fields


def _located(text: str) -> PolicyError:
    """msgspec's message with our way of naming a place."""
    at = _AT.search(text)
    path = at["path"].replace("[...]", "") if at else ""
    rule = text[: at.start()] if at else text
    named = _FIELD.match(rule)
    if named:
        path = f"{path}.{named['field']}".lstrip(".")
        rule = "missing" if "missing" in rule else "unknown field"
    rule = re.sub("^(Expected|Invalid|Number|missing)", lambda word: word[0].lower(), rule)
    return PolicyError(path or "policy", rule)
