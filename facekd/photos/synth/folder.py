"""A folder of photos of people who do not exist, drawn on all cores."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np

from facekd.core.files import write_bytes
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.photos.synth.people import person
from facekd.photos.synth.render import jpeg, render

SHEET_ROWS, SHEET_COLUMNS, CELL = 12, 10, 128  # the contact sheet shows the first people and photos only
Missing = dict[int, list[int]]  # person -> photos, both from 0


def photo_path(out: Path, index: int, photo: int) -> Path:
    """Where photo `photo` of person `index` (both from 0) lies in the folder `out`."""
    return out / "photos" / f"person-{index + 1:04d}" / f"photo-{photo + 1:04d}.jpg"


def missing_photos(out: Path, people: int, photos: int) -> Missing:
    """The photos that are not there yet, of each person who lacks some."""
    lacking = {i: [p for p in range(photos) if not photo_path(out, i, p).exists()] for i in range(people)}
    return {index: some for index, some in lacking.items() if some}


def draw_missing(out: Path, seed: int, missing: Missing) -> Iterator[None]:
    """Draw photos on all cores; yields once for each."""
    jobs = [(out, seed, index, photos) for index, photos in missing.items()]
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # every core has a thread here
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for done in as_completed([pool.submit(draw_person, *job) for job in jobs]):
                yield from [None] * done.result()
        finally:
            pool.shutdown(cancel_futures=True)  # a full disk or Ctrl-C ends the run now, not after the last photo
            cv2.setNumThreads(before)


def draw_person(out: Path, seed: int, index: int, photos: list[int]) -> int:
    """Write these photos of one person; how many they are."""
    who = person(seed, index)
    for photo in photos:
        write_bytes(photo_path(out, index, photo), jpeg(render(who, seed, photo)))
    return len(photos)


def write_contact_sheet(out: Path, people: int, photos: int) -> None:
    """Write ``contact-sheet.jpg``: a row for each of the first people and a column for each of their first photos."""
    rows, columns = min(people, SHEET_ROWS), min(photos, SHEET_COLUMNS)
    sheet: Array = np.full((rows * (CELL + 4) + 4, columns * (CELL + 4) + 4, 3), 255, np.uint8)
    for index in range(rows):
        for photo in range(columns):
            pixels = cv2.imread(str(photo_path(out, index, photo)))
            assert pixels is not None, photo_path(out, index, photo)
            y, x = 4 + index * (CELL + 4), 4 + photo * (CELL + 4)
            sheet[y : y + CELL, x : x + CELL] = cv2.resize(pixels, (CELL, CELL), interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", sheet, (cv2.IMWRITE_JPEG_QUALITY, 92))
    assert ok
    write_bytes(out / "contact-sheet.jpg", data.tobytes())
