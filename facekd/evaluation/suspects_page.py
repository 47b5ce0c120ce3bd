"""Pages of what a training set should do without: possible label errors, each crop beside some of the person it is
filed under and of whom it is like; copies; and people who are also in a test list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2

from facekd.core.run import environment
from facekd.crops.cropset import CropSet
from facekd.crops.suspects import DoubtfulCrop
from facekd.reports.document import Picture, Pictures, Repeat, Section, Text, write_html

SIDE, QUALITY = 96, 85  # px of a crop, and of its JPEG
BESIDE = 3  # crops of either person


def write_suspects(
    path: Path, suspects: Sequence[DoubtfulCrop], most: int, crops: CropSet, copies: Mapping[int, int], command: str
) -> None:
    """Write the clearest `most` suspects with pictures, and as many copies, readable by its owner only.

    Args:
        crops: what was audited.
        copies: places of crops that are copies, and of what.
        command: the shell line that does it again.

    Raises:
        UserError: the file can't be written, or a crop is damaged.
    """
    places = defaultdict(list)
    for place, identity in enumerate(crops.identities):
        places[identity].append(place)
    at = {crop_id: place for place, crop_id in enumerate(crops.ids)}
    sections = []
    for number, one in enumerate(suspects[:most], 1):
        own = [place for place in places[one.identity] if place != at[one.crop_id]]
        sections.append(
            Section(
                f"{number}. {one.source}",
                (
                    Pictures("The crop", (crop_picture(crops, at[one.crop_id]),)),
                    Pictures(f"Filed under {one.identity}: cosine {one.own:.3f}", _some(crops, own)),
                    Pictures(f"Nearer to {one.nearest}: cosine {one.other:.3f}", _some(crops, places[one.nearest])),
                ),
            )
        )
    rest = len(suspects) - len(sections)
    if rest:
        sections.append(Section("Not shown", (Text(f"{rest} more, less clear; the CSV of --out has them all."),)))
    if copies:
        rows = [tuple(crop_picture(crops, at) for at in pair) for pair in list(copies.items())[:most]]
        shown = [Pictures(f"Of {crops.identities[i]}", row) for i, row in zip(copies, rows, strict=False)]
        more = [Text(f"{len(copies) - most} more; the CSV of --out has them all.")] if len(copies) > most else []
        sections.append(Section(f"Copies: {len(copies)} crops, each beside the one it repeats", (*shown, *more)))
    lead = f"{len(suspects)} of {len(crops)} crops are nearer to another person than to their own"
    write_html(
        path,
        title="Possible label errors",
        lead=f"{lead}, {len(copies)} repeat a picture." if copies else f"{lead}.",
        sections=sections,
        repeat=Repeat((command,), environment()),
    )


def write_leaks(
    path: Path, leaks: Sequence[tuple[int, int, str]], found: int, learned: CropSet, judged: CropSet, command: str
) -> None:
    """Write leaks with pictures, readable by its owner only.

    Args:
        leaks: place in `learned`, place in `judged`, and how it was found, in words.
        found: leaks in all.
        command: the shell line that does it again.

    Raises:
        UserError: the file can't be written, or a crop is damaged.
    """
    sections = []
    for number, (own, other, how) in enumerate(leaks, 1):
        identity, person = learned.identities[own] or "nobody named", judged.identities[other] or "nobody named"
        pair = (
            Pictures(f"To learn from: {identity}", (crop_picture(learned, own),)),
            Pictures(f"In the list: {person}", (crop_picture(judged, other),)),
        )
        sections.append(Section(f"{number}. {learned.sources[own]}: {how}", pair))
    if found > len(leaks):
        sections.append(Section("Not shown", (Text(f"{found - len(leaks)} more; the CSV of --out has them all."),)))
    write_html(
        path,
        title="People of the training set who are in the list",
        lead=f"{found} of {len(learned)} crops show somebody of the list's {len(judged)} photos.",
        sections=sections,
        repeat=Repeat((command,), environment()),
    )


def _some(crops: CropSet, places: Sequence[int]) -> tuple[Picture, ...]:
    return tuple(crop_picture(crops, place) for place in places[:BESIDE])


def crop_picture(crops: CropSet, place: int) -> Picture:
    """A crop of a set, small, with its source."""
    pixels = cv2.resize(crops.pixels(place), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    assert ok
    return Picture(jpeg.tobytes(), crops.sources[place])
