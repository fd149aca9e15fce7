"""What is wrong with a JSON body that msgspec refused, with the path of it; found without a tree of the whole body."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any

import msgspec

from service.problems import Problem, invalid

FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for a body that is wrong."""

LARGE_BYTES = 64 << 10
"""Larger bodies are explained on another thread."""

MAX_DEPTH = 500
"""Brackets open together, from which on a body that passes the interpreter's own bound counts as too deep."""

_AT = re.compile(r" - at `(?P<path>[^`]*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$", re.DOTALL)
_BYTE = re.compile(r"\(byte (?P<byte>\d+)\)")
_CONSTANT = re.compile(rb"-?Infinity|NaN")
_TOKEN = re.compile(
    rb'(?P<text>"(?:[^"\\]|\\.)*")(?P<named>\s*:)?|[][{},]|(?P<number>-?\d[\d.eE+-]*)|(?P<constant>-?Infinity|NaN)',
    re.DOTALL,
)
# A digit to 0, the letter of an exponent to e, all else to a space.
_SHAPES = bytes(48 if 48 <= i < 58 else 101 if chr(i) in "eE" else 32 for i in range(256))
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_values_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_entries_of = msgspec.json.Decoder(list[msgspec.Raw]).decode


async def explained(body: bytes, fault: Exception) -> Problem:
    """As explain; others get their turn while a large body is looked through."""
    if len(body) <= LARGE_BYTES:
        return explain(body, fault)
    return await asyncio.to_thread(explain, body, fault)


def explain(body: bytes, fault: Exception) -> Problem:
    """The problem that a decoding fault is: at its path, or at `$` with the byte where the body stops being JSON."""
    try:
        body.decode()
        _skim(body)
        beyond = _infinite(body) if _may_be_infinite(body) else None
        return _named(body, fault) if beyond is None else invalid(beyond, "number out of range")
    except UnicodeDecodeError as wrong:
        return _not_json(wrong.start, f"invalid UTF-8: {wrong.reason}")
    except RecursionError:
        return _not_json(_deep_byte(body), "nested too deep")
    except msgspec.DecodeError as wrong:
        return _malformed(body, wrong)


def _named(body: bytes, fault: Exception) -> Problem:
    """What msgspec says of a body that is JSON."""
    text = str(fault)
    if not isinstance(fault, msgspec.ValidationError):
        return _not_json(_byte_of(text, body), _BYTE.sub("", text).strip())
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


def _malformed(body: bytes, fault: msgspec.DecodeError) -> Problem:
    """Where a body stops being JSON. Python's parser says it best, but stops all others for 1 s in 16 MiB."""
    if len(body) <= LARGE_BYTES:
        try:
            # As floats, whole numbers may have any length.
            json.loads(body, parse_int=float, parse_constant=_refuse)
        except json.JSONDecodeError as wrong:
            return _not_json(len(wrong.doc[: wrong.pos].encode()), wrong.msg)
        except ValueError:
            return _not_json(next(f.start() for f in _TOKEN.finditer(body) if f["constant"]), "no such number")
        except RecursionError:
            return _not_json(_deep_byte(body), "nested too deep")
    byte = _byte_of(str(fault), body)
    for start in (byte - 1, byte):
        if start >= 0 and _CONSTANT.match(body, start):
            return _not_json(start, "no such number")
    return _not_json(byte, _BYTE.sub("", str(fault)).strip())


def _byte_of(text: str, body: bytes) -> int:
    at_byte = _BYTE.search(text)
    return int(at_byte["byte"]) if at_byte else len(body)


def _not_json(byte: int, why: str) -> Problem:
    return invalid("$", f"not JSON (byte {byte}): {why}")


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _entry(body: bytes, path: str) -> str:
    """Path of the first value of a mapping that is no number, where msgspec names only the mapping."""
    mapping = path.removesuffix("[...]")
    at: Any = body
    try:
        for step in re.findall(r"[^.\[\]]+", mapping.removeprefix("$")):
            at = _entries_of(at)[int(step)] if step.isdigit() else _values_of(at)[step]
        values = _values_of(at)
    except (msgspec.ValidationError, KeyError, IndexError):
        # A name that stands twice: the fault is in the one, the value that counts is the other.
        return path
    for name, value in values.items():
        if bytes(value)[:1] not in b"-0123456789":
            return f"{mapping}[{json.dumps(name, ensure_ascii=False)}]"
    return path


def _may_be_infinite(body: bytes) -> bool:
    """Whether anything in a body looks like 1e99, or has 300 digits: 0.02 s for 16 MB, a regular expression 0.4 s."""
    shapes = body.translate(_SHAPES, b"+")
    return b"0e00" in shapes or b"0" * 300 in shapes


def _infinite(body: bytes) -> str | None:
    """Path of the first number that is beyond a double."""
    steps: list[int | bytes] = []
    for found in _TOKEN.finditer(body):
        token = found[0]
        if found["number"]:
            if math.isinf(float(token)):
                return _path(steps)
        elif found["named"]:
            steps[-1] = found["text"]
        elif token in b"[{":
            steps.append(0 if token == b"[" else b"")
        elif token in b"]}":
            steps.pop()
        elif token == b"," and isinstance(steps[-1], int):
            steps[-1] += 1
    return None


def _path(steps: list[int | bytes]) -> str:
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        name = json.loads(step)
        plain = re.fullmatch(r"\w+", name) and not path.endswith("features")
        path += f".{name}" if plain else f"[{json.dumps(name)}]"
    return path.removeprefix(".") or "$"


def _deep_byte(body: bytes) -> int:
    """Where a body opens more brackets than may be open together."""
    depth = 0
    for found in _TOKEN.finditer(body):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            return found.start()
    return len(body)
