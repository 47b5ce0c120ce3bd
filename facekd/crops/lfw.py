"""The lists of LFW and its relatives: ``pairs.txt``, and CALFW's and CPLFW's two lines a pair.

Source: G. B. Huang et al., "Labeled Faces in the Wild", technical report 07-49, 2007; T. Zheng et al.,
"Cross-Age LFW", arXiv:1708.08197, and "Cross-Pose LFW", technical report 18-01, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from facekd.core.names import NameColumn
from facekd.core.types import Array, PairList
from facekd.crops.layouts import shown
from facekd.errors import UserError


def is_lfw_list(lines: Sequence[str], file: TextIO) -> bool:
    """Whether it is LFW's ``pairs.txt``, with its first line or without.

    ``name 1 2`` could also be two photos and a label, so somewhere a line ``name 1 other 2`` has to follow. `file` is
    back at its beginning afterwards.
    """
    if _is_header(lines[0]):
        return len(lines[0].split()) < 3 or any(_is_pair(line, 4) for line in lines)
    if not all(_is_pair(line, 3) or _is_pair(line, 4) for line in lines):
        return False
    found = any(_is_pair(line, 4) for line in lines)
    for line in () if found else file:
        if line.strip() and not _is_pair(line, 3):
            found = _is_pair(line, 4)
            break
    file.seek(0)
    return found


def read_lfw(path: Path, text: str) -> PairList:
    """``pairs.txt``: a header (folds and pairs of each kind, or pairs of each kind), then 3 or 4 columns.

    A list without any tab is parted by spaces, as an editor leaves it; LFW's names have none. Where the header lacks,
    the folds are those that equally many pairs of each kind, in turns, make up.

    Raises:
        UserError: a line that is no pair, or another number of pairs than the header announces.
    """
    sign = "\t" if "\t" in text else None
    lines = text.lstrip().splitlines()
    headed = _is_header(lines[0])
    header = [int(word) for word in lines[0].split()] if headed else []
    if len(header) > 2:
        raise UserError(f"{path}: its first line has {len(header)} numbers; LFW's has folds and pairs, as 10 TAB 300")
    left, right, same, persons = [], [], [], []
    for number, line in enumerate(lines[headed:], 1 + headed):
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
        persons.append((a[0], b[0]))
    kinds = np.array(same, bool)
    folds, each = (header[0], header[1]) if len(header) == 2 else (1, header[0]) if header else _folds(kinds)
    if header and len(left) != folds * each * 2:
        raise UserError(f"{path}: announces {folds * each * 2} pairs and holds {len(left)}; copy it again")
    fold = np.repeat(np.arange(folds), 2 * each) if folds > 1 else np.full(len(left), -1)
    shows = NameColumn.of(a for a, _ in persons), NameColumn.of(b for _, b in persons)
    return PairList(NameColumn.of(left), NameColumn.of(right), kinds, fold.astype(np.int16), persons=shows)


def is_two_lines(lines: Sequence[str]) -> bool:
    """Whether each line is a photo and a number, as in CALFW's and CPLFW's lists."""
    return all(len(words) == 2 and words[1].isdecimal() for words in map(_two_words, lines))


def read_two_lines(path: Path, file: TextIO) -> PairList:
    """CALFW's and CPLFW's lists: ``name.jpg 1`` twice for each pair, 0 behind the photos of two people.

    Tenths of the list are its folds where each has pairs of both kinds.

    Raises:
        UserError: a line that is none, or two of one pair that do not agree.
    """
    photos: list[str] = []
    same: list[bool] = []
    before: tuple[int, str, str] | None = None
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        words = _two_words(line)
        if len(words) != 2 or not words[1].isdecimal():
            raise UserError(f"{path}, line {number}: {shown(line)} is no photo and 1 or 0; correct it")
        photos.append(words[0])
        if before is None:
            before = (number, words[0], words[1])
            continue
        if (int(before[2]) > 0) != (int(words[1]) > 0):
            raise UserError(
                f"{path}, lines {before[0]} and {number}: the photos of one pair have the labels {before[2]} and "
                f"{words[1]}; such a list has two lines for each pair, both with 1 for the same person or 0"
            )
        same.append(int(words[1]) > 0)
        before = None
    if before is not None:
        raise UserError(f"{path}, line {before[0]}: a pair of one photo; such a list has two lines for each pair")
    kinds = np.array(same, bool)
    fold = np.full(len(kinds), -1, np.int16)
    parts = np.array_split(np.arange(len(kinds)), 10)
    if all(len(part) and 0 < kinds[part].mean() < 1 for part in parts):
        for number, part in enumerate(parts):
            fold[part] = number
    return PairList(NameColumn.of(photos[::2]), NameColumn.of(photos[1::2]), kinds, fold)


def _is_header(line: str) -> bool:
    return all(word.isdecimal() and word.isascii() for word in line.lstrip("\ufeff").split())


def _is_pair(line: str, width: int) -> bool:
    """Whether it is ``name 1 2`` or ``name 1 other 2``."""
    words = line.rstrip().split("\t" if "\t" in line else None)
    numbers = words[1:] if width == 3 else words[1::2]
    return len(words) == width and not words[0].isdecimal() and all(word.isdecimal() for word in numbers)


def _two_words(line: str) -> list[str]:
    """The values of a line, parted by tabs, or else by spaces; none where other signs part them."""
    return [] if {",", ";"} & {*line} else line.strip().split("\t" if "\t" in line else None)


def _folds(same: Array) -> tuple[int, int]:
    """Folds and pairs of each kind in a list of turns of equal length, genuine first; one fold where it is another."""
    turns = np.flatnonzero(np.diff(same.astype(np.int8))) + 1
    lengths = np.diff(np.concatenate([[0], turns, [len(same)]]))
    regular = len(lengths) % 2 == 0 and len(set(lengths.tolist())) == 1 and bool(same[0])
    return (len(lengths) // 2, int(lengths[0])) if regular else (1, len(same) // 2)
