"""Estimators of off-policy evaluation, one a file; by name, and from text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from offline_eval.estimators.base import Estimator
from offline_eval.estimators.bipw import BIPW
from offline_eval.estimators.cips import CIPS
from offline_eval.estimators.dm import DM
from offline_eval.estimators.dr import DR
from offline_eval.estimators.dros import DRos
from offline_eval.estimators.drps import DRps
from offline_eval.estimators.ips import IPS
from offline_eval.estimators.mips import MIPS
from offline_eval.estimators.mrdr import MRDR
from offline_eval.estimators.replay import Replay
from offline_eval.estimators.sg_dr import SubGaussianDR
from offline_eval.estimators.sg_ips import SubGaussianIPS
from offline_eval.estimators.shrunk import Shrunk
from offline_eval.estimators.sndr import SNDR
from offline_eval.estimators.snips import SNIPS
from offline_eval.estimators.switch_dr import SwitchDR

__all__ = ["ESTIMATORS", "SLATE_ESTIMATORS", "Estimator", "Shrunk", "parse"]

_CLASSES: tuple[type[Estimator], ...] = (
    Replay, DM, IPS, CIPS, SubGaussianIPS, SNIPS, DR, SNDR, MRDR, SwitchDR, DRos, DRps, SubGaussianDR, BIPW, MIPS,
)  # fmt: skip

ESTIMATORS: Mapping[str, type[Estimator]] = MappingProxyType({one.kind: one for one in _CLASSES})
"""By the name that the command line and the library know them by."""

SLATE_ESTIMATORS = frozenset({"sips", "iips", "rips", "cascade-dr", "pi"})
"""Names of estimators for whole slates."""

_TEXT = re.compile(r"(?P<kind>[^:(]*)(?::(?P<after>.*)|\((?P<inside>.*)\))?")


def parse(spec: str | tuple[str, Mapping[str, Any]] | Estimator) -> Estimator:
    """An estimator from its name and parameters. Raises ValueError, in one line.

    >>> parse("switch-dr:lam=5.3") == parse("switch-dr(lam=5.3)") == parse(("switch-dr", {"lam": 5.3}))
    True
    >>> parse("switch-dr").key, parse("switch-dr:lam=5.3").key
    ('switch-dr', 'switch-dr(lam=5.3)')
    """
    if isinstance(spec, Estimator):
        return spec
    if not isinstance(spec, str) and not (isinstance(spec, (tuple, list)) and len(spec) == 2):
        raise ValueError(f"an estimator is a name or (name, {{parameter: value}}), got {spec!r}")
    kind, given = _read(spec) if isinstance(spec, str) else spec
    if kind in SLATE_ESTIMATORS:
        raise ValueError(f"{kind}: slate estimator: not in this version")
    if kind not in ESTIMATORS:
        raise ValueError(f"{kind!r} is no estimator{_near(kind, ESTIMATORS)}")
    known = [one.name for one in fields(ESTIMATORS[kind])]
    for name in given:
        if name not in known:
            raise ValueError(f"{kind} has no parameter {name!r}{_near(name, known)}")
    return ESTIMATORS[kind](**given)


def _read(text: str) -> tuple[str, dict[str, float]]:
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r}: an estimator is NAME, NAME:PARAMETER=VALUE or NAME(PARAMETER=VALUE)")
    inside = found["after"] if found["after"] is not None else found["inside"]
    return found["kind"].strip(), dict(_parameter(text, one) for one in inside.split(",")) if inside else {}


def _parameter(text: str, pair: str) -> tuple[str, float]:
    name, equals, value = pair.partition("=")
    try:
        if equals:
            return name.strip(), float(value)
    except ValueError:
        pass
    raise ValueError(f"{text!r}: {pair!r} must be PARAMETER=NUMBER")


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; they are {' '.join(names)}" if names else "; it has none"
