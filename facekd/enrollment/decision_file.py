"""Files of decisions: what somebody chose about each suspected mix-up, as the review page saves it.

UTF-8 text parted by commas, semicolons or tabs, a row for each case, in any order::

    gallery   which gallery it is about
    case      which suspicion of it
    kind      two_ids, two_people or changed; this and the next three are for the reader, and may be missing: what a
              spreadsheet makes of them does no harm
    person    the id
    other     of two_ids the other one
    photo     of two_people the photo
    choice    same: one person. different: two people; of changed, the id is somebody else's now. wrong: photos that
              never count, the new ones of the id that is held back; where both are, of both, or wrong_person or
              wrong_other. Empty: not decided
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.files import unquoted
from facekd.errors import UserError

COLUMNS = ("gallery", "case", "kind", "person", "other", "photo", "choice")
NEEDED = ("gallery", "case", "choice")
TOLD = ("kind", "person", "other", "photo")
CHOICES = ("same", "different", "wrong", "wrong_person", "wrong_other")
CASE = re.compile(r"(c[0-9a-f]{16})-([0-9a-f]{12})")
AGAIN = "save the file anew from the page of --review"


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that chooses something."""

    number: int  # of the row, counted from 1 for the header as spreadsheets do
    key: str  # see cases.Case, as `seen`
    seen: str
    choice: str  # one of CHOICES
    told: tuple[str, ...]  # the values of TOLD; empty where the file has none


def read_answers(path: Path, mark: str | None) -> list[Answered]:
    """The rows of a file of decisions that choose something, each case once.

    Args:
        mark: of the gallery, see `cases.gallery_mark`; None where it has none yet.

    Raises:
        UserError: no such file or another kind of file; another gallery's; a row that can't be understood; or two rows
            that choose differently of one case.
    """
    found: dict[str, Answered] = {}
    for number, row in _rows(path):
        if mark is None or row["gallery"] != mark:
            raise UserError(f"{path}: row {number} is of another gallery; give the file of this gallery's own page")
        case = CASE.fullmatch(row["case"])
        if case is None:
            raise UserError(f"{path}: row {number} has the case {row['case']!r}, which is none; {AGAIN}")
        choice = row["choice"].lower()
        if not choice:
            continue  # not decided yet
        if choice not in CHOICES:
            raise UserError(f"{path}: row {number} chooses {choice!r}; give one of {', '.join(CHOICES)}")
        told = tuple(unquoted(row.get(name, "")) for name in TOLD)
        answer = Answered(number, case[1], case[2], choice, told)
        before = found.setdefault(answer.key, answer)
        if before.choice != choice:
            raise UserError(
                f"{path}: rows {before.number} and {number} choose {before.choice!r} and {choice!r} of the same case; "
                "take one of them out"
            )
    return list(found.values())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each row that is not empty, and its values by column."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file of decisions; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for number, values in enumerate(reader, 2):
            if not any(values):
                continue
            if len(values) != len(header):
                raise UserError(
                    f"{path}: row {number} has {len(values)} values under {len(header)} columns; correct it, or {AGAIN}"
                )
            row = dict(zip(header, values, strict=True))
            yield number, row | {name: row[name].strip() for name in NEEDED}
    except csv.Error as error:
        raise UserError(f"{path}: not readable as CSV ({error}); {AGAIN}") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in header]
    if missing:
        said = ", ".join(header)[:80] or "empty"
        raise UserError(f"{path}: no file of decisions, for its first row ({said}) has no {' and no '.join(missing)}")
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise UserError(f"{path}: has the column {unknown[0]!r}, which no decision has; take it out")
    if len(set(header)) != len(header):
        raise UserError(f"{path}: has a column twice ({', '.join(header)}); take one out")
