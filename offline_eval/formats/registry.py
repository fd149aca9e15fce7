"""The formats by name, and which one a file has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offline_eval.errors import BadLog
from offline_eval.formats import text
from offline_eval.formats.chunk import LogFormat, Shard
from offline_eval.formats.csv import Table
from offline_eval.formats.dsjson import DsJson
from offline_eval.formats.obd import OpenBanditDataset
from offline_eval.formats.obp import BanditFeedback
from offline_eval.formats.own import OwnLog

_ALL: tuple[LogFormat, ...] = (OwnLog(), BanditFeedback(), OpenBanditDataset(), DsJson(), Table())
FORMATS: Mapping[str, LogFormat] = {one.NAME: one for one in _ALL}
"""In the order in which a file is tried; Table takes any table, and is last."""
_SUFFIXES = frozenset(suffix for one in _ALL for suffix in one.SUFFIXES)


def find(path: Path, format_name: str | None = None) -> list[Shard]:
    """Parts of a log, in order: of a file, or of all files of a folder by path.

    Hidden files, _SUCCESS and what has the suffix of no format, as README.md, are no log; `passed_over` names the last.

    Raises BadLog where there is none, where a file has no known format, or where files of a folder differ in it.
    """
    files = _files(path)
    shards: list[Shard] = []
    first: tuple[Path, str] | None = None
    for file in files:
        name = format_name or _format(file)
        if first is None:
            first = file, name
        elif name != first[1]:
            rule = f"a folder's files have one format, and {first[0].name} is {first[1]}; name one by --format"
            raise BadLog("format", name, rule, place=str(file))
        start = shards[-1].first + 1 if shards else 0
        shards += FORMATS[name].shards(file, start)
    return shards


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadLog("file", None, "must be a file or a folder of files", place=str(path))
    found = [one for one in _inside(path) if text.suffix(one) in _SUFFIXES]
    if not found:
        raise BadLog("folder", "no files", "must hold a log", place=str(path))
    return found


def passed_over(path: Path) -> list[Path]:
    """Files of a folder that are no log by their suffix."""
    return [one for one in _inside(path) if text.suffix(one) not in _SUFFIXES] if path.is_dir() else []


def _inside(path: Path) -> list[Path]:
    inside = (one for one in path.rglob("*") if one.is_file())
    return sorted(one for one in inside if not any(part[0] in "._" for part in one.relative_to(path).parts))


def _format(path: Path) -> str:
    if path.stat().st_size == 0:
        raise BadLog("file", "0 bytes", "must have rows", place=str(path))
    suffix = text.suffix(path)
    for name, one in FORMATS.items():
        if suffix in one.SUFFIXES and one.recognises(path):
            return name
    rule = f"name its format by --format: {', '.join(FORMATS)}"
    raise BadLog("format", suffix or path.name, rule, place=str(path))
