"""``facekd synth``: photos of people who do not exist, in a folder for each of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2
import numpy as np
import yaml

from facekd.console import progress, say
from facekd.core.files import write_bytes
from facekd.core.run import default_out, start_run
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.photos.synth import jpeg, person, render
from facekd.settings.door import door

SHEET_ROWS, SHEET_COLUMNS, CELL = 12, 10, 128  # the contact sheet shows the first people and photos only


@door
def synth(out: Path | None = None, *, people: int = 100, photos: int = 10, seed: int = 0, quiet: bool = False) -> Path:
    """Draw photos of people who do not exist, to try everything without anyone's face.

    Writes OUT/photos/person-0001/photo-0001.jpg and so on, and OUT/contact-sheet.jpg to look at. The same seed
    gives the same files, byte for byte, on one machine. A run that was stopped goes on where it was, and asking
    for more people or photos adds to what is there.

    Example: facekd synth nobodies/ --people 200 --photos 20

    Args:
        out: Folder to write; runs/synth-DATE where not given.
        people: How many people.
        photos: How many photos of each.
        seed: Another seed draws other people.
        quiet: Print nothing.

    Returns:
        The folder written.

    Raises:
        UserError: a number out of range, or a folder that holds another seed's people.
    """
    for name, value, least in (("people", people, 1), ("photos", photos, 1), ("seed", seed, 0)):
        if value < least:
            raise UserError(f"--{name} is {value}: give {least} or more")
    out = out or default_out("synth")
    _same_seed(out, seed)
    start_run(out, "synth", {"out": out, "people": people, "photos": photos, "seed": seed})

    todo = [(out, seed, index, missing) for index in range(people) if (missing := _missing(out, index, photos))]
    total = sum(len(job[3]) for job in todo)
    if total < people * photos:
        say(f"{people * photos - total} of {people * photos} photos are there already", quiet)
    for _ in progress(_draw_all(todo), total, "photos drawn", quiet):
        pass
    write_bytes(out / "contact-sheet.jpg", _contact_sheet(out, min(people, SHEET_ROWS), min(photos, SHEET_COLUMNS)))
    say(f"{out}: {people} people drawn, {photos} photos each; next: facekd align {out / 'photos'}", quiet)
    return out


def photo_path(out: Path, index: int, photo: int) -> Path:
    """Where photo `photo` of person `index` (both from 0) lies in the folder `out`."""
    return out / "photos" / f"person-{index + 1:04d}" / f"photo-{photo + 1:04d}.jpg"


def draw_person(out: Path, seed: int, index: int, photos: list[int]) -> int:
    """Write these photos of one person; how many they are. Runs in a worker process."""
    who = person(seed, index)
    for photo in photos:
        write_bytes(photo_path(out, index, photo), jpeg(render(who, seed, photo)))
    return len(photos)


def _draw_all(todo: list[tuple[Path, int, int, list[int]]]) -> Iterable[None]:
    """Do the work on all cores; yields once for each photo."""
    workers = min(cores(), len(todo))
    if workers <= 1:
        for job in todo:
            yield from [None] * draw_person(*job)
        return
    # Every core has a process of its own, so OpenCV needs no threads there.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            for done in as_completed([pool.submit(draw_person, *job) for job in todo]):
                yield from [None] * done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a full disk or Ctrl-C ends the run now, not after the last photo
            raise


def _missing(out: Path, index: int, photos: int) -> list[int]:
    return [photo for photo in range(photos) if not photo_path(out, index, photo).exists()]


def _same_seed(out: Path, seed: int) -> None:
    """Refuse to mix two populations in one folder."""
    if not (out / "run.yaml").exists():
        return
    before = yaml.safe_load((out / "run.yaml").read_text(encoding="utf-8"))
    if before.get("command") != "synth" or before.get("seed") != seed:
        raise UserError(
            f"{out}: holds a run of {before.get('command')!r} with seed {before.get('seed')}, not of 'synth' "
            f"with seed {seed}; choose another folder or that seed"
        )


def _contact_sheet(out: Path, rows: int, columns: int) -> bytes:
    """A JPEG with a row for each person and a column for each photo."""
    sheet: Array = np.full((rows * (CELL + 4) + 4, columns * (CELL + 4) + 4, 3), 255, np.uint8)
    for index in range(rows):
        for photo in range(columns):
            pixels = cv2.imread(str(photo_path(out, index, photo)))
            assert pixels is not None, photo_path(out, index, photo)
            y, x = 4 + index * (CELL + 4), 4 + photo * (CELL + 4)
            sheet[y : y + CELL, x : x + CELL] = cv2.resize(pixels, (CELL, CELL), interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", sheet, (cv2.IMWRITE_JPEG_QUALITY, 92))
    assert ok
    return data.tobytes()
