"""Scores that somebody else's system gave: one row for each pair, as text or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facekd.core.names import NameColumn, together
from facekd.core.suggest import nearest
from facekd.core.types import Array, PairList
from facekd.crops.columns import Columns, parquet_columns, text_columns
from facekd.crops.layouts import LABELS, PERSONS, SIDES, sample, score_layout
from facekd.crops.pairs import PARQUET, filled, folds_of, labels_of, once, persons_of, take
from facekd.errors import UserError

SCORES = ("score", "similarity", "cosine")  # higher is more alike
DISTANCES = ("distance", "dissimilarity")  # lower is


@dataclass(frozen=True, slots=True)
class ScoredList:
    """Pairs with their scores."""

    pairs: PairList
    values: Array  # float64[P], higher is more alike; -inf where there was none
    named: bool  # whether the file says which photos the pairs are of
    left_out: dict[str, int]  # pairs by why they don't count


def read_scores(path: Path, lower_is_better: bool = False, groups: Sequence[str] = ()) -> ScoredList:
    """The pairs and scores of a list with the columns ``score`` and ``label``.

    Further columns: ``a`` and ``b``, the photos (or ``left`` and ``right``); ``left_person`` and ``right_person``, who
    then also stand in for a label; ``fold``; and those of `groups`. Without a heading, lines ``0.83 1``.
    An empty score or NaN is a pair that could not be compared: it scores -inf, as does an infinite score that says
    "not alike". Where photos are named, a pair that came before and a photo with itself are left out.

    Args:
        lower_is_better: the scores are distances; they are taken times -1.
        groups: the names of further columns that are kept.

    Raises:
        UserError: no such file, no pair, a line that is none, or a score of infinity that says "alike".
    """
    if not path.is_file():
        raise UserError(f"{path}: no such list of scores; check the path")
    wanted = {*SCORES, *DISTANCES, *LABELS, "fold", *(name for both in (*SIDES, *PERSONS) for name in both)}
    wanted |= {name.strip().lower() for name in groups}
    numbers = {*SCORES, *DISTANCES}
    if path.suffix in PARQUET:
        columns = parquet_columns(path, numbers, wanted)
    else:
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                lines = sample(path, file)
                if not lines:
                    raise UserError(f"{path}: holds no pair")
                layout = score_layout(path, lines)
                columns = text_columns(path, file, layout.sign, layout.names, numbers, wanted)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not readable as UTF-8 text ({error}); save the list as UTF-8") from error
    return _scored(columns, lower_is_better, groups)


def _scored(columns: Columns, lower_is_better: bool, groups: Sequence[str]) -> ScoredList:
    path = columns.path
    score, is_distance = _score_column(columns)
    if is_distance and not lower_is_better:
        raise UserError(f"{path}: its column {score!r} says that lower is more alike; add --lower-is-better")
    values = columns.numbers[score]
    if len(values) == 0:
        raise UserError(f"{path}: holds no pair")
    values = -values if lower_is_better else values
    values[np.isnan(values)] = -np.inf
    if (values == np.inf).any():
        row = int(np.flatnonzero(values == np.inf)[0])
        raise UserError(f"{columns.where(row)}: {score} is infinite; leave it empty where a pair could not be compared")
    same, persons = _labels(columns)
    named = {name.lower(): name for name in columns.texts}
    sides = next((both for both in SIDES if {*both} <= named.keys()), None)
    if sides is None:
        left = right = NameColumn.blank(len(values))
    else:
        left, right = (filled(columns, named[side]) for side in sides)
    kept = {name: columns.texts[name] for name in _groups(columns, groups)}
    fold = folds_of(columns) if "fold" in named else np.full(len(values), -1, np.int16)
    pairs = PairList(left, right, same, fold, kept, persons)
    left_out: dict[str, int] = {}
    if sides is not None:
        places, left_out = once(pairs, str(path))
        if any(left_out.values()):
            pairs, values = take(pairs, places), values[places]
    return ScoredList(pairs, values, sides is not None, {why: count for why, count in left_out.items() if count})


def _score_column(columns: Columns) -> tuple[str, bool]:
    """The name of the column of scores, and whether it is of distances."""
    there = {name.lower(): name for name in columns.numbers}
    found = [name for name in (*SCORES, *DISTANCES) if name in there]
    if len(found) != 1:
        has = (
            f"has the columns {' and '.join(found)}"
            if found
            else f"has no column 'score'{nearest('score', columns.names)}"
        )
        raise UserError(f"{columns.path}: {has}; a list of scores has one column score, and label, 1 or 0")
    return there[found[0]], found[0] in DISTANCES


def _labels(columns: Columns) -> tuple[Array, tuple[NameColumn, NameColumn] | None]:
    """bool[P] and whom the sides show, where the file says it; each can stand in for the other.

    Raises:
        UserError: neither, or a label against its people.
    """
    named = {name.lower(): name for name in columns.texts}
    persons = persons_of(columns)
    label = next((name for name in LABELS if name in named), None)
    if persons is None and label is None:
        raise UserError(
            f"{columns.path}: has no column 'label'{nearest('label', columns.names)}; a list of scores says of each "
            "pair whether it shows one person, by label, 1 or 0, or by left_person and right_person"
        )
    if persons is None:
        assert label is not None
        return labels_of(columns, named[label]), None
    one, two = together(*persons)
    equal: Array = one.codes == two.codes
    if label is not None:
        against = np.flatnonzero(labels_of(columns, named[label]) != equal)
        if len(against):
            row = int(against[0])
            raise UserError(
                f"{columns.where(row)}: its label is against its people, {one[row]!r} and {two[row]!r} ({len(against)} "
                "pairs are so); correct the list"
            )
    return equal, (one, two)


def _groups(columns: Columns, groups: Sequence[str]) -> list[str]:
    named = {name.lower(): name for name in columns.texts}
    for name in groups:
        if name.strip().lower() not in named:
            raise UserError(f"{columns.path}: has no group column {name!r}; check --group")
    return [named[name.strip().lower()] for name in groups]


def alongside(first: ScoredList, other: ScoredList, first_path: Path, path: Path) -> ScoredList:
    """The scores of another file for the pairs of the first, in their order.

    Where both name photos, pairs are found by them, the other way round too; else row stands beside row.

    Raises:
        UserError: the pairs are not the same, or are labeled otherwise.
    """
    ours, theirs = first.pairs, other.pairs
    if first.named and other.named:
        a, b, c, d = together(ours.left, ours.right, theirs.left, theirs.right)
        keys = [_key(a, b), _key(c, d)]
        orders = [np.argsort(key, kind="stable") for key in keys]
        if len(ours) != len(theirs) or not np.array_equal(keys[0][orders[0]], keys[1][orders[1]]):
            lacking = ~np.isin(keys[0], keys[1])
            more = ~np.isin(keys[1], keys[0])
            raise UserError(
                f"{path}: holds other pairs than {first_path}: {int(lacking.sum())} are not in it, {int(more.sum())} "
                "only in it; give scores of the same pairs"
            )
        place = np.empty(len(ours), np.int64)
        place[orders[0]] = orders[1]
    else:
        if len(ours) != len(theirs):
            raise UserError(
                f"{path}: {len(theirs)} pairs, where {first_path} has {len(ours)}; give scores of the same pairs in "
                "the same order, or name their photos in columns a and b"
            )
        place = np.arange(len(ours))
    against = np.flatnonzero(theirs.same[place] != ours.same)
    if len(against):
        raise UserError(
            f"{path}: {len(against)} pairs are labeled otherwise than in {first_path} (first: pair {against[0] + 1}); "
            "give scores of the same pairs" + ("" if first.named and other.named else " in the same order")
        )
    return replace(first, values=other.values[place])


def _key(left: NameColumn, right: NameColumn) -> Array:
    key: Array = np.minimum(left.codes, right.codes).astype(np.int64)
    key *= len(left.distinct)
    key += np.maximum(left.codes, right.codes)
    return key
