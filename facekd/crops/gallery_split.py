"""Who is enrolled and who is looked for: a gallery and its probes, read from a list or dealt with a seed."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.files import write_text
from facekd.core.suggest import nearest
from facekd.crops.columns import read_columns
from facekd.errors import UserError

COLUMNS = ("photo", "set")
DEALT = (
    "half of the people, rounded down, are enrolled: those whose name has the lowest SHA-256 behind the seed, each "
    "with the one photo that has the lowest; their other photos and all photos of everybody else are probes"
)


@dataclass(frozen=True, slots=True)
class GallerySplit:
    """Photos by the names that a pair list may give them; none is named twice."""

    gallery: tuple[str, ...]
    probes: tuple[str, ...]


def read_gallery_split(path: Path) -> tuple[GallerySplit, int]:
    """The split in a CSV or Parquet with columns ``photo`` and ``set`` (gallery or probe), and how many rows repeat.

    Raises:
        UserError: no such file, no split in it, a photo in both sets, or one of the sets empty.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such list of a gallery and probes; check the path")
    columns = read_columns(path)
    for needed in COLUMNS:
        if needed not in columns:
            raise UserError(
                f"{path}: has no column {needed!r}{nearest(needed, columns)}; a split has the columns photo and set"
                + (", parted by commas" if path.suffix != ".parquet" else "")
            )
    sets: dict[str, str] = {}
    for number, (photo, word) in enumerate(zip(columns["photo"], columns["set"], strict=True), 2):
        if photo is None or photo == "":
            raise UserError(f"{path}, line {number}: names no photo; add it")
        kind = str(word).strip().lower()
        if kind not in ("gallery", "probe"):
            raise UserError(f"{path}, line {number}: set is {word!r}; use gallery or probe")
        if sets.setdefault(str(photo), kind) != kind:
            raise UserError(f"{path}, line {number}: {photo!r} is in the gallery and a probe; keep one")
    split = GallerySplit(*(tuple(photo for photo, kind in sets.items() if kind == of) for of in ("gallery", "probe")))
    for kind, photos in (("gallery", split.gallery), ("probe", split.probes)):
        if not photos:
            raise UserError(f"{path}: no photo is in the set {kind!r}; a split needs a gallery and probes")
    return split, len(columns["photo"]) - len(sets)


def deal_gallery(photos: Sequence[str], persons: Sequence[str], seed: int) -> GallerySplit:
    """The split that `DEALT` describes: a function of the names and the seed alone, the same on every machine.

    Args:
        photos: [N], each once.
        persons: [N], whom each shows.

    Raises:
        UserError: fewer than two people.
    """

    def rank(name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}:{name}".encode()).digest(), name

    people = sorted(set(persons), key=rank)
    if len(people) < 2:
        raise UserError("the photos show one person only: a gallery and unknown probes need two; give more people")
    enrolled = set(people[: len(people) // 2])
    chosen: dict[str, str] = {}
    for photo, person in zip(photos, persons, strict=True):
        if person in enrolled:
            chosen[person] = min(chosen.get(person, photo), photo, key=rank)
    gallery = frozenset(chosen.values())
    return GallerySplit(
        tuple(photo for photo in photos if photo in gallery), tuple(photo for photo in photos if photo not in gallery)
    )


def write_gallery_split(path: Path, split: GallerySplit) -> None:
    """Write a split as CSV; `read_gallery_split` reads it back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((photo, "gallery") for photo in split.gallery)
    writer.writerows((photo, "probe") for photo in split.probes)
    write_text(path, text.getvalue())
