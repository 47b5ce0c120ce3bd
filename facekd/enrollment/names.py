"""Names of people that look like one name: told apart by upper and lower case or by the Unicode form alone."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from facekd.gallery.gallery import GalleryTable

SHOWN = 5  # sentences about names


def alike_names(names: Iterable[str | None]) -> list[str]:
    """What is to be said of the names in a source of people.

    Names of one composed form (NFC) are one person; names that differ further are two, whatever a reader would think.
    """
    forms: dict[str, set[str]] = defaultdict(set)  # composed -> as they are
    for name in names:
        if name:
            forms[unicodedata.normalize("NFC", name)].add(name)
    notes = [
        f"{name}: stands there in {len(raw)} Unicode forms, which are taken for one person"
        for name, raw in forms.items()
        if len(raw) > 1
    ]
    alike: dict[str, list[str]] = defaultdict(list)
    for name in forms:
        alike[_key(name)].append(name)
    notes += [_two(own) for own in alike.values() if len(own) > 1]
    return _first(sorted(notes))


def alike_enrolled(home: GalleryTable, new: Iterable[str]) -> list[str]:
    """What is to be said of new people whose names look like that of somebody who is enrolled."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in new:
        wanted[_key(name)].append(name)
    ids = home.ids() if wanted else []
    notes = [_two([one, name]) for one in ids for name in wanted.get(_key(one), ()) if name != one]
    return _first(sorted(notes))


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _two(names: list[str]) -> str:
    return (
        f"{' and '.join(sorted(names))}: differ by upper and lower case or by Unicode form only and are "
        f"{len(names)} people; if they are one, give them one name"
    )


def _first(notes: list[str]) -> list[str]:
    more = [f"and {len(notes) - SHOWN} more such names"] if len(notes) > SHOWN else []
    return [*notes[:SHOWN], *more]
