"""Templates: several photos or frames of one person that are compared as one thing, and what is asked of them.

Two forms are read: IJB-B's and IJB-C's own files (`crops.ijb`), and a CSV or Parquet of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.suggest import nearest
from facekd.core.types import Array
from facekd.crops.columns import read_csv, read_parquet
from facekd.crops.pairs import read_pairs, without_repeats
from facekd.errors import UserError


@dataclass(frozen=True, slots=True)
class TemplatePairs:
    """Which templates are compared, and whether they show the same person."""

    file: Path
    left: Array  # int32[P], places among the templates
    right: Array  # int32[P]
    same: Array  # bool[P]
    left_out: Mapping[str, int]  # pairs by why they don't count
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # column -> its P values


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """Templates by their photos, one row for each photo in a template; and the comparisons that are asked."""

    name: str
    files: tuple[Path, ...]  # that it was read from
    ids: tuple[str, ...]  # [T]
    persons: tuple[str | None, ...]  # [T], whom each shows; None where no file says it
    photos: tuple[str, ...]  # [R]
    template: Array  # int32[R], place among the templates
    media: Array | None  # int64[R]: equal numbers are photos of one source, as frames of a video; None: not stated
    quality: Array | None  # float64[R], above 0; None: not stated
    pairs: TemplatePairs | None
    galleries: Mapping[str, Array] = field(default_factory=dict)  # name -> int32[G], the templates enrolled
    probes: Array = field(default_factory=lambda: np.zeros(0, np.int32))  # int32[Q], looked for in each gallery

    def __post_init__(self) -> None:
        rows = len(self.photos)
        assert len(self.persons) == len(self.ids), (len(self.persons), len(self.ids))
        for column in (self.template, self.media, self.quality):
            assert column is None or column.shape == (rows,), (column.shape, rows)


def read_template_list(path: Path, pairs: Path) -> TemplateSet:
    """Templates in a CSV or Parquet with the columns ``template`` and ``photo``, and a list of pairs of them.

    Further columns that count: ``media`` (a video's name in each of its frames), ``person``, ``quality`` (higher is
    better). The pair list is any that `crops.pairs.read_pairs` reads, naming templates in place of photos.

    Raises:
        UserError: no such file, a column or value that lacks, a photo twice in a template, a template or a photo of
            two persons, a quality that is no number above 0, or pairs that name other templates or contradict the
            persons.
    """
    columns = _columns(path)
    named = [_texts(path, columns, name) for name in ("template", "photo")]
    ids = tuple(dict.fromkeys(named[0]))
    place = {name: i for i, name in enumerate(ids)}
    template = np.fromiter((place[name] for name in named[0]), np.int32, len(named[0]))
    photos = tuple(named[1])
    check_photos(path, ids, template, photos)
    media = quality = None
    if "media" in columns:
        number: dict[str, int] = {}
        texts = _texts(path, columns, "media")
        media = np.fromiter((number.setdefault(name, len(number)) for name in texts), np.int64, len(texts))
    if "quality" in columns:
        quality = _qualities(path, columns["quality"])
    persons = _persons(path, ids, template, columns.get("person"))
    check_persons(path, photos, template, persons)
    listed, left_out = without_repeats(read_pairs(pairs), str(pairs))
    unknown = [name for name in dict.fromkeys((*listed.left, *listed.right)) if name not in place]
    if unknown:
        raise UserError(
            f"{pairs}: {len(unknown)} templates are not in {path} (first: {unknown[0]!r}); add their photos, or "
            "correct the list"
        )
    left, right = (
        np.fromiter((place[name] for name in side), np.int32, len(side)) for side in (listed.left, listed.right)
    )
    check_labels(pairs, ids, persons, left, right, listed.same)
    found = TemplatePairs(pairs, left, right, listed.same, {k: n for k, n in left_out.items() if n}, listed.groups)
    return TemplateSet(path.stem, (path, pairs), ids, persons, photos, template, media, quality, found)


def check_photos(path: Path, ids: Sequence[str], template: Array, photos: Sequence[str]) -> None:
    """Pass where no photo is twice in one template.

    Raises:
        UserError: one is.
    """
    number: dict[str, int] = {}
    photo = np.fromiter((number.setdefault(name, len(number)) for name in photos), np.int64, len(photos))
    key = photo * len(ids) + template
    _, first, times = np.unique(key, return_index=True, return_counts=True)
    again = first[times > 1]
    if len(again):
        row = int(again.min())
        raise UserError(
            f"{path}: {len(again)} photos are more than once in a template (first: {photos[row]!r} in "
            f"{ids[template[row]]!r}), where they would count twice; keep each once"
        )


def check_persons(path: Path, photos: Sequence[str], template: Array, persons: Sequence[str | None]) -> None:
    """Pass where the templates that share a photo show one person.

    Raises:
        UserError: a photo is in templates of two persons.
    """
    shown: dict[str, str] = {}
    for photo, place in zip(photos, template.tolist(), strict=True):
        person = persons[place]
        if person is not None and shown.setdefault(photo, person) != person:
            raise UserError(
                f"{path}: {photo!r} is in templates of two persons ({shown[photo]!r} and {person!r}); correct one of "
                "them"
            )


def check_labels(
    path: Path, ids: Sequence[str], persons: Sequence[str | None], left: Array, right: Array, same: Array
) -> None:
    """Pass where no pair is labeled against the persons of its templates.

    Raises:
        UserError: one is.
    """
    number = person_numbers(persons)
    known = (number[left] >= 0) & (number[right] >= 0)
    against = np.flatnonzero(known & ((number[left] == number[right]) != same))
    if len(against):
        row = int(against[0])
        says = "the same person" if same[row] else "two people"
        raise UserError(
            f"{path}: {len(against)} pairs are labeled against the persons of their templates (first: pair {row + 1}, "
            f"{ids[left[row]]!r} and {ids[right[row]]!r}, is said to show {says}); correct the list or the persons, or "
            "leave the persons out"
        )


def person_numbers(persons: Sequence[str | None]) -> Array:
    """int64[T]: a number for each person; -1 where it is not known."""
    number: dict[str, int] = {}
    return np.array([-1 if name is None else number.setdefault(name, len(number)) for name in persons], np.int64)


def _columns(path: Path) -> dict[str, list[Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such list of templates; check the path")
    if path.suffix == ".parquet":
        return {name: list(values) for name, values in read_parquet(path).items()}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return {name: list(values) for name, values in read_csv(path, file).items()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save the list as UTF-8") from error


def _texts(path: Path, columns: Mapping[str, Sequence[Any]], name: str) -> list[str]:
    """A column as text, each value there."""
    if name not in columns:
        raise UserError(
            f"{path}: has no column {name!r}{nearest(name, columns)}; a list of templates has the columns template and "
            "photo, and if wanted media, person and quality"
        )
    values = ["" if value is None else str(value) for value in columns[name]]
    if not values:
        raise UserError(f"{path}: holds no template")
    if "" in values:
        raise UserError(f"{path}, line {values.index('') + 2}: column {name!r} lacks a value; add it")
    return values


def _qualities(path: Path, values: Sequence[Any]) -> Array:
    found = np.zeros(len(values))
    for row, value in enumerate(values):
        try:
            found[row] = float(value)
        except (TypeError, ValueError):
            found[row] = np.nan
        if not 0 < found[row] < np.inf:  # NaN too
            raise UserError(f"{path}, line {row + 2}: quality is {value!r}; it weighs a photo, so give a number over 0")
    return found


def _persons(path: Path, ids: Sequence[str], template: Array, values: Sequence[Any] | None) -> tuple[str | None, ...]:
    persons: list[str | None] = [None] * len(ids)
    for place, value in zip(template.tolist(), values or (), strict=bool(values)):
        if value is None or value == "":
            continue
        said = persons[place]
        if said not in (None, str(value)):
            raise UserError(f"{path}: template {ids[place]!r} shows two persons, {said!r} and {value!r}; part it")
        persons[place] = str(value)
    return tuple(persons)
