"""A CSV that says whose photo is where: one row for each photo, any further columns about the person."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from facekd.errors import UserError
from facekd.photos.find import PhotoFile, printable

PERSON, PHOTO = "person", "photo"  # the columns that have to be there
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class Listed:
    """What a CSV of people says."""

    photos: tuple[PhotoFile, ...]  # in its order, each with an identity
    refused: tuple[tuple[str, str | None, str, str], ...]  # source, person, status, reason
    metadata: Mapping[str, Mapping[str, str]]  # person -> column -> value; empty values are left out
    contradictions: tuple[tuple[str, str, int], ...]  # person, column, row whose other value was not taken


def read_list(path: Path, root: Path | None = None) -> Listed:
    """The photos that a CSV with the columns ``person`` and ``photo`` names; further columns are metadata.

    UTF-8, with or without a byte order mark, parted by commas. A row whose photo lies outside the root has the status
    ``outside``, however it gets there: by ``..``, as an absolute path or over a link; a row without a person or a photo
    or with another number of fields than the header is ``bad_row``. A person's first value of a column holds.

    Args:
        root: the folder that photos are relative to, or a zip or tar that holds them; None: the folder of the CSV.

    Raises:
        UserError: no such file or root, not such a CSV, or no row in it.
    """
    root = path.parent if root is None else root
    if not root.exists():
        raise UserError(f"{root}: no such folder of photos; check --root")
    photos: dict[tuple[str, str], PhotoFile] = {}
    refused: list[tuple[str, str | None, str, str]] = []
    metadata: dict[str, dict[str, str]] = {}
    contradictions: list[tuple[str, str, int]] = []
    inside = os.path.realpath(root)
    for number, row in _rows(path):
        if row is None:
            reason = f"row {number} has another number of fields than the header; correct it"
            refused.append((f"{printable(path.name)} row {number}", None, "bad_row", reason))
            continue
        person, photo = row.pop(PERSON).strip(), row.pop(PHOTO).strip()
        if not person or not photo or "\0" in person + photo:
            reason = f"row {number} names no {PHOTO if person else PERSON}; correct it"
            refused.append((f"{printable(path.name)} row {number}", person or None, "bad_row", reason))
            continue
        member = _below(photo, root, inside)
        if member is None:
            reason = f"row {number}: the photo lies outside {root}; move it there or give another --root"
            refused.append((printable(photo), person, "outside", reason))
            continue
        photos.setdefault((person, member), PhotoFile(root, member, printable(member), person))
        known = metadata.setdefault(person, {})
        for column, value in row.items():
            if value.strip() and known.setdefault(column, value.strip()) != value.strip():
                contradictions.append((person, column, number))
    if not photos and not refused:
        raise UserError(f"{path}: holds no row below its header; add one for each photo")
    return Listed(tuple(photos.values()), tuple(refused), metadata, tuple(contradictions))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | None]]:
    """The number of each row below the header, counted from 2 as spreadsheets do, and its fields by column."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for number, fields in enumerate(reader, 2):
                if fields:  # not an empty line
                    yield number, dict(zip(header, fields, strict=True)) if len(fields) == len(header) else None
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such list of people; check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: not readable as CSV ({error}); save it as UTF-8 parted by commas") from error


def _check_header(path: Path, header: list[str]) -> None:
    if PERSON in header and PHOTO in header and len(set(header)) == len(header) and "" not in header:
        wrong = [name for name in header if "=" in name]
        if wrong:
            raise UserError(f"{path}: has a column {wrong[0]!r}; metadata is asked for as key=value, so rename it")
        return
    for sign, name in DELIMITERS.items():
        if len(header) == 1 and sign in header[0]:
            raise UserError(f"{path}: is parted by {name}; save it parted by commas")
    if PERSON in header and PHOTO in header:
        raise UserError(f"{path}: has columns without a name or of the same name ({', '.join(header)}); rename them")
    missing = " and ".join(name for name in (PERSON, PHOTO) if name not in header)
    raise UserError(
        f"{path}: has no column {missing} in its first row ({', '.join(header) or 'empty'}); it needs "
        f"'{PERSON},{PHOTO}' and may have more"
    )


def _below(photo: str, root: Path, inside: str) -> str | None:
    """The photo's path below the root, or its name in an archive; None where it lies outside."""
    if not root.is_dir():
        return photo  # a name in an archive is looked up there and never becomes a path
    path = os.path.normpath(os.path.join(root, photo))
    real = os.path.realpath(path)
    if os.path.commonpath([inside, real]) != inside or real == inside:
        return None
    member = os.path.relpath(path, root)
    if member.split(os.sep, 1)[0] != os.pardir:
        return member
    return os.path.relpath(real, inside)  # an absolute path that reaches the root by another name
