"""Splits by identity: no person is on both sides."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError


def split_identities(identities: Sequence[str | None], held_out: float, seed: int) -> tuple[Array, Array]:
    """Places of the training crops and of the held-out crops.

    Which identities are held out depends on their names and `seed` alone: they are ranked by a hash, so the
    split is the same on every machine. Crops without an identity train.

    Args:
        held_out: share of the identities, in [0, 1).

    Returns:
        Two int64 arrays, ascending.

    Raises:
        UserError: another share, or too few identities for both sides.
    """
    if not 0 <= held_out < 1:
        raise UserError(f"held out share {held_out}: use a number from 0 up to, but not, 1")
    names = sorted({name for name in identities if name is not None})
    count = round(len(names) * held_out)
    if held_out > 0 and (count < 2 or len(names) - count < 2):
        raise UserError(
            f"{len(names)} identities are too few to hold out {held_out:.0%} of them: at least two must be on each side"
        )
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    held = set(ranked[:count])
    is_held = np.array([name in held for name in identities], bool)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def classes(identities: Sequence[str | None]) -> tuple[tuple[str, ...], Array]:
    """The identities in order of their names, and int64[N] labels; -1 where a crop has no identity."""
    names = tuple(sorted({name for name in identities if name is not None}))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([-1 if name is None else place[name] for name in identities], np.int64)


def frequent(identities: Sequence[str | None], minimum: int) -> Array:
    """Places of the crops whose identity has at least `minimum` crops; int64, ascending."""
    counts = Counter(identities)
    return np.flatnonzero([name is not None and counts[name] >= minimum for name in identities])


def refuse_twins(people: Mapping[Path, AbstractSet[str]]) -> None:
    """Pass where no two identities' names differ only by case or Unicode form.

    Such names come from two file systems or two hands, and nearly always mean one person, who would be learned as two:
    the head would be taught to tell that person from himself, and with one name held out the split would leak. Two
    names are alike where their canonically composed (NFC) lower-case forms are, so ``Weiss`` and ``Weiß`` are two.

    Args:
        people: the names in each set of crops, by the set's path.

    Raises:
        UserError: names both, and where each is; and how many more there are.
    """
    first: dict[str, str] = {}
    twins = []
    for name in sorted(frozenset[str]().union(*people.values())):
        other = first.setdefault(_caseless(name), name)
        if other != name:
            twins.append((other, name))
    if not twins:
        return
    one, two = twins[0]
    only_form = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", two)
    # Forms of one letter look alike when printed; their code points do not.
    shown = [ascii(name) if only_form else repr(name) for name in (one, two)]
    places = [next(path for path, names in people.items() if name in names) for name in (one, two)]
    more = f" (and {len(twins) - 1} more like them)" if len(twins) > 1 else ""
    raise UserError(
        f"the identities {shown[0]} in {places[0]} and {shown[1]} in {places[1]} differ only by "
        f"{'Unicode form' if only_form else 'case'}{more}: give both one name if they are one person, clearly "
        "different ones if they are two, or leave one out by --drop"
    )


def _caseless(name: str) -> str:
    if name.isascii():  # most are, and a million of them are to take no time
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())
