"""The page of --review: each suspicion, the faces that it is about where the photos are at hand, and the choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from facekd.core.pixels import encode_crop
from facekd.core.types import Array
from facekd.enrollment.answers import COLUMNS, TOLD
from facekd.enrollment.cases import Case, gallery_mark
from facekd.enrollment.decisions import told_of
from facekd.enrollment.report import Names
from facekd.enrollment.sources import People
from facekd.faces.align import choose
from facekd.faces.detect import Detect
from facekd.ingest.alignment import detector_of
from facekd.photos.decode import BadPhotoError, decode
from facekd.photos.find import PhotoFile, read_bytes
from facekd.reports.document import Picture
from facekd.reports.review import ReviewCase, ReviewChoice, ReviewGroup, ReviewSide, write_review_page
from facekd.settings.photos import FaceSearch

FACES = 3  # of each side
PICTURED = 200  # cases with pictures; a page of more would be slow to open
SIDE = 168  # px of a thumbnail, shown smaller
AROUND = 1.8  # sides of the square shown, in those of the face's box

HEADINGS = {
    "two_ids": ("One person under two ids?", "These ids look so alike that the gallery could not tell them apart."),
    "two_people": ("Another person's photo?", "These photos do not look like the other photos of their person."),
    "changed": ("Another person than before?", "The photos of these ids no longer look like who was enrolled."),
}
NOT_AT_HAND = "No photo at hand in this run."
Shown = Callable[[str, Sequence[str]], tuple[Picture, ...]]  # the faces in some photos of a person


def write_review(
    path: Path, cases: Sequence[Case], found: People, search: FaceSearch, gallery_id: str | None, private: bool
) -> None:
    """Write the page about the cases.

    Args:
        search: how faces were looked for in the photos.
        private: people and photos by number, and no pictures.

    Raises:
        UserError: it can't be written.
    """
    names = Names(private, found.ids(), [photo.source for photo in found.photos] + [row[0] for row in found.refused])
    files = {(photo.identity, photo.source): photo for photo in found.photos} if cases else {}
    detect = detector_of(search) if cases and not private else None
    mark = gallery_mark(gallery_id or "")

    def faces(person: str, sources: Sequence[str]) -> tuple[Picture, ...]:
        shown: list[Picture] = []
        for source in sources:
            file = files.get((person, source))
            if detect is None or file is None or len(shown) == FACES:
                continue
            jpeg = thumbnail(file, detect)
            if jpeg is not None:
                shown.append(Picture(jpeg, source.removeprefix(f"{person}/")))
        return tuple(shown)

    def no_faces(person: str, sources: Sequence[str]) -> tuple[Picture, ...]:
        return ()

    groups = []
    told = 0
    for kind, (heading, about) in HEADINGS.items():
        own = [case for case in cases if case.suspect.kind == kind]
        made = []
        for case in own:
            made.append(_case(case, mark, names, private, faces if told < PICTURED else no_faces))
            told += 1
        if made:
            groups.append(ReviewGroup(heading, about, tuple(made)))
    lead = "There is nothing to decide: no mix-up is suspected."
    if cases:
        lead = (
            f"{len(cases)} suspected mix-ups wait for a decision."
            if len(cases) > 1
            else "1 suspected mix-up waits for a decision."
        )
    write_review_page(path, lead=lead, groups=groups, columns=COLUMNS)


def thumbnail(file: PhotoFile, detect: Detect) -> bytes | None:
    """JPEG of the square around the face that stands for a photo; None where the photo can't be read any more."""
    try:
        photo = decode(read_bytes(file), file.source).pixels
    except (OSError, BadPhotoError):
        return None
    height, width = photo.shape[:2]
    found = detect([photo])[0]
    box = found.boxes[choose(found, (height, width), "best")[0]] if len(found) else np.array([0, 0, width, height])
    x1, y1, x2, y2 = box.astype(np.float64)
    side = max(1, min(AROUND * max(x2 - x1, y2 - y1), max(height, width)))
    scale = SIDE / side
    matrix = np.array([[scale, 0, SIDE / 2 - scale * (x1 + x2) / 2], [0, scale, SIDE / 2 - scale * (y1 + y2) / 2]])
    return encode_crop(_warped(photo, matrix, scale))


def _warped(photo: Array, matrix: Array, scale: float) -> Array:
    """uint8[SIDE, SIDE, 3]: the part of a photo that a map of it shows, gray where it ends."""
    if scale < 0.5:  # shrunk first, so that no pixel is passed over
        small = max(2 * scale, 1 / max(photo.shape[:2]))
        size = (max(1, round(photo.shape[1] * small)), max(1, round(photo.shape[0] * small)))
        photo, matrix = cv2.resize(photo, size, interpolation=cv2.INTER_AREA), matrix.copy()
        matrix[:, :2] /= small
    warped: Array = cv2.warpAffine(
        photo, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(128, 128, 128)
    )
    return warped


def _case(case: Case, mark: str, names: Names, private: bool, faces: Shown) -> ReviewCase:
    one = case.suspect
    person = names.person(one.person)
    beside = case.beside.get(one.person, ())
    doubtful = list(case.wrong.get(one.person, {}))
    if one.kind == "two_ids":
        assert one.other is not None
        other = names.person(one.other)
        question = f"Are {person} and {other} the same person?"
        sides = (_side(case, one.person, person, faces), _side(case, one.other, other, faces))
        choices = _of_two_ids(case, person, other, names)
    elif one.kind == "two_people":
        photo = names.photo(one.source or "")
        question = f"Does {photo} show {person}?"
        sides = (
            _with_note(ReviewSide("the photo in question", "", faces(one.person, doubtful)), private),
            _with_note(ReviewSide(f"the other photos of {person}", "", faces(one.person, beside)), private),
        )
        choices = (
            ReviewChoice("same", "Same person", "The photo counts from now on."),
            ReviewChoice("different", "Different people", f"The photo never counts for {person}."),
            ReviewChoice("wrong", "Wrong photo", f"The photo never counts for {person}."),
        )
    else:
        question = f"Is {person} still the same person?"
        sides = (
            _with_note(ReviewSide(f"{person}: photos now", "", faces(one.person, doubtful)), private),
            ReviewSide(
                f"{person}: enrolled before",
                "" if beside and not private else "Of who was enrolled before only the template is kept.",
                faces(one.person, beside),
            ),
        )
        choices = (
            ReviewChoice("same", "Same person", "The new template is written."),
            ReviewChoice(
                "different", "Different people", f"{person} is somebody else now; the earlier photos are forgotten."
            ),
            ReviewChoice("wrong", "Wrong photo", f"The photos shown as new never count for {person}."),
        )
    told = dict(zip(TOLD, told_of(case), strict=True))
    if private:
        told = {name: value if name == "kind" else "" for name, value in told.items()}
    saved = {"gallery": mark, "case": case.name, **told}
    return ReviewCase(question, f"score {one.score:.3f}", sides, choices, saved)


def _side(case: Case, person: str, called: str, faces: Shown) -> ReviewSide:
    sources = [*case.wrong.get(person, {}), *case.beside.get(person, ())]
    shown = faces(person, sources)
    more = len(sources) - len(shown)
    if not sources:
        return ReviewSide(called, NOT_AT_HAND, ())
    return ReviewSide(
        called, f"{more} more photos" if shown and more else f"{len(sources)} photos" * (not shown), shown
    )


def _with_note(side: ReviewSide, private: bool) -> ReviewSide:
    return side if side.pictures or private else ReviewSide(side.name, NOT_AT_HAND, ())


def _of_two_ids(case: Case, person: str, other: str, names: Names) -> tuple[ReviewChoice, ...]:
    held = {one: names.person(one) for one in case.wrong}
    made = [
        ReviewChoice("same", "Same person", "One id stays; the photos of both count for it."),
        ReviewChoice("different", "Different people", "Both are enrolled, and not asked about again."),
    ]
    if len(held) == 1:
        (called,) = held.values()
        made.append(ReviewChoice("wrong", "Wrong photo", f"The new photos of {called} never count."))
        return tuple(made)
    return (
        *made,
        ReviewChoice("wrong", "Wrong photos: both", f"The photos of {person} and of {other} never count."),
        ReviewChoice(
            "wrong_person", f"Wrong photos: {person}", f"The photos of {person} never count; {other} is enrolled."
        ),
        ReviewChoice(
            "wrong_other", f"Wrong photos: {other}", f"The photos of {other} never count; {person} is enrolled."
        ),
    )
