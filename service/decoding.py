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
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)

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
        beyond = next(_beyond_range(body), None)
    except RecursionError:
        return invalid("$", f"not JSON (byte {_deep_byte(body)}): nested too deep")
    if beyond is not None:
        return invalid(beyond, "number out of range")
    if not isinstance(fault, msgspec.ValidationError):
        return invalid(
            "$", f"not JSON: {fault}" if _BYTE.search(str(fault)) else f"not JSON (byte {_byte(body)}): {fault}"
        )
    text = str(fault)
    at = _AT.search(text)
    message, path = (text[: at.start()], at["path"]) if at else (text, "$")
    named = _UNKNOWN.match(message) or _MISSING.match(message)
    if named is not None:
        path = f"{path}.{named['field']}"
        message = "unknown field" if _UNKNOWN.match(message) else "needed"
    elif path.endswith("[...]"):
        path = _entry(body, path)
    path = path.removeprefix("$").removeprefix(".") or "$"
    return invalid(path, message[:1].lower() + message[1:])


def _entry(body: bytes, path: str) -> str:
    """Path of the first value of a mapping that is no number, where msgspec names only the mapping."""
    at: Any = json.loads(body, parse_int=float)
    for step in re.findall(r"[^.\[\]]+", path.removesuffix("[...]").removeprefix("$")):
        at = at[int(step)] if isinstance(at, list) else at[step]
    for name, value in at.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"{path.removesuffix('[...]')}[{json.dumps(name, ensure_ascii=False)}]"
    return path


def _beyond_range(body: bytes) -> Iterator[str]:
    """Paths of the numbers that a double cannot hold, in a body that is otherwise JSON."""
    if b"e" not in body and b"E" not in body and len(body) < 300:
        return
    try:
        # As floats, whole numbers may have any length.
        parsed = json.loads(body, parse_int=float, parse_constant=lambda name: None)
    except ValueError:
        return
    yield from _infinite(parsed, "")


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


def _byte(body: bytes) -> int:
    """Where a body stops being JSON."""
    try:
        json.loads(body, parse_int=float)
    except json.JSONDecodeError as fault:
        return len(fault.doc[: fault.pos].encode())
    except UnicodeDecodeError as fault:
        return fault.start
    return len(body)


def _deep_byte(body: bytes) -> int:
    """Where a body opens more brackets than may be open together."""
    depth = 0
    for found in _BRACKET.finditer(body):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            return found.start()
    return len(body)
