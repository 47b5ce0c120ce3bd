"""Crops that a training shall do without: a CSV that 'facekd leak' or 'facekd audit' wrote, or one written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facekd.core.files import no_stream, unquoted
from facekd.crops.columns import read_csv
from facekd.crops.cropset import CropSet
from facekd.errors import UserError


def without(crops: CropSet, path: Path) -> tuple[CropSet, int]:
    """The crops that the rows of a CSV do not name, and how many of its rows name none of them.

    A row with an ``identity`` names every crop of that person; one without names the crop whose id is its ``crop``.

    Raises:
        UserError: no such file, neither column in it, or no crop left.
    """
    no_stream(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            columns = read_csv(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); check --drop") from error
    if not {"identity", "crop"} & columns.keys():
        raise UserError(f"{path}: has neither a column identity nor a column crop; name what is to be dropped in one")
    length = len(next(iter(columns.values())))
    people = [unquoted(value) for value in columns.get("identity", [""] * length)]
    named = [unquoted(value) for value in columns.get("crop", [""] * length)]
    dropped_people = {person for person in people if person}
    dropped_crops = {crop for crop, person in zip(named, people, strict=True) if not person}
    gone = np.array(
        [
            crop_id in dropped_crops or identity in dropped_people
            for crop_id, identity in zip(crops.ids, crops.identities, strict=True)
        ],
        bool,
    )
    if gone.all():
        raise UserError(f"{path}: names every crop of {crops.path}; nothing would be left to learn from")
    there = set(crops.identities) | set(crops.ids)
    idle = sum((person or crop) not in there for crop, person in zip(named, people, strict=True))
    return crops.take(np.flatnonzero(~gone)), idle
