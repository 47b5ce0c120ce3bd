"""Templates: several photos or frames of one person that are compared as one thing, and what is asked of them.

Two forms are read: IJB-B's and IJB-C's own files (`crops.ijb`), and a CSV or Parquet of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from facekd.core.names import NameColumn
from facekd.core.suggest import nearest
from facekd.core.types import Array
from facekd.crops.columns import Columns, parquet_columns, text_columns
from facekd.crops.layouts import heading_sign, sample
from facekd.crops.pairs import PARQUET, filled, read_pairs, without_repeats
from facekd.errors import UserError

COLUMNS = ("template", "photo", "media", "person", "quality")
NUMBERS = ("quality",)


@dataclass(frozen=True, slots=True)
class TemplatePairs:
    """Which templates are compared, and whether they show the same person."""

    file: Path
    left: Array  # int32[P], places among the templates
    right: Array  # int32[P]
    same: Array  # bool[P]
    left_out: Mapping[str, int]  # pairs by why they don't count
    groups: Mapping[str, NameColumn] = field(default_factory=dict)  # column -> its P values


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """Templates by their photos, one row for each photo in a template; and the comparisons that are asked."""

    name: str
    files: tuple[Path, ...]  # that it was read from
    ids: tuple[str, ...]  # [T]
    persons: tuple[str | None, ...]  # [T], whom each shows; None where no file says it
    photos: NameColumn  # [R]
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
    named = {name.lower(): name for name in (*columns.texts, *columns.numbers)}
    for needed in ("template", "photo"):
        if needed not in named:
            raise UserError(
                f"{path}: has no column {needed!r}{nearest(needed, named)}; a list of templates has the columns "
                "template and photo, and if wanted media, person and quality"
            )
    column, photos = (filled(columns, named[name]) for name in ("template", "photo"))
    if len(photos) == 0:
        raise UserError(f"{path}: holds no template")
    used, template = np.unique(column.codes, return_inverse=True)
    ids, template = tuple(column.distinct[k] for k in used), template.astype(np.int32)
    check_photos(path, ids, template, photos)
    stated = _persons(path, ids, template, columns.texts[named["person"]] if "person" in named else None)
    listed, left_out = without_repeats(read_pairs(pairs), str(pairs))
    place = {name: k for k, name in enumerate(ids)}
    unknown = [name for name in listed.photos() if name not in place]
    if unknown:
        raise UserError(
            f"{pairs}: {len(unknown)} templates are not in {path} (first: {unknown[0]!r}); add their photos, or "
            "correct the list"
        )
    places = np.array([place.get(name, -1) for name in listed.left.distinct], np.int32)
    left, right = places[listed.left.codes], places[listed.right.codes]
    for side, persons in zip((left, right), listed.persons or (), strict=listed.persons is not None):
        stated = _persons(pairs, ids, side, persons, stated)
    check_persons(path, photos, template, stated)
    check_labels(pairs, ids, stated, left, right, listed.same)
    return TemplateSet(
        name=path.stem,
        files=(path, pairs),
        ids=ids,
        persons=stated,
        photos=photos,
        template=template,
        media=filled(columns, named["media"]).codes.astype(np.int64) if "media" in named else None,
        quality=_qualities(columns, columns.numbers[named["quality"]]) if "quality" in named else None,
        pairs=TemplatePairs(
            pairs, left, right, listed.same, {why: n for why, n in left_out.items() if n}, listed.groups
        ),
    )


def check_photos(path: Path, ids: Sequence[str], template: Array, photos: NameColumn) -> None:
    """Pass where no photo is twice in one template.

    Raises:
        UserError: one is.
    """
    _, first, times = np.unique(
        photos.codes.astype(np.int64) * len(ids) + template, return_index=True, return_counts=True
    )
    again = first[times > 1]
    if len(again):
        row = int(again.min())
        raise UserError(
            f"{path}: {len(again)} photos are more than once in a template (first: {photos[row]!r} in "
            f"{ids[template[row]]!r}), where they would count twice; keep each once"
        )


def check_persons(path: Path, photos: NameColumn, template: Array, persons: Sequence[str | None]) -> None:
    """Pass where the templates that share a photo show one person.

    Raises:
        UserError: a photo is in templates of two persons.
    """
    number = person_numbers(persons)[template]
    known = number >= 0
    shown = np.full(len(photos.distinct), -1, np.int64)
    shown[photos.codes[known]] = number[known]
    against = np.flatnonzero(known & (shown[photos.codes] != number))
    if len(against):
        row = int(against[0])
        raise UserError(
            f"{path}: {len(np.unique(photos.codes[against]))} photos are in templates of two persons (first: "
            f"{photos[row]!r}, in one of {persons[template[row]]!r}); correct one of them"
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
    """int32[T]: a number for each person; -1 where it is not known."""
    number: dict[str, int] = {}
    return np.array([-1 if name is None else number.setdefault(name, len(number)) for name in persons], np.int32)


def _columns(path: Path) -> Columns:
    if not path.is_file():
        raise UserError(f"{path}: no such list of templates; check the path")
    if path.suffix in PARQUET:
        return parquet_columns(path, NUMBERS, COLUMNS)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = sample(path, file)
            if not lines:
                raise UserError(f"{path}: holds no template")
            sign = heading_sign(lines, lambda names: {"template", "photo"} <= {*names})
            return text_columns(path, file, sign or ",", None, NUMBERS, COLUMNS if sign else None)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save the list as UTF-8") from error


def _qualities(columns: Columns, values: Array) -> Array:
    wrong = np.flatnonzero(~((values > 0) & (values < np.inf)))  # NaN too
    if len(wrong):
        row = int(wrong[0])
        raise UserError(f"{columns.where(row)}: quality is {values[row]:g}; it weighs a photo, so give a number over 0")
    return values


def _persons(
    path: Path,
    ids: Sequence[str],
    template: Array,
    values: NameColumn | None,
    before: Sequence[str | None] | None = None,
) -> tuple[str | None, ...]:
    """Whom each template shows, by a column that says it of some rows, and what was known `before`."""
    persons = [None] * len(ids) if before is None else list(before)
    if values is None:
        return tuple(persons)
    rows, first = np.unique(np.stack([template, values.codes]), axis=1, return_index=True)
    for place, code in rows.T[np.argsort(first)].tolist():
        name, said = values.distinct[code], persons[place]
        if said not in (None, name) and name:
            raise UserError(f"{path}: template {ids[place]!r} shows two persons, {said!r} and {name!r}; part it")
        persons[place] = name or said
    return tuple(persons)
