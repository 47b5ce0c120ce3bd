"""facekd identify: photos in, the names of the people in them out, or that they are unknown."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say, say_first, table
from facekd.settings.door import door
from facekd.settings.photos import Answers, SearchDecision

if TYPE_CHECKING:
    from facekd.enrollment.answers import Identification

SHOWN = 50  # faces that the table shows
NAMED = ("candidate", "source")  # columns with names


@door
def identify(
    gallery: Path,
    photos: Path,
    *,
    model: Path | None = None,
    decision: SearchDecision = SearchDecision(),
    answers: Answers = Answers(),
    quiet: bool = False,
) -> Identification:
    """Name the people in photos: each face is compared with everybody in the gallery.

    A face whose score with the most alike person is under the threshold is unknown. The threshold is that which keeps
    the gallery's promise, --fpir: it rises as the gallery grows, and for a face that looks like many people. One given
    with --threshold is the same for every face. Exits with 1 when a photo could not be read.

    Children are named for each other far more often than adults, with every network tried. Don't rely on their names.

    Example: facekd identify staff.gallery visitors/ --out who.json

    Args:
        gallery: A gallery that 'facekd enroll' made: its folder or s3:// prefix.
        photos: One photo; a folder, zip or tar of photos; or a .parquet or .npz of 'facekd embed'.
        model: Run folder or ONNX file of the gallery's model, where it has moved since the enrollment.
        quiet: Print nothing.
    """
    from facekd.enrollment import identification as by
    from facekd.enrollment.answers import write_answers
    from facekd.gallery.gallery import GalleryTable
    from facekd.ingest.photos import photos_at, tell_of_others

    home = GalleryTable.open(gallery)
    say(f"{gallery}: nobody is enrolled, so every face is unknown", quiet or len(home) > 0)
    named_from = by.known_threshold(decision.threshold, home, gallery, quiet, decision.fpir)
    top, where = answers.top, answers.metadata()
    if photos.suffix in (".parquet", ".npz"):
        result = by.identify_embeddings(home, photos, named_from, top, where)
    else:
        found = photos_at(photos)
        tell_of_others(found, quiet, answers.private)
        if note := by.changed_weights(home):
            say(note, quiet)
        embedder = by.gallery_embedder(home, model)
        result = by.identify_photos(home, found.photos, embedder, named_from, top, where, quiet)
    if answers.out is not None:
        write_answers(answers.out, result, gallery)
    _print(result, answers, quiet)
    return result


def _print(result: Identification, answers: Answers, quiet: bool) -> None:
    import pyarrow.compute as pc

    from facekd.core.printable import counted
    from facekd.enrollment.answers import faces_of
    from facekd.enrollment.report import Names

    if quiet:
        return
    found = result.rows()
    everybody = [pc.unique(found[name].drop_null()).to_pylist() if answers.private else [] for name in NAMED]
    names = Names(answers.private, *everybody)
    rows = []
    for face in islice(faces_of(found), SHOWN):
        row = [
            names.photo(face.source),
            "–" if face.box is None else " ".join(f"{value:.0f}" for value in face.box),
            "unknown" if face.person is None else names.person(face.person),
            "–" if face.score is None else f"{face.score:.4f}",
            f"{face.threshold:.4f}",
        ]
        if answers.top > 1:
            row.append("  ".join(f"{names.person(name)} {score:.4f}" for name, score in face.candidates))
        rows.append(row)
    first = found.filter(pc.and_(pc.equal(found["rank"], 1), pc.is_valid(found["crop_id"])))
    known = len(first) - first["person"].null_count
    title = f"{known} of {len(first)} faces named"
    columns = ["photo", "face x1 y1 x2 y2", "person", "score", "threshold"] + (
        ["most alike"] if answers.top > 1 else []
    )
    table(title, columns, rows)
    if len(first) > SHOWN:
        where = f"{answers.out} has all" if answers.out else "--out FILE.json writes all"
        say(f"… and {len(first) - SHOWN} more; {where}")
    if result.without:
        say(f"{counted(len(result.without), 'photo')} gave no face:")
        say_first(names.outcomes(result.without), SHOWN, quiet)
