"""How the lines of a list are laid out: what parts their values, and which columns they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from facekd.crops.columns import split_line
from facekd.errors import UserError

SIGNS = ("\t", ";", ",", " ")
SIGN_NAMES = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "spaces"}
LOOKED_AT = 1000  # lines
TRUE = {"true", "yes", "same", "match", "matched", "genuine", "mated", "target", "positive", "t", "y"}
FALSE = {"false", "no", "different", "diff", "mismatch", "nonmatch", "nomatch", "impostor", "imposter", "nonmated",
         "nontarget", "negative", "f", "n"}  # fmt: skip
SIDES = (("a", "b"), ("left", "right"), ("photo1", "photo2"), ("image1", "image2"), ("file1", "file2"))
PERSONS = (("left_person", "right_person"), ("person1", "person2"), ("identity1", "identity2"))
LABELS = ("same", "label", "is_same", "genuine", "match")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text of columns is read."""

    sign: str  # between the values
    names: tuple[str, ...] | None  # of the columns; None where the first line has them


def sample(path: Path, file: TextIO) -> list[str]:
    """The first lines that say something; `file` is back at its beginning afterwards.

    Raises:
        UserError: a file that holds none, or that is no text.
    """
    lines: list[str] = []
    for line in file:
        if "\0" in line:
            raise UserError(f"{path}: holds zero bytes, so it is no text; give a list as UTF-8 text or Parquet")
        if line.strip():
            lines.append(line)
        if len(lines) == LOOKED_AT:
            break
    file.seek(0)
    return lines


def meaning(value: str) -> bool | None:
    """Whether a label says that two photos show one person; None where it is no label."""
    word = value.strip().lower()
    if word in TRUE:
        return True
    try:
        return {1.0: True, 0.0: False, -1.0: False}.get(float(word))
    except ValueError:
        return False if word.replace("-", "").replace("_", "").replace(" ", "") in FALSE else None


def pair_layout(path: Path, lines: Sequence[str]) -> Layout:
    """The layout of a list of photos and labels: with a heading, or as ``a b 1`` or ``1 a b``.

    Raises:
        UserError: a first line that is neither, or that could be both.
    """
    headed = heading_sign(lines, lambda names: _names_pairs(names, lines))
    if headed:
        return Layout(headed, None)
    sign = _steady_sign(lines, 3)
    rows = [] if sign is None else [row for row in (split_line(line, sign) for line in lines) if len(row) == 3]
    last, first = (bool(rows) and all(meaning(row[k]) is not None for row in rows) for k in (2, 0))
    if sign is None or first == last:
        why = "can be read as 'a b 1' and as '1 a b'" if first else "is no pair and names no columns"
        raise UserError(
            f"{path}: has no column 'a', 'b' and 'same', and its first line, {shown(lines[0])}, {why}; give a line "
            "'a,b,same' first, or lines 'a b 1' of two photos and 1 for the same person, else 0, parted by commas, "
            "semicolons, tabs or spaces"
        )
    return Layout(sign, ("a", "b", "same") if last else ("same", "a", "b"))


def score_layout(path: Path, lines: Sequence[str]) -> Layout:
    """The layout of a list of scores: with a heading, or as ``0.83 1``.

    Raises:
        UserError: a first line that is neither, or that could be more than one thing.
    """
    headed = heading_sign(lines, lambda names: any(not _is_number(name) and meaning(name) is None for name in names))
    if headed:
        return Layout(headed, None)
    sign = _steady_sign(lines, 2)
    rows = [] if sign is None else [row for row in (split_line(line, sign) for line in lines) if len(row) == 2]
    label = [bool(rows) and all(meaning(row[k]) is not None for row in rows) for k in (0, 1)]
    score = [bool(rows) and all(row[k] == "" or _is_number(row[k]) for row in rows) for k in (0, 1)]
    orders = [names for names, fits in ((("score", "label"), score[0] and label[1]), (("label", "score"), label[0] and
              score[1])) if fits]  # fmt: skip
    if sign is None or len(orders) != 1:
        raise UserError(
            f"{path}: its first line, {shown(lines[0])}, does not name the columns; give a line 'score,label' first, "
            "and below it the score of each pair and 1 for the same person, else 0"
        )
    return Layout(sign, orders[0])


def heading_sign(lines: Sequence[str], is_heading: Callable[[list[str]], bool]) -> str | None:
    """What parts the values where the first line is a heading; None where it is none.

    Args:
        is_heading: says it of the values of the first line, each in lower case.
    """
    for sign in SIGNS:
        names = [value.lower() for value in split_line(lines[0], sign)]
        if len(names) > 1:
            return sign if is_heading(names) else None
    return None


def shown(line: str) -> str:
    """A line in a sentence."""
    text = line.strip("\r\n\ufeff")
    return repr(text if len(text) <= 80 else text[:80] + "…")


def _names_pairs(names: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether these are names of columns, not two photos and their label."""
    known = {*(name for both in (*SIDES, *PERSONS) for name in both), *LABELS, "fold"}
    if any(_is_number(name) for name in names) or not known.intersection(names):
        return False
    if not any({*both} <= {*names} for both in SIDES) and len(names) == 3:
        # 'x y same' is a heading with a wrong name where the other lines say 1 or 0
        return any(_is_number(word) for line in lines[1:2] for word in line.replace(",", " ").replace(";", " ").split())
    return True


def _steady_sign(lines: Sequence[str], width: int) -> str | None:
    """What parts all lines into `width` values, or else the first line."""
    fits = [sign for sign in SIGNS if len(split_line(lines[0], sign)) == width]
    for sign in fits:
        if all(len(split_line(line, sign)) == width for line in lines):
            return sign
    return fits[0] if fits else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
