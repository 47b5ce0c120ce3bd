"""What is known of photos or people beside who they are: sex, age band, camera; rates are told by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facekd.core.names import NameColumn
from facekd.crops.columns import read_columns
from facekd.crops.cropset import CropSet
from facekd.deploy.embeddings import Embedded
from facekd.errors import UserError
from facekd.evaluation.protocols import Everybody, ListedPairs, known
from facekd.evaluation.results import CROSS

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Attributes:
    """The values of photos and people by their names."""

    path: Path
    columns: Mapping[str, Mapping[str, str]]  # column -> name of a photo or a person -> value


def read_attributes(path: Path, wanted: Sequence[str]) -> Attributes:
    """The attributes in a CSV or Parquet: the first column names photos or identities, each further one is a group.

    Args:
        wanted: columns; those that the file has are taken, and all where it has none of them.

    Raises:
        UserError: no such file, no column beside the names, or a name with two values.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of attributes; check the path")
    columns = read_columns(path)
    if len(columns) < 2:
        raise UserError(f"{path}: has no group column; its first column names photos or identities, the others groups")
    key, *others = columns
    taken = [name for name in wanted if name in others] or others
    found: dict[str, dict[str, str]] = {name: {} for name in taken}
    for name, values in found.items():
        for number, (who, value) in enumerate(zip(columns[key], columns[name], strict=True), 2):
            text = value.strip() or UNKNOWN
            if values.setdefault(who, text) != text:
                raise UserError(f"{path}, line {number}: {who!r} is {text!r} and was {values[who]!r}; keep one")
    return Attributes(path, found)


def of_pairs(
    attributes: Attributes, listed: ListedPairs, source: CropSet | Embedded, crops: Path | None
) -> ListedPairs:
    """The list with a group column for each attribute: the value of both photos, or both values joined by CROSS.

    Raises:
        UserError: none of the photos has an attribute.
    """
    left, right = listed.pairs.left, listed.pairs.right
    more = {}
    for column, value in _by_photo(attributes, listed.pairs.photos(), source, crops).items():
        own = NameColumn.of(value.get(photo, UNKNOWN) for photo in left.distinct)
        n = len(own.distinct)
        both, place = np.unique(
            own.codes[left.codes].astype(np.int64) * n + own.codes[right.codes], return_inverse=True
        )
        joined = NameColumn.of(_joined(own.distinct[k // n], own.distinct[k % n]) for k in both.tolist())
        more[column] = NameColumn(joined.distinct, joined.codes[place])
    return replace(listed, pairs=replace(listed.pairs, groups={**listed.pairs.groups, **more}))


def of_everybody(
    attributes: Attributes, people: Everybody, source: CropSet | Embedded, crops: Path | None
) -> dict[str, tuple[str, ...]]:
    """For each attribute the value of each of `people.ids`, then of its photos without a crop.

    Raises:
        UserError: none of the photos has an attribute.
    """
    photos = (*people.ids, *people.failed_photos)
    found = _by_photo(attributes, photos, source, crops)
    return {column: tuple(values[photo] for photo in photos) for column, values in found.items()}


def _joined(a: str, b: str) -> str:
    return a if a == b else CROSS.join(sorted((a, b)))


def _by_photo(
    attributes: Attributes, photos: Sequence[str], source: CropSet | Embedded, crops: Path | None
) -> dict[str, dict[str, str]]:
    """By column the value of each photo: its own, else its person's, else UNKNOWN."""
    ids, persons = known(source, crops)
    found: dict[str, dict[str, str]] = {}
    for column, values in attributes.columns.items():
        own = {str(ids[name]): value for name, value in values.items() if ids.get(name) is not None}
        found[column] = {
            photo: own.get(photo) or values.get(photo) or values.get(str(persons.get(photo))) or UNKNOWN
            for photo in photos
        }
        if all(value == UNKNOWN for value in found[column].values()):
            raise UserError(
                f"{attributes.path}: its first column names none of the photos and none of their people; "
                "name photos as the crops do, or identities"
            )
    return found
