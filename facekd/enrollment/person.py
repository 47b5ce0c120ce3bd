"""Whether a photo shows an enrolled person."""

from __future__ import annotations

from pathlib import Path

from facekd.console import say
from facekd.core.printable import printable_line
from facekd.enrollment.calibration import gallery_thresholds
from facekd.enrollment.comparison import Same, Side, answer, faces_of, threshold_for
from facekd.enrollment.identification import changed_weights, gallery_embedder
from facekd.enrollment.request import search_in
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.people import Person
from facekd.settings.photos import PairDecision


def enrolled_person(home: GalleryTable, person: str) -> Person:
    """The person of that id.

    Raises:
        UserError: nobody of that name is enrolled.
    """
    found = home.people([person]).get(person)
    if found is None:
        raise UserError(
            f"{home.place}: nobody called {printable_line(person)} is enrolled; 'facekd gallery info {home.place} "
            "--people' lists who is"
        )
    return found


def compare_with_person(
    photo: Path, gallery: Path, person: str, model: Path | None, choose: str, decision: PairDecision, quiet: bool
) -> Same:
    """A photo, by one face of it, and a person of a gallery; noted in its audit log.

    Raises:
        UserError: as `compare_photos`, or nobody of that name is enrolled.
    """
    home = GalleryTable.open(gallery)
    threshold, far = threshold_for(decision, gallery_thresholds(home.meta), gallery)
    enrolled = enrolled_person(home, person)
    if note := changed_weights(home):
        say(note, quiet)
    embedder = gallery_embedder(home, model)
    GalleryTable.open(home.place, embedder.model_id)
    ((side, vector),) = faces_of([photo], embedder, search_in(home.meta), choose)
    result = answer(side, Side(person, None, None, None), vector, enrolled.template, threshold, far, embedder)
    home.note("same", photos=1, same=result.same, threshold=threshold)
    return result
