"""What turns rows into a file, chosen by the format's name and the file's suffix; a further one is a further file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from bandits.errors import UsageError
from bandits.own_log import Row
from service.export.csv_table import CsvTable
from service.export.dsjson_lines import DsJsonLines
from service.export.obp_npz import ObpNpz
from service.export.own_jsonl import OwnJsonLines
from service.export.own_parquet import OwnParquet
from service.files import whole_file


class Writer(Protocol):
    """Puts rows into a file, in order; OSError where the disk does not take them.

    left_out  rows that the format cannot carry, by reason
    """

    left_out: Counter[str]

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows; they may stay in memory up to a bound."""

    def close(self) -> None:
        """Write what is left and what ends the file, which stays open."""


class Opener(Protocol):
    """Makes a writer."""

    def __call__(self, file: BinaryIO, suffix: str) -> Writer:
        """A writer to an empty file; suffix is the one that chose it."""


_JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")
FORMATS: Mapping[str, Mapping[str, Opener]] = {
    "own": {".parquet": OwnParquet} | dict.fromkeys(_JSON_LINES, OwnJsonLines),
    "obp": {".npz": ObpNpz},
    "csv": {".csv": CsvTable},
    "dsjson": dict.fromkeys((".dsjson", ".dsjson.gz", ".dsjson.zst", *_JSON_LINES), DsJsonLines),
}


@contextmanager
def opened(path: Path, name: str) -> Iterator[Writer]:
    """A writer of a format whose file takes the place of path whole, once all went well; else path stays as it was.

    Raises UsageError where the suffix is not one of the format's, or the file cannot be written.
    """
    suffixes = FORMATS[name]
    suffix = next((one for one in suffixes if path.name.endswith(one) and path.name != one), None)
    if suffix is None:
        raise UsageError(f"{path}: format {name} is written to a file whose name ends in {', '.join(suffixes)}")
    try:
        with whole_file(path) as file:
            writer = suffixes[suffix](file, suffix)
            try:
                yield writer
            except BaseException:
                # The file is thrown away; after a fault of the disk closing fails too, and says less.
                with suppress(OSError, ValueError):
                    writer.close()
                raise
            writer.close()
    except OSError as fault:
        reason = fault.strerror or fault
        raise UsageError(f"{path}: cannot be written, {reason}; name another file by -o") from fault
