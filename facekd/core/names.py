"""Long lists of strings that come again and again, such as the photos of ten million pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

Array = np.ndarray


class NameColumn(Sequence[str]):
    """P strings as the distinct ones and a number for each place: a tuple of strings to whoever reads it.

    Ten million photos of pairs take 40 MB, where a tuple of strings takes 80 MB and is walked in Python.
    """

    __slots__ = ("codes", "distinct")

    def __init__(self, distinct: Sequence[str], codes: Array) -> None:
        self.distinct = tuple(distinct)  # each once; some may stand at no place
        self.codes = codes  # int32[P], places in `distinct`

    @classmethod
    def of(cls, values: Iterable[str]) -> NameColumn:
        """The same strings, numbered in the order in which they first come."""
        if isinstance(values, NameColumn):
            return values
        number: dict[str, int] = {}
        codes = np.fromiter((number.setdefault(value, len(number)) for value in values), np.int32)
        return cls(tuple(number), codes)

    @classmethod
    def blank(cls, n: int) -> NameColumn:
        """N empty strings, which take no memory."""
        return cls(("",), np.broadcast_to(np.int32(0), n))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> NameColumn: ...
    def __getitem__(self, place: int | slice) -> str | NameColumn:
        if isinstance(place, slice):
            return NameColumn(self.distinct, self.codes[place])
        return self.distinct[int(self.codes[place])]

    def __iter__(self) -> Iterator[str]:
        distinct = self.distinct
        return (distinct[code] for code in self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NameColumn) and other.distinct == self.distinct:
            return bool(np.array_equal(self.codes, other.codes))
        if not isinstance(other, Sequence) or isinstance(other, str) or len(other) != len(self):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"NameColumn({shown}{', …' if len(self) > 3 else ''}; {len(self)} of {len(self.distinct)})"

    def take(self, kept: Array) -> NameColumn:
        """The strings at the places `kept`, int[K] or bool[P], in that order."""
        return NameColumn(self.distinct, self.codes[kept])

    def renamed(self, distinct: Sequence[str]) -> NameColumn:
        """The same places with another string for each of `self.distinct`; two may become one."""
        found = NameColumn.of(distinct)
        return NameColumn(found.distinct, found.codes[self.codes] if len(found) else self.codes)

    def used(self) -> tuple[str, ...]:
        """The strings that stand at some place, each once, in the order of `distinct`."""
        there = np.bincount(self.codes, minlength=len(self.distinct)) if len(self.codes) else np.zeros(0, np.int64)
        return tuple(self.distinct[code] for code in np.flatnonzero(there))


def together(*columns: Iterable[str]) -> list[NameColumn]:
    """The columns with the same `distinct`, so that equal numbers are equal strings."""
    coded = [NameColumn.of(column) for column in columns]
    if all(one.distinct is coded[0].distinct for one in coded[1:]):
        return coded
    number: dict[str, int] = {}
    maps = [
        np.fromiter((number.setdefault(name, len(number)) for name in one.distinct), np.int32, len(one.distinct))
        for one in coded
    ]
    distinct = tuple(number)
    found = []
    for one, places in zip(coded, maps, strict=True):
        as_is = len(places) == 0 or np.array_equal(places, np.arange(len(places)))
        found.append(NameColumn(distinct, one.codes if as_is else places[one.codes]))  # the very same tuple
    return found
