"""JSON bodies to typed requests, with errors that carry a path."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from service.problems import Problem, invalid

T = TypeVar("T")

_AT = re.compile(r" - at `(?P<path>[^`]*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$", re.DOTALL)
_BYTE = re.compile(r"\(byte (?P<byte>\d+)\)")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]|(?P<constant>-?Infinity|NaN)', re.DOTALL)

MAX_DEPTH = 500
"""Brackets open together, from which on a body that passes the interpreter's own bound counts as too deep."""


def decoder(kind: type[T]) -> Callable[[bytes], T]:
    """A function from a JSON body to kind; it raises Problem 422 with the path of what is wrong."""
    decode = msgspec.json.Decoder(kind).decode

    def checked(body: bytes) -> T:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            raise explain(body, fault) from fault

    return checked


def explain(body: bytes, fault: Exception) -> Problem:
    """The problem that a decoding fault is: at its path, or at `$` with the byte where the body stops being JSON."""
    try:
        # As floats, whole numbers may have any length.
        parsed = json.loads(body.decode(), parse_int=float, parse_constant=_refuse)
        beyond = next(_infinite(parsed, ""), None)
    except UnicodeDecodeError as wrong:
        return _not_json(wrong.start, f"invalid UTF-8: {wrong.reason}")
    except json.JSONDecodeError as wrong:
        return _not_json(len(wrong.doc[: wrong.pos].encode()), wrong.msg)
    except ValueError:
        return _not_json(next(found.start() for found in _TOKEN.finditer(body) if found["constant"]), "no such number")
    except RecursionError:
        return _not_json(_deep_byte(body), "nested too deep")
    if beyond is not None:
        return invalid(beyond, "number out of range")
    text = str(fault)
    if not isinstance(fault, msgspec.ValidationError):
        at_byte = _BYTE.search(text)
        return _not_json(int(at_byte["byte"]) if at_byte else len(body), _BYTE.sub("", text).strip())
    at = _AT.search(text)
    message, path = (text[: at.start()], at["path"]) if at else (text, "$")
    named = _UNKNOWN.match(message) or _MISSING.match(message)
    if named is not None:
        path = f"{path}.{named['field']}"
        message = "unknown field" if _UNKNOWN.match(message) else "needed"
    elif path.endswith("[...]"):
        path = _entry(parsed, path)
    path = path.removeprefix("$").removeprefix(".") or "$"
    return invalid(path, message[:1].lower() + message[1:])


def _not_json(byte: int, why: str) -> Problem:
    return invalid("$", f"not JSON (byte {byte}): {why}")


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _entry(at: Any, path: str) -> str:
    """Path of the first value of a mapping that is no number, where msgspec names only the mapping."""
    for step in re.findall(r"[^.\[\]]+", path.removesuffix("[...]").removeprefix("$")):
        at = at[int(step)] if isinstance(at, list) else at[step]
    for name, value in at.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{path.removesuffix('[...]')}[{json.dumps(name, ensure_ascii=False)}]"
    return path


def _infinite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, float) and math.isinf(value):
        yield path or "$"
    elif isinstance(value, dict):
        for name, inner in value.items():
            step = (
                f".{name}" if re.fullmatch(r"\w+", name) and not path.endswith("features") else f"[{json.dumps(name)}]"
            )
            yield from _infinite(inner, (path + step).removeprefix("."))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _infinite(inner, f"{path}[{i}]")


def _deep_byte(body: bytes) -> int:
    """Where a body opens more brackets than may be open together."""
    depth = 0
    for found in _TOKEN.finditer(body):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            return found.start()
    return len(body)
