"""Files that are named by the SHA-256 of their bytes, and for each surface the name of the one it serves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from abc import ABC, abstractmethod
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, Generic, Protocol, TypeVar

from service.files import replace_file

_INCOMING = ".incoming-"


class Versioned(Protocol):
    """What a file holds."""

    @property
    def version(self) -> str:
        """SHA-256 of the file's bytes, in hexadecimal."""


T = TypeVar("T", bound=Versioned)


class ContentFiles(ABC, Generic[T]):
    """Files FOLDER/SHA256.suffix and the pointers FOLDER/current.json, both replaced atomically.

    noun, nouns   what such a file is called
    changing      held while one is put in place of another, on disk and in what is served
    """

    suffix: str
    noun: str
    nouns: str

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pointers = folder / "current.json"
        self.changing = asyncio.Lock()
        self._moving = threading.Lock()
        for cut_short in folder.glob(f"{_INCOMING}*"):
            cut_short.unlink()

    @abstractmethod
    def load(self, path: str) -> T:
        """Read and validate a file; ValueError says what is wrong with it."""

    def incoming(self) -> BinaryIO:
        """A temporary file in the folder, to be given to `keep` or deleted."""
        return NamedTemporaryFile(dir=self._folder, prefix=_INCOMING, delete=False)  # type: ignore[return-value]

    def put(self, content: bytes, held: T, surface: str) -> None:
        """Write a file's validated bytes and let the surface point to it; where that fails, it points where it did."""
        with self.incoming() as file:
            try:
                file.write(content)
                file.flush()
                self.keep(file.name, held, surface)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def keep(self, path: str, held: T, surface: str) -> None:
        """Give a validated file its name and let the surface point to it."""
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        with self._moving:
            os.replace(path, self.path(held.version))
            pointers = self.pointers()
            if surface in pointers and self.path(pointers[surface]).exists():
                # From now on `sweep` counts how long the old one has not been served.
                os.utime(self.path(pointers[surface]))
            replace_file(self._pointers, json.dumps(pointers | {surface: held.version}, indent=1).encode())

    def sweep(self, retention_s: float) -> list[str]:
        """Delete the files that no surface has served for so long; their versions. Any thread may call it."""
        swept = []
        with self._moving:
            served = set(self.pointers().values())
            for path in sorted(self._folder.glob(f"*{self.suffix}")):
                if path == self._pointers or path.stem in served:
                    continue
                if time.time() - path.stat().st_mtime > retention_s:
                    path.unlink()
                    swept.append(path.stem)
        return swept

    def pointers(self) -> dict[str, str]:
        """Version of the file each surface serves; ValueError where that cannot be read."""
        if not self._pointers.exists():
            return {}
        rule = f"must name the {self.noun} of each surface; restore it, or remove it and upload the {self.nouns} anew"
        try:
            pointers = json.loads(self._pointers.read_text())
        except ValueError as fault:
            raise ValueError(f"{self._pointers}: {rule} ({fault})") from fault
        if not isinstance(pointers, dict) or not all(isinstance(version, str) for version in pointers.values()):
            raise ValueError(f"{self._pointers}: {rule}, got {json.dumps(pointers)[:80]}")
        return pointers

    def current(self, surface: str) -> T | None:
        """What the surface serves; ValueError where its file is gone or was changed."""
        version = self.pointers().get(surface)
        if version is None:
            return None
        path = self.path(version)
        mend = f"restore it, or take {surface} out of {self._pointers.name} and upload one anew"
        if not path.exists():
            raise ValueError(f"{path}: the {self.noun} that surface {surface} serves is gone; {mend}")
        with open(path, "rb") as file:
            digest = sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != version:
            raise ValueError(f"{path}: the {self.noun} file was changed; {mend}")
        return self.load(str(path))

    def path(self, version: str) -> Path:
        """Where a version lies."""
        return self._folder / f"{version}{self.suffix}"
