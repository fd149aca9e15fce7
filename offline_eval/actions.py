"""All actions of a log, in the order of columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from offline_eval.formats.chunk import Id


@dataclass(frozen=True)
class Actions:
    """Ids in column order: ascending integers where all are integers, also as text; else sorted text."""

    ids: tuple[Id, ...]

    @classmethod
    def of(cls, ids: Iterable[Id]) -> Actions:
        """In their order; an integer and its text are one id where both occur, in the kind that came first."""
        distinct = {str(one): one for one in ids}
        if all(_is_integer(text) for text in distinct):
            return cls(tuple(sorted(distinct.values(), key=int)))
        return cls(tuple(distinct[text] for text in sorted(distinct)))

    @cached_property
    def integers(self) -> bool:
        """Whether all ids are integers, or text of integers."""
        return all(_is_integer(str(one)) for one in self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _column(self) -> dict[str, int]:
        return {str(one): i for i, one in enumerate(self.ids)}

    def column(self, wanted: Id) -> int | None:
        """Column of an id given as text or integer, None where there is none."""
        return self._column.get(str(wanted))

    def columns(self, names: Sequence[Id]) -> NDArray[np.intp]:
        """Column of each name, -1 where there is none, and one -1 more at the end for code -1."""
        found = [self._column.get(str(name), -1) for name in names]
        return np.array([*found, -1], np.intp)


def _is_integer(text: str) -> bool:
    return text.lstrip("-").isdecimal() and text.isascii() and str(int(text)) == text
