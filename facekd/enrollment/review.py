"""The page of --review: each suspicion, the faces that it is about where the photos are at hand, and the choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from facekd.console import progress, say
from facekd.core.printable import counted
from facekd.engines.mapper import on_cores
from facekd.enrollment.cases import Case, gallery_mark
from facekd.enrollment.decision_file import COLUMNS, TOLD
from facekd.enrollment.decisions import told_of
from facekd.enrollment.report import Names
from facekd.enrollment.sources import People
from facekd.enrollment.thumbnails import thumbnails
from facekd.ingest.alignment import detector_of
from facekd.ingest.photos import in_batches
from facekd.photos.find import PhotoFile
from facekd.reports.document import Picture
from facekd.reports.review import ReviewCase, ReviewChoice, ReviewGroup, ReviewSide, write_review_page
from facekd.settings.photos import FaceSearch

FACES = 3  # of each side
PICTURED = 200  # cases with pictures; a page of more would be slow to open
TOGETHER = 4  # photos handed to a core
HEADINGS = {
    "two_ids": ("One person under two ids?", "These ids look so alike that the gallery could not tell them apart."),
    "two_people": ("Another person's photo?", "These photos do not look like the other photos of their person."),
    "changed": ("Another person than before?", "The photos of these ids no longer look like who was enrolled."),
}
NOT_AT_HAND = "No photo at hand in this run."
ONLY_TEMPLATE = "Of who was enrolled before only the template is kept."

Photo = tuple[str, str]  # person and source
Faces = Mapping[Photo, bytes]  # JPEG


def write_review(
    path: Path,
    cases: Sequence[Case],
    found: People,
    search: FaceSearch,
    gallery_id: str | None,
    private: bool,
    quiet: bool,
) -> None:
    """Write the page about the cases.

    Args:
        search: how faces were looked for in the photos.
        private: people and photos by number, and no pictures.

    Raises:
        UserError: it can't be written.
    """
    names = Names(private, found.ids(), [photo.source for photo in found.photos] + [row[0] for row in found.refused])
    ordered = [case for kind in HEADINGS for case in cases if case.suspect.kind == kind]
    faces = {} if private else _faces(ordered[:PICTURED], found, search, quiet)
    mark = gallery_mark(gallery_id or "")
    groups = []
    for kind, (heading, about) in HEADINGS.items():
        made = tuple(_case(case, mark, names, private, faces) for case in ordered if case.suspect.kind == kind)
        groups += [ReviewGroup(heading, about, made)] if made else []
    lead = "Nothing to decide: no mix-up is suspected."
    if cases:
        lead = counted(len(cases), "suspected mix-up waits", "suspected mix-ups wait") + " for a decision."
    write_review_page(path, lead=lead, groups=groups, columns=COLUMNS)
    say(f"{path}: {lead}", quiet)


def _faces(cases: Sequence[Case], found: People, search: FaceSearch, quiet: bool) -> dict[Photo, bytes]:
    """The face in each photo that the cases show; without those that can't be read any more."""
    wanted = {photo for case in cases for side in _sides(case) for photo in side[:FACES]}
    looked = (photo for photo in found.photos if isinstance(photo, PhotoFile))  # a ready embedding shows nothing
    files = [photo for photo in looked if (photo.identity, photo.source) in wanted] if wanted else []
    if not files:
        return {}
    detector_of(search)  # once, before the cores want it all together
    batches: list[list[PhotoFile]] = list(in_batches(files, TOGETHER))
    made = on_cores(partial(thumbnails, search=search), batches)
    jpegs = [jpeg for some in progress(made, len(files), "review", quiet, unit=TOGETHER) for jpeg in some]
    return {
        (file.identity or "", file.source): jpeg for file, jpeg in zip(files, jpegs, strict=True) if jpeg is not None
    }


def _sides(case: Case) -> tuple[list[Photo], list[Photo]]:
    """The photos on the left and on the right, those first that could be wrong."""
    one = case.suspect
    doubtful, beside = (
        {person: [(person, source) for source in photos] for person, photos in some.items()}
        for some in (case.wrong, case.beside)
    )
    if one.other is None:
        return doubtful.get(one.person, []), beside.get(one.person, [])
    left, right = (doubtful.get(name, []) + beside.get(name, []) for name in (one.person, one.other))
    return left, right


def _case(case: Case, mark: str, names: Names, private: bool, faces: Faces) -> ReviewCase:
    one = case.suspect
    person = names.person(one.person)
    if one.kind == "two_ids":
        other = names.person(one.other or "")
        question, titles = f"Are {person} and {other} the same person?", (person, other)
        choices = _of_two_ids(case, person, other)
    elif one.kind == "two_people":
        question = f"Does {names.photo(one.source or '')} show {person}?"
        titles = "the photo in question", f"other photos of {person}"
        choices = (
            ReviewChoice("same", "Same person", "The photo counts from now on."),
            ReviewChoice("different", "Different people", f"It shows somebody else: it never counts for {person}."),
            ReviewChoice("wrong", "Wrong photo", f"It is no good, or can't be told: it never counts for {person}."),
        )
    else:
        question = f"Is {person} still the same person?"
        titles = f"{person}, photos now", f"{person}, enrolled before"
        choices = (
            ReviewChoice("same", "Same person", "The new template is written."),
            ReviewChoice(
                "different", "Different people", "The id is somebody else's now; earlier photos are forgotten."
            ),
            ReviewChoice("wrong", "Wrong photos", f"The photos on the left never count for {person}."),
        )
    left, right = _sides(case)
    empty = ONLY_TEMPLATE if one.kind == "changed" else NOT_AT_HAND
    sides = _side(titles[0], left, faces, NOT_AT_HAND), _side(titles[1], right, faces, empty)
    told = dict(zip(TOLD, told_of(case), strict=True))
    if private:
        told = {name: value if name == "kind" else "" for name, value in told.items()}
    return ReviewCase(question, f"score {one.score:.3f}", sides, choices, {"gallery": mark, "case": case.name, **told})


def _side(title: str, photos: Sequence[Photo], faces: Faces, empty: str) -> ReviewSide:
    shown = [photo for photo in photos[:FACES] if photo in faces]
    pictures = tuple(Picture(faces[person, source], source.removeprefix(f"{person}/")) for person, source in shown)
    more = len(photos) - len(pictures)
    note = "" if not more else f"and {more} more" if pictures else counted(more, "photo")
    return ReviewSide(title, note if photos else empty, pictures)


def _of_two_ids(case: Case, person: str, other: str) -> tuple[ReviewChoice, ...]:
    made = (
        ReviewChoice(
            "same", "Same person", "All photos count for the id that is enrolled already, else for the first by name."
        ),
        ReviewChoice("different", "Different people", "Both are enrolled, and not asked about again."),
    )
    if len(case.wrong) == 1:
        held = person if case.suspect.person in case.wrong else other
        return (*made, ReviewChoice("wrong", "Wrong photos", f"The new photos of {held} never count."))
    return (
        *made,
        ReviewChoice("wrong", "Wrong photos: both", f"The photos of {person} and of {other} never count."),
        ReviewChoice("wrong_person", f"Wrong photos: {person}", f"They never count; {other} is enrolled."),
        ReviewChoice("wrong_other", f"Wrong photos: {other}", f"They never count; {person} is enrolled."),
    )
