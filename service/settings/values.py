"""Rules for one value each: what is allowed, in words, and the reading of a value decoded from TOML."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol


class Rule(Protocol):
    """What one key may hold."""

    @property
    def allowed(self) -> str:
        """The rule in words; it completes "must be ..."."""

    def read(self, value: object) -> object:
        """The value as the settings hold it. Raises ValueError where the rule is broken."""


@dataclass(frozen=True)
class Integer:
    """A whole number from low to high, both included."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        return f"an integer from {self.low:,} to {self.high:,}"

    def read(self, value: object) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True)
class Number:
    """A finite number from low to high, read as float."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    def read(self, value: object) -> float:
        if type(value) not in (int, float) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise ValueError(self.allowed)
        return float(value) + 0.0  # type: ignore[arg-type]  # -0.0 becomes 0.0: generations hash the text


@dataclass(frozen=True)
class Boolean:
    """true or false."""

    allowed: str = "true or false"

    def read(self, value: object) -> bool:
        if type(value) is not bool:
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(f'"{word}"' if word else '""' for word in self.words)

    def read(self, value: object) -> str:
        if type(value) is not str or value not in self.words:
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True)
class Text:
    """Printable text of at most 4,096 characters that matches a pattern as a whole."""

    allowed: str
    pattern: str = r".*"

    def read(self, value: object) -> str:
        if type(value) is not str or len(value) > 4096 or not value.isprintable():
            raise ValueError(self.allowed)
        if not re.fullmatch(self.pattern, value):
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True)
class Hex:
    """Hexadecimal digits, read in lower case; from least to most bytes, or empty where empty is set."""

    least: int
    most: int
    empty: bool = False

    @property
    def allowed(self) -> str:
        if self.least == self.most:
            return f"{2 * self.least} hexadecimal digits"
        return f"{2 * self.least} to {2 * self.most} hexadecimal digits, an even number"

    def read(self, value: object) -> str:
        if self.empty and value == "":
            return ""
        if type(value) is not str or not re.fullmatch(r"([0-9a-fA-F]{2})+", value):
            raise ValueError(self.allowed)
        if not self.least <= len(value) // 2 <= self.most:
            raise ValueError(self.allowed)
        return value.lower()


@dataclass(frozen=True)
class Array:
    """A list of least to most values without repeats, each under one rule, read as a tuple."""

    each: Rule
    least: int
    most: int
    repeats: bool = False

    @property
    def allowed(self) -> str:
        unlike = "" if self.repeats else "different "
        size = f"at most {self.most:,}" if self.least == 0 else f"{self.least:,} to {self.most:,}"
        return f"a list of {size} {unlike}values, each {self.each.allowed}"

    def read(self, value: object) -> tuple[object, ...]:
        if type(value) is not list or not self.least <= len(value) <= self.most:
            raise ValueError(self.allowed)
        try:
            items = tuple(self.each.read(item) for item in value)
        except ValueError:
            raise ValueError(self.allowed) from None
        if not self.repeats and len(set(items)) < len(items):
            raise ValueError(self.allowed)
        return items


@dataclass(frozen=True)
class ArrayOrFile:
    """A list under its rule, or the name of a file that holds it."""

    array: Array

    @property
    def allowed(self) -> str:
        return f"the name of a file or {self.array.allowed}"

    def read(self, value: object) -> object:
        try:
            return self.array.read(value) if type(value) is list else Text("", r".+").read(value)
        except ValueError:
            raise ValueError(self.allowed) from None


@dataclass(frozen=True)
class Span:
    """Two finite numbers [lo, hi], lo < hi, each within a bound, read as a pair of floats."""

    bound: float

    @property
    def allowed(self) -> str:
        return f"two numbers [lo, hi] with lo < hi, both from {-self.bound:g} to {self.bound:g}"

    def read(self, value: object) -> tuple[float, float]:
        try:
            low, high = Array(Number(-self.bound, self.bound), 2, 2, repeats=True).read(value)
        except ValueError:
            raise ValueError(self.allowed) from None
        if not isinstance(low, float) or not isinstance(high, float) or low >= high:
            raise ValueError(self.allowed)
        return low, high


@dataclass(frozen=True)
class Distribution:
    """Probabilities that sum to 1 within 1e-6, read as a tuple of floats."""

    most: int

    @property
    def allowed(self) -> str:
        return f"a list of 1 to {self.most:,} probabilities that sum to 1"

    def read(self, value: object) -> tuple[float, ...]:
        try:
            shares = Array(Number(0.0, 1.0), 1, self.most, repeats=True).read(value)
        except ValueError:
            raise ValueError(self.allowed) from None
        numbers = tuple(share for share in shares if isinstance(share, float))
        if abs(math.fsum(numbers) - 1.0) > 1e-6:
            raise ValueError(self.allowed)
        return numbers
