"""CFP's protocol files (Celebrities in Frontal-Profile): the folders ``Split/FF`` and ``Split/FP``.

``Pair_list_F.txt`` and ``Pair_list_P.txt`` beside ``Split`` number the frontal and the profile photos, one a line:
``1 ../Data/Images/001/frontal/01.jpg``. In ``Split/FP/01 … 10`` the files ``same.txt`` and ``diff.txt`` hold the pairs
of each fold, ``12,7``; in FP the second number is of a profile photo, in FF both are of frontal ones.

Source: S. Sengupta et al., "Frontal to profile face verification in the wild", WACV 2016, cfpw.io.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from facekd.core.names import NameColumn
from facekd.core.types import PairList
from facekd.errors import UserError


def read_cfp(path: Path) -> PairList:
    """The pairs of one of CFP's two protocols; a photo is called ``001/frontal/01``, and its first part its person.

    Args:
        path: the folder ``Split/FF`` or ``Split/FP``.

    Raises:
        UserError: another folder, a file that lacks, or a line that names no photo.
    """
    if path.name not in ("FF", "FP"):
        raise UserError(f"{path}: a folder is no pair list; of CFP give Protocol/Split/FF or Protocol/Split/FP")
    photos = {kind: _photos(path.parents[1] / f"Pair_list_{kind}.txt") for kind in set(path.name)}
    folds = sorted(folder for folder in path.iterdir() if folder.is_dir())
    left, right, same, fold = [], [], [], []
    for number, folder in enumerate(folds):
        for label in ("same", "diff"):
            file = folder / f"{label}.txt"
            for line, text in _lines(file):
                try:
                    a, b = (int(word) for word in text.split(","))
                    sides = photos[path.name[0]][a], photos[path.name[1]][b]
                except (ValueError, KeyError) as error:
                    raise UserError(f"{file}, line {line}: {text!r} names no two photos ({error})") from error
                left.append(sides[0])
                right.append(sides[1])
                same.append(label == "same")
                fold.append(number)
    if not left:
        raise UserError(f"{path}: holds no pair; it has the folders 01 to 10 with same.txt and diff.txt")
    persons = tuple(NameColumn.of(photo.split("/")[0] for photo in side) for side in (left, right))
    labels = np.array(same, bool), np.array(fold, np.int16)
    return PairList(NameColumn.of(left), NameColumn.of(right), *labels, persons=(persons[0], persons[1]))


def _photos(path: Path) -> dict[int, str]:
    """Number -> ``001/frontal/01``."""
    photos = {}
    for line, text in _lines(path):
        number, _, place = text.partition(" ")
        name = PurePosixPath(place.strip()).with_suffix("")
        if not number.isdecimal() or len(name.parts) < 3:
            raise UserError(f"{path}, line {line}: {text!r} is no number and path of a photo")
        photos[int(number)] = "/".join(name.parts[-3:])
    return photos


def _lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of each line that says something."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable ({error}); copy CFP's Protocol folder as a whole") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
