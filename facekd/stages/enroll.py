"""facekd enroll: a folder per person in, one template per person in a gallery out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.run import start_run
from facekd.errors import UserError
from facekd.stages.align import DetectorName
from facekd.stages.console import say, table
from facekd.stages.embed import embed_photos, list_failed

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.store import PhotoRecord
    from facekd.gallery.gallery import Person

PEOPLE = 256  # written together: what a kill can cost
Row = dict[str, str | None]  # of the gallery's ledger


@dataclass(frozen=True, slots=True)
class EnrollSummary:
    """What became of the people and their photos."""

    gallery: Path
    written: int  # people new in the gallery, or with another template than before
    unchanged: int
    not_enrolled: tuple[str, ...]  # people none of whose photos could be used
    statuses: dict[str, int]  # of the photos
    failed: tuple[tuple[str, str, str], ...]  # source, status, reason

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def enroll(
    people: Path,
    gallery: Path,
    *,
    model: Path,
    contract: Path | None = None,
    detector: DetectorName = "mtcnn",
    weights: Path | None = None,
    min_face: int = 20,
    threshold: float | None = None,
    quiet: bool = False,
) -> EnrollSummary:
    """Enroll people: align and embed their photos, keep the mean as each person's template.

    Running it again replaces the templates of the people in PEOPLE and leaves all others; photos are not kept.
    The gallery's ledger.parquet says what became of each photo. Exits with 1 when a photo could not be used.

    Example: facekd enroll people/ staff.gallery --model student.onnx --threshold 0.42

    Args:
        people: A folder, zip or tar with a folder of photos for each person; of several faces the large one near the
            middle counts.
        gallery: The gallery's folder, new or of the same model.
        model: Run folder or ONNX file.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        detector: mtcnn, facenet, yunet; none, where each photo already is a crop.
        weights: The ONNX file of yunet.
        min_face: Smallest face looked for, pixels.
        threshold: Cosine from which identify names a person; kept with the gallery.
        quiet: Print nothing.
    """
    import pyarrow as pa

    from facekd.deploy.embedder import Embedder
    from facekd.deploy.thresholds import read_thresholds
    from facekd.gallery.gallery import LEDGER, Gallery
    from facekd.gallery.meta import GalleryMeta
    from facekd.photos.find import find_photos

    check_threshold(threshold)
    found = find_photos(people)
    # A person's photos come one after the other, wherever they lie, so that one person is in memory at a time.
    named = sorted((photo for photo in found.photos if photo.identity), key=lambda p: (p.identity or "", p.source))
    if not named:
        raise UserError(
            f"{people}: none of its {len(found.photos)} photos lies in a folder named for a person; make one each"
        )
    embedder = Embedder.load(model, contract)
    embedded = embed_photos(
        named,
        embedder,
        detector=detector,
        weights=weights,
        min_face=min_face,
        choose="best",
        label="enroll",
        quiet=quiet,
    )
    meta = GalleryMeta(
        contract=embedder.contract,
        model=str(model.resolve()),
        detector=detector,
        min_face=min_face,
        weights=None if weights is None else str(weights.resolve()),
        threshold=threshold,
        calibrated=read_thresholds(model),
    )
    home = Gallery.create(gallery, meta)
    config = {
        "people": people,
        "gallery": gallery,
        "model": model,
        "contract": contract,
        "detector": detector,
        "weights": weights,
        "min_face": min_face,
        "threshold": threshold,
    }
    rows: list[Row] = [
        _row(photo.source, None, "no_person", "no person: put it in a folder named for the person")
        for photo in found.photos
        if not photo.identity
    ]
    not_enrolled: list[str] = []
    total = written = 0
    with home.writing():
        start_run(gallery, "enroll", config, inputs=(people, model))
        waiting: list[Person] = []
        for person_id, person in _people(embedded, rows):
            if person is None:
                not_enrolled.append(person_id)
                continue
            total += 1
            waiting.append(person)
            if len(waiting) == PEOPLE:
                written += home.upsert(waiting)
                waiting = []
        written += home.upsert(waiting)
        home.finish(meta, pa.Table.from_pylist(rows, LEDGER))
    statuses = Counter(str(row["status"]) for row in rows)
    failed = tuple(
        (str(row["source"]), str(row["status"]), str(row["reason"])) for row in rows if row["status"] not in OK
    )
    summary = EnrollSummary(gallery, written, total - written, tuple(not_enrolled), dict(statuses), failed)
    _print(summary, len(home), len(found.others), quiet)
    return summary


OK = ("ok", "duplicate")


def check_threshold(threshold: float | None) -> None:
    """Refuse what is no cosine.

    Raises:
        UserError: a threshold outside [-1, 1].
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"--threshold {threshold}: is no cosine; give a number from -1 to 1")


def _people(embedded: Iterable[tuple[PhotoRecord, Array]], rows: list[Row]) -> Iterator[tuple[str, Person | None]]:
    """Each person with the template of their photos, None where no photo gives one; adds to the ledger's `rows`."""
    import numpy as np

    from facekd.gallery.gallery import Person, template_of

    for person_id, photos in groupby(embedded, key=lambda item: item[0].identity or ""):
        total: Array | float = 0.0
        sources: list[str] = []
        seen: dict[str | None, str] = {}
        for record, vectors in photos:
            first = seen.setdefault(record.sha256, record.source) if record.status == "ok" else record.source
            if first != record.source:
                rows.append(_row(record.source, person_id, "duplicate", f"the same bytes as {first}"))
                continue
            rows.append(_row(record.source, person_id, record.status, record.reason))
            if record.status == "ok":
                total = total + vectors[0].astype(np.float64)
                sources.append(record.source)
        template = template_of(np.asarray(total)) if sources else None
        yield person_id, None if template is None else Person(person_id, template, tuple(sources))


def _row(source: str, person: str | None, status: str, reason: str) -> Row:
    return {"source": source, "person": person, "status": status, "reason": reason}


def _print(summary: EnrollSummary, size: int, others: int, quiet: bool) -> None:
    figures = {
        "people new or changed": summary.written,
        "people unchanged": summary.unchanged,
        "people not enrolled": len(summary.not_enrolled),
        **{f"photos {status}": count for status, count in sorted(summary.statuses.items(), key=lambda item: -item[1])},
    }
    rows = [[what, str(count)] for what, count in figures.items()]
    table(f"{summary.gallery}: {size} people enrolled", ["this run", "number"], rows, quiet)
    if others:
        say(f"{others} other files were passed over: their names are no photos'", quiet)
    if summary.failed:
        say(f"{len(summary.failed)} photos could not be used; {summary.gallery}/ledger.parquet has all:", quiet)
        list_failed(summary.failed, quiet)
    if summary.not_enrolled:
        say("not enrolled, for want of a usable photo (an earlier template stays):", quiet)
        for person_id in summary.not_enrolled:
            say(f"  {person_id}", quiet)
