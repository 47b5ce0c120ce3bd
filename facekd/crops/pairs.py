"""Pair lists: LFW's pairs.txt, CSV and Parquet, CFP's folders; and every pair of a labeled set."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from facekd.core.files import write_text
from facekd.core.suggest import nearest
from facekd.core.types import Array, PairList
from facekd.crops.cfp import read_cfp
from facekd.crops.columns import read_csv, read_parquet
from facekd.errors import UserError

TRUE, FALSE = {"1", "true", "yes", "same"}, {"0", "false", "no", "different"}


def read_pairs(path: Path) -> PairList:
    """The pairs in LFW's ``pairs.txt``, a CSV or Parquet with columns ``a``, ``b``, ``same``, or CFP's ``Split/FP``.

    A column ``fold`` numbers the folds; every further column is a group, kept as text.

    Raises:
        UserError: no such file, no pair, or a line that is none.
    """
    if not path.exists():
        raise UserError(f"{path}: no such pair list; check the path")
    if path.is_dir():
        return read_cfp(path)
    if path.suffix == ".parquet":
        return _from_columns(path, read_parquet(path))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            while first and not first.strip():
                first = file.readline()
            if not first:
                raise UserError(f"{path}: holds no pair")
            file.seek(0)
            if all(word.isdecimal() for word in first.split()):
                return _lfw(path, file.read())
            if _is_lfw_pair(first):
                raise UserError(
                    f"{path}: its first line is a pair; LFW's lists begin with a line of their folds and pairs of each "
                    "kind, as 10 TAB 300, or of the pairs alone, as 500; put it back"
                )
            return _from_columns(path, read_csv(path, file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save the list as UTF-8") from error


def resolve(pairs: PairList, names: Mapping[str, str | None], where: str) -> tuple[PairList, frozenset[str]]:
    """The pairs in terms of crop ids, and the photos among them that gave no crop, under their own names.

    Args:
        names: `crops.read.photo_names`.
        where: the crop store, for the message.

    Raises:
        UserError: a pair names a photo that the store has never seen.
    """
    named = dict.fromkeys((*pairs.left, *pairs.right))  # each once, in the list's order
    unknown = [name for name in named if name not in names]
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} photos of the pair list are not in it (first: {unknown[0]!r}); "
            "align the photos that the list names, or correct the list"
        )
    failed = frozenset(name for name in named if names[name] is None)
    left = tuple(names[name] or name for name in pairs.left)
    right = tuple(names[name] or name for name in pairs.right)
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
    number: dict[str, int] = {}
    left, right = (
        np.fromiter((number.setdefault(name, len(number)) for name in side), np.int64, len(side))
        for side in (pairs.left, pairs.right)
    )
    itself = left == right
    if (itself & ~pairs.same).any():
        wrong = int(np.flatnonzero(itself & ~pairs.same)[0])
        raise UserError(
            f"{where}: pair {wrong + 1} says that {pairs.left[wrong]!r} is another person than itself; correct the list"
        )
    key = np.minimum(left, right) * len(number) + np.maximum(left, right)
    _, first, again = np.unique(key, return_index=True, return_inverse=True)
    against = np.flatnonzero(pairs.same != pairs.same[first[again]])
    if len(against):
        wrong = int(against[0])
        raise UserError(
            f"{where}: {len(against)} pairs are labeled as same and as different (first: {pairs.left[wrong]!r} and "
            f"{pairs.right[wrong]!r}, pairs {first[again[wrong]] + 1} and {wrong + 1}); correct the list"
        )
    repeated = (first[again] != np.arange(len(key))) & ~itself
    counts = {"itself": int(itself.sum()), "repeated": int(repeated.sum())}
    return (take(pairs, np.flatnonzero(~itself & ~repeated)) if any(counts.values()) else pairs), counts


def take(pairs: PairList, kept: Array) -> PairList:
    """The pairs at the places `kept`, int[K], in that order."""
    left, right = (tuple(side[i] for i in kept) for side in (pairs.left, pairs.right))
    groups = {name: tuple(values[i] for i in kept) for name, values in pairs.groups.items()}
    return PairList(left, right, pairs.same[kept], pairs.fold[kept], groups)


def person_in_name(name: str) -> str | None:
    """The person whom LFW's or CFP's way of naming gives away; None for any other name.

    ``Abel_Pacheco/Abel_Pacheco_0001`` shows Abel_Pacheco, ``001/frontal/01`` shows 001 (whose photos lie in folders
    that are not named for a person).
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
    left, right = (tuple(ids[i] for i in places[:, side]) for side in (0, 1))
    return PairList(left, right, same, fold.astype(np.int16))


def _lfw(path: Path, text: str) -> PairList:
    """``pairs.txt``: a header (folds and pairs of each kind, or pairs of each kind), then 3 or 4 columns.

    A list without any tab is parted by spaces, as an editor leaves it; LFW's names have none.
    """
    sign = "\t" if "\t" in text else None
    lines = text.lstrip().splitlines()
    header = [int(word) for word in lines[0].split()]
    if len(header) > 2:
        raise UserError(f"{path}: its first line has {len(header)} numbers; LFW's has folds and pairs, as 10 TAB 300")
    folds, each = (header[0], header[1]) if len(header) == 2 else (1, header[0])
    left, right, same = [], [], []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        words = line.rstrip().split(sign)
        try:
            if len(words) == 3:
                a, b = (words[0], int(words[1])), (words[0], int(words[2]))
            elif len(words) == 4:
                a, b = (words[0], int(words[1])), (words[2], int(words[3]))
            else:
                raise ValueError(f"{len(words)} columns")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: no LFW pair ({error}); see umass-vis-lfw.github.io") from error
        left.append(f"{a[0]}/{a[0]}_{a[1]:04d}")
        right.append(f"{b[0]}/{b[0]}_{b[1]:04d}")
        same.append(len(words) == 3)
    if len(left) != folds * each * 2:
        raise UserError(f"{path}: announces {folds * each * 2} pairs and holds {len(left)}; copy it again")
    fold = np.repeat(np.arange(folds), 2 * each) if folds > 1 else np.full(len(left), -1)
    return PairList(tuple(left), tuple(right), np.array(same, bool), fold.astype(np.int16))


def _is_lfw_pair(line: str) -> bool:
    """Whether it is ``name 1 2`` or ``name 1 other 2``."""
    words = line.rstrip().split("\t" if "\t" in line else None)
    numbers = {3: words[1:], 4: words[1::2]}.get(len(words), [])
    return bool(numbers) and all(word.isdecimal() for word in numbers)


def _from_columns(path: Path, columns: Mapping[str, Sequence[object]]) -> PairList:
    for needed in ("a", "b", "same"):
        if needed not in columns:
            raise UserError(
                f"{path}: has no column {needed!r}{nearest(needed, columns)}; a pair list has the columns a, b and same"
                + (", parted by commas" if path.suffix != ".parquet" else "")
            )
        if None in columns[needed]:
            raise UserError(f"{path}: column {needed!r} lacks a value in row {columns[needed].index(None) + 1}; add it")
    same: list[bool] = []
    meant: dict[object, bool] = {}  # a long list says the same few words over and over
    for number, value in enumerate(columns["same"], 2):
        if value not in meant:
            word = str(value).strip().lower()
            if word not in TRUE | FALSE:
                raise UserError(f"{path}, line {number}: same is {value!r}; use 1 or 0")
            meant[value] = word in TRUE
        same.append(meant[value])
    if not same:
        raise UserError(f"{path}: holds no pair")
    try:
        fold = np.full(len(same), -1, np.int16)
        if "fold" in columns:
            fold = np.array([int(str(v)) for v in columns["fold"]], np.int16)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: a fold is no whole number up to 32767 ({error})") from error
    groups = {
        name: tuple(map(str, values)) for name, values in columns.items() if name not in ("a", "b", "same", "fold")
    }
    left, right = (tuple(str(v) for v in columns[side]) for side in ("a", "b"))
    return PairList(left, right, np.array(same, bool), fold, groups)


def write_pairs(path: Path, pairs: PairList) -> None:
    """Write a pair list as CSV with columns a, b, same, fold; `read_pairs` reads it back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["a", "b", "same", "fold"])
    writer.writerows(zip(pairs.left, pairs.right, pairs.same.astype(int), pairs.fold, strict=True))
    write_text(path, text.getvalue())
