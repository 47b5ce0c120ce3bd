"""Pair lists as people have them: LFW's, CALFW's, CFP's, columns as text or Parquet; and every pair of a set."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TextIO

import numpy as np

from facekd.core.files import no_stream, write_text
from facekd.core.names import NameColumn
from facekd.core.suggest import nearest
from facekd.core.types import Array, PairList
from facekd.crops.cfp import read_cfp
from facekd.crops.columns import Columns, parquet_columns, text_columns
from facekd.crops.layouts import LABELS, PERSONS, SIDES, meaning, pair_layout, sample
from facekd.crops.lfw import is_lfw_list, is_two_lines, read_lfw, read_two_lines
from facekd.errors import UserError

PARQUET = (".parquet", ".pq")


def read_pairs(path: Path, groups: Sequence[str] | None = None) -> PairList:
    """The pairs of a list in any of these forms.

    - LFW's ``pairs.txt``, with its first line or without, by tabs or spaces;
    - columns ``a``, ``b``, ``same`` (or ``left``, ``right``, ``label`` and others of `layouts`), as Parquet or as text
      parted by commas, semicolons, tabs or spaces; a column ``fold`` numbers the folds, ``left_person`` and
      ``right_person`` say whom they show, every further column is a group, kept as text;
    - lines ``a b 1`` or ``1 a b`` without a heading, parted likewise; a label is 1, 1.0, true, same, match …, or 0, -1,
      false, different, impostor …;
    - CALFW's and CPLFW's: two lines a pair, ``name.jpg 1``;
    - CFP's folder ``Split/FP`` or ``Split/FF``.

    Args:
        groups: columns that are read beside those; None reads all.

    Raises:
        UserError: no such file, no pair, or a line that is none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such pair list; check the path")
    no_stream(path)
    if path.is_dir():
        return read_cfp(path)
    wanted = None
    if groups is not None:
        known = (*(name for both in (*SIDES, *PERSONS) for name in both), *LABELS, "fold")
        wanted = {*known, *(name.strip().lower() for name in groups)}
    if path.suffix in PARQUET:
        return pairs_of(parquet_columns(path, wanted=wanted))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _read_text(path, file, wanted)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save the list as UTF-8") from error


def _read_text(path: Path, file: TextIO, wanted: Container[str] | None) -> PairList:
    lines = sample(path, file)
    if not lines:
        raise UserError(f"{path}: holds no pair")
    if is_lfw_list(lines, file):
        return read_lfw(path, file.read())
    if is_two_lines(lines):
        return read_two_lines(path, file)
    layout = pair_layout(path, lines)
    return pairs_of(text_columns(path, file, layout.sign, layout.names, wanted=wanted))


def pairs_of(columns: Columns) -> PairList:
    """The pairs of a list by its columns.

    Raises:
        UserError: a column lacks, or holds what is none of it.
    """
    named = {name.lower(): name for name in columns.texts}
    sides = next((both for both in SIDES if {*both} <= named.keys()), SIDES[0])
    label = next((name for name in LABELS if name in named), LABELS[0])
    for needed in (*sides, label):
        if needed not in named:
            raise UserError(
                f"{columns.path}: has no column {needed!r}{nearest(needed, columns.names)}; a pair list has the "
                "columns a, b and same" + (", parted by commas, semicolons, tabs or spaces" if columns.sign else "")
            )
    same = labels_of(columns, named[label])
    if len(same) == 0:
        raise UserError(f"{columns.path}: holds no pair")
    left, right = (filled(columns, named[side]) for side in sides)
    _refuse_heading(columns, [named[name] for name in (*sides, label)])
    persons = persons_of(columns)
    known = {*sides, label, "fold", *(PERSONS if persons is None else ())}
    apart = {name for both in PERSONS for name in both} if persons is not None else set()
    groups = {
        name: values for key, name in named.items() if key not in known | apart for values in [columns.texts[name]]
    }
    return PairList(left, right, same, folds_of(columns), groups, persons)


def _refuse_heading(columns: Columns, names: Sequence[str]) -> None:
    """Pass unless a row repeats the heading, as where two lists were put into one file: 'same' is a label too."""
    here = np.full(len(columns.texts[names[0]]), columns.headed)
    for name in names:
        values = columns.texts[name]
        here &= values.codes == values.distinct.index(name) if name in values.distinct else False
    if here.any():
        raise UserError(f"{columns.where(int(np.flatnonzero(here)[0]))}: repeats the heading; take the line out")


def filled(columns: Columns, name: str) -> NameColumn:
    """A column that has a value in each row.

    Raises:
        UserError: it lacks one.
    """
    values = columns.texts[name]
    if "" in values.used():
        row = int(np.flatnonzero(values.codes == values.distinct.index(""))[0])
        where = columns.where(row).removeprefix(f"{columns.path}, ")
        raise UserError(f"{columns.path}: column {name!r} lacks a value in {where}; add it")
    return values


def labels_of(columns: Columns, name: str) -> Array:
    """bool[P]: whether each row is labeled as the same person.

    Raises:
        UserError: a value that is no label, or one list that says no by 0 and by -1.
    """
    values = filled(columns, name) if columns.sign is None else columns.texts[name]
    found = [meaning(value) for value in values.distinct]
    used = set(np.unique(values.codes).tolist())
    for code, value in enumerate(values.distinct):
        if found[code] is None and code in used:
            row = int(np.flatnonzero(values.codes == code)[0])
            raise UserError(f"{columns.where(row)}: {name} is {value[:80]!r}; use 1 or 0")
    numbers = {float(value) for code, value in enumerate(values.distinct) if code in used and _is_float(value)}
    if {0.0, -1.0} <= numbers:
        raise UserError(
            f"{columns.path}: its column {name!r} holds 0 and -1 beside each other, which may mean two things; use 1 "
            "for the same person and 0 for two people"
        )
    same: Array = np.array([*map(bool, found)], bool)[values.codes]
    return same


def folds_of(columns: Columns) -> Array:
    """int16[P]: the folds of the column ``fold``; -1 where there is none.

    Raises:
        UserError: a fold that is no whole number.
    """
    name = next((name for name in columns.texts if name.lower() == "fold"), None)
    if name is None:
        n = len(next(iter(columns.texts.values())))
        return np.full(n, -1, np.int16)
    values = columns.texts[name]
    try:
        numbers = {value: _whole(value) for value in values.used()}
        fold: Array = np.array([numbers.get(value, -1) for value in values.distinct], np.int16)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{columns.path}: a fold is no whole number up to 32767 ({error}); number the folds from 0"
        ) from error
    return fold[values.codes] if len(fold) else np.zeros(0, np.int16)


def persons_of(columns: Columns) -> tuple[NameColumn, NameColumn] | None:
    """Whom each side shows, where the list says it.

    Raises:
        UserError: one of the two columns alone, or a row without a person.
    """
    named = {name.lower(): name for name in columns.texts}
    for both in PERSONS:
        there = [name for name in both if name in named]
        if len(there) == 2:
            left, right = (filled(columns, named[name]) for name in both)
            return left, right
        if there:
            other = both[there[0] == both[0]]
            raise UserError(
                f"{columns.path}: has a column {there[0]!r} and no {other!r}; name the people of both sides, or leave "
                "both out"
            )
    return None


def _whole(value: str) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError(f"{value!r}")
    return int(number)


def _is_float(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def resolve(pairs: PairList, names: Mapping[str, str | None], where: str) -> tuple[PairList, frozenset[str]]:
    """The pairs in terms of crop ids, and the photos among them that gave no crop, under their own names.

    Args:
        names: `crops.read.photo_names`.
        where: the crop store, for the message.

    Raises:
        UserError: a pair names a photo that the store has never seen.
    """
    named = pairs.photos()
    unknown = [name for name in named if name not in names]
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} photos of the pair list are not in it (first: {unknown[0]!r}); "
            "align the photos that the list names, or correct the list"
        )
    failed = frozenset(name for name in named if names[name] is None)
    ids = NameColumn.of(names.get(name) or name for name in pairs.left.distinct)  # one photo may have several names
    left, right = (NameColumn(ids.distinct, ids.codes[side.codes]) for side in (pairs.left, pairs.right))
    return replace(pairs, left=left, right=right), failed


def without_repeats(pairs: PairList, where: str) -> tuple[PairList, dict[str, int]]:
    """The list without what would count twice or mean nothing, and how many pairs of each kind were left out.

    Left out are photos paired with themselves (``itself``) and pairs that came before, the other way round too
    (``repeated``).

    Args:
        where: the list, for the message.

    Raises:
        UserError: a pair that is labeled both ways, or a photo that is said not to show the person it shows.
    """
    kept, counts = once(pairs, where)
    return (take(pairs, kept) if any(counts.values()) else pairs), counts


def once(pairs: PairList, where: str) -> tuple[Array, dict[str, int]]:
    """int[K]: the places of the pairs that `without_repeats` keeps, and its counts."""
    left, right = pairs.left.codes, pairs.right.codes
    itself = left == right
    if (itself & ~pairs.same).any():
        wrong = int(np.flatnonzero(itself & ~pairs.same)[0])
        raise UserError(
            f"{where}: pair {wrong + 1} says that {pairs.left[wrong]!r} is another person than itself; correct the list"
        )
    key = np.minimum(left, right).astype(np.int64)
    key *= len(pairs.left.distinct)
    key += np.maximum(left, right)
    order = np.argsort(key, kind="stable")  # of equal ones the first of the list comes first
    key = key[order]
    again = np.concatenate([[False], key[1:] == key[:-1]])
    del key
    start = np.flatnonzero(~again)  # where each run of equal pairs begins
    first = np.repeat(order[start], np.diff(np.append(start, len(order)))) if again.any() else order
    against = pairs.same[order] != pairs.same[first]
    if against.any():
        wrong, before = min(zip(order[against].tolist(), first[against].tolist(), strict=True))
        raise UserError(
            f"{where}: {int(against.sum())} pairs are labeled as same and as different (first: {pairs.left[wrong]!r} "
            f"and {pairs.right[wrong]!r}, pairs {before + 1} and {wrong + 1}); correct the list"
        )
    repeated = np.zeros(len(pairs), bool)
    repeated[order[again]] = True
    repeated &= ~itself
    counts = {"itself": int(itself.sum()), "repeated": int(repeated.sum())}
    return np.flatnonzero(~itself & ~repeated), counts


def take(pairs: PairList, kept: Array) -> PairList:
    """The pairs at the places `kept`, int[K], in that order."""
    groups = {name: values.take(kept) for name, values in pairs.groups.items()}
    persons = None if pairs.persons is None else (pairs.persons[0].take(kept), pairs.persons[1].take(kept))
    left, right = pairs.left.take(kept), pairs.right.take(kept)
    return PairList(left, right, pairs.same[kept], pairs.fold[kept], groups, persons)


def person_in_name(name: str) -> str | None:
    """The person whom LFW's or CFP's way of naming gives away; None for any other name.

    ``Abel_Pacheco/Abel_Pacheco_0001`` shows Abel_Pacheco, ``001/frontal/01`` shows 001 (whose photos lie in folders
    that are not named for a person). A guess, for photos of which nothing states it.
    """
    bare = re.sub(r"\.\w+$", "", name)
    found = re.fullmatch(r"(?:.*/)?([^/]+)/(?:\1_\d{4}|(?:frontal|profile)/\d\d)", bare)
    return found[1] if found else None


def all_pairs(ids: Sequence[str], identities: Sequence[str], seed: int, folds: int = 10) -> PairList:
    """Every pair of a labeled set.

    For the accuracy, identities are dealt into `folds` groups; in each, the genuine pairs and as many impostor
    pairs, drawn with `seed`, make up a fold, so that no person is in two folds. All other pairs have fold -1.
    """
    order = np.random.default_rng(seed).permutation(sorted(set(identities)))
    folds = min(folds, len(order) // 2)
    group = {str(identity): place % folds if folds else -1 for place, identity in enumerate(order)}
    places = np.array(list(combinations(range(len(ids)), 2)), np.int64).reshape(-1, 2)
    label = np.array(identities)
    same = label[places[:, 0]] == label[places[:, 1]]
    groups = np.array([group[identity] for identity in identities])[places]
    fold = np.where(groups[:, 0] == groups[:, 1], groups[:, 0], -1)
    rng = np.random.default_rng([seed, 1])
    for number in range(folds):
        genuine = np.flatnonzero((fold == number) & same)
        impostor = np.flatnonzero((fold == number) & ~same)
        dropped = rng.permutation(impostor)[len(genuine) :]
        fold[dropped] = -1
    known = NameColumn.of(ids)
    left, right = (known.take(places[:, side]) for side in (0, 1))
    return PairList(left, right, same, fold.astype(np.int16))


def write_pairs(path: Path, pairs: PairList) -> None:
    """Write a pair list as CSV with columns a, b, same, fold; `read_pairs` reads it back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["a", "b", "same", "fold"])
    writer.writerows(zip(pairs.left, pairs.right, pairs.same.astype(int), pairs.fold, strict=True))
    write_text(path, text.getvalue())
